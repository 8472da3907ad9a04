"""What happens in the cloud, as a stream: every change of state of every object and every step of a launch, numbered, kept for a while.

`tables.py`, `store.py`  the stream's own database: events by number, and how far each service's outbox has been read.
`relay.py`    reads the outboxes after commit, gives each event its number, hands it to the readers.
`readers.py`  the readers' side of it, in asyncio's loop: a bounded buffer each, no thread each.
`api.py`      GET /events.

The outboxes themselves are core/db/outbox.py; what is watched stands at the end of each service's tables.py.
Why it is so: docs/decisions/0014-event-stream.md.
"""
