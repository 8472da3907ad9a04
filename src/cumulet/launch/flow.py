"""How a server comes to run, in nineteen steps.  Read this file first.

ROWS is the whole flow, as a client, an operator or a reader sees it; `cumulet trace` prints it.  LAUNCH is the saga that makes rows 6
to 19 happen: each of its steps stands in one file of this folder together with its undo.  A row without a step of its own is the
other side of one: what a service did to answer (14, 16, 18), or a message on its way between queues (9 to 12); it is recorded with
its own times.  The guest of row 19 is begun in row 15 already, where that can be (`guest.py`).  Rows 1 and 2 are identity's own record
of the token's issue, joined by its audit id, and lie outside the total.
"""

import msgspec

from cumulet.core.saga import Flow, Step
from cumulet.launch import image, networking, scheduling, spawning, volumes
from cumulet.launch.request import LaunchRequest

__all__ = ["LAUNCH", "ROWS", "Row"]


class Row(msgspec.Struct, frozen=True):
    """One row: number, its name in the log, who acts, what happens, by what means."""

    n: int
    name: str
    who: str
    what: str
    how: str


# one row, one line
# fmt: off
ROWS = (
    Row(1, "authenticate", "client", "sends the user's credentials to identity", "REST POST /v3/auth/tokens"),
    Row(2, "issue_token", "identity", "authenticates, issues a token with the catalogue", "REST answer"),
    Row(3, "request", "client", "sends one launch request", "REST POST /servers"),
    Row(4, "validate_token", "compute API", "asks identity to validate the token", "REST GET /v3/auth/tokens"),
    Row(5, "apply_policy", "identity", "answers with roles; policy is applied", "REST answer"),
    Row(6, "write_entry", "compute API", "checks conflicts and quotas, writes the server's entry", "database"),
    Row(7, "ask_scheduler", "compute API → scheduler", "asks for a host", "rpc.call scheduler"),
    Row(8, "claim_host", "scheduler", "filters, weighs, claims, writes the host into the entry", "database"),
    Row(9, "cast_to_host", "scheduler → compute host", "asks the host to build the server", "rpc.cast compute.HOST"),
    Row(10, "ask_conductor", "compute host → conductor", "asks for the server's data", "rpc.call conductor"),
    Row(11, "conductor_answers", "conductor", "reads the database and answers", "database"),
    Row(12, "pick_up_answer", "compute host", "picks up the answer", "queue"),
    Row(13, "load_image", "compute host → image API", "asks for the image, loads it from the store", "REST"),
    Row(14, "image_answers", "image API", "validates the token, reads its database, answers", "REST answer"),
    Row(15, "bind_ports", "compute host → network API", "allocates and configures the network", "REST"),
    Row(16, "network_answers", "network API", "writes OVN; the host binds the port; the port is up", "REST, OVSDB, OpenFlow"),
    Row(17, "attach_volumes", "compute host → volume API", "asks for the volumes of the server's disks", "REST"),
    Row(18, "volume_answers", "volume API", "creates or locates the volumes, answers with connections", "REST, rpc.call volume"),
    Row(19, "start_domain", "compute host", "generates the domain and starts it", "libvirt"),
)
# fmt: on

LAUNCH = Flow(
    name="launch",
    action="create",
    input=LaunchRequest,
    hops=(9, 10, 11, 12),
    steps=(
        # rows 3 to 6 happen before there is a saga: the compute API writes them with the server's entry, in one transaction
        Step(
            name="ask_scheduler",
            row=7,
            where="conductor",
            what="ask for a host",
            stage="scheduling",
            do=scheduling.ask,
            undo=scheduling.release,
            hands_over=True,  # row 9 is the scheduler's own message to the host
            timeout_s=scheduling.HAND_OVER_S,
        ),
        Step(
            name="load_image",
            row=13,
            where="host",
            what="load the image",
            do=image.load,
            undo=None,  # the cached base belongs to the host, and is evicted when nothing uses it
            light=lambda _: True,
            timeout_s=image.LOAD_TIMEOUT_S,
        ),
        Step(
            name="bind_ports",
            row=15,
            where="host",
            what="allocate the network",
            stage="networking",
            do=networking.bind,
            undo=networking.unbind,
            timeout_s=300,
        ),
        Step(
            name="attach_volumes",
            row=17,
            where="host",
            what="prepare the volumes",
            stage="block_device_mapping",
            do=volumes.attach,
            undo=volumes.detach,
            light=volumes.none_wanted,
            timeout_s=1800,
        ),
        Step(
            name="start_domain",
            row=19,
            where="host",
            what="start the domain",
            stage="spawning",
            do=spawning.start,
            undo=spawning.destroy,
            timeout_s=600,
        ),
    ),
)
