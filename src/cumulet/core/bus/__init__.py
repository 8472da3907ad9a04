"""The message queue between the parts: typed interfaces on named queues, the same bytes on every transport.

    class ComputeHost(Interface, topic="compute.{host}"):
        @cast
        def run(self, order: Order) -> None: ...

    bus.serve(ComputeHost, implementation, worker, host="node-1")
    bus.client(ComputeHost, host="node-1").run(order)

A cast is a hint: durable intent lives in the database, so a broker that loses a message delays work and loses none.  A call answers
or raises; it may not be made inside an open transaction, nor on the thread that answers requests.
"""

from cumulet.core.bus.interface import Interface, call, cast
from cumulet.core.bus.local import LocalBus
from cumulet.core.bus.transport import Bus, BusTimeoutError

__all__ = ["Bus", "BusTimeoutError", "Interface", "LocalBus", "call", "cast"]
