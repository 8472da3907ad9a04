"""What chaos and its proofs have found: what was wrong, what shows it when the cure is taken away, and the cure."""

import msgspec

from cumulet.dev.chaos.proofs import Proof

__all__ = ["CASES", "Case"]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A finding.  seed: the first that showed it, in the stories of its day.  proof: one moment that shows it, where one is enough."""

    what: str
    cure: str
    seed: int | None = None
    proof: Proof | None = None


CASES = (
    Case(
        what="a database that refuses once leaves a saga that nobody looks at",
        seed=11,
        cure="whatever the coordinator itself fails with, it looks at the saga again",
    ),
    Case(
        what="a volume that could not be attached stays on the server's record",
        seed=12,
        proof=Proof(flow="attach_volume", step="plug_volume", when="before"),
        cure="the record loses the device when the flow is unwound",
    ),
    Case(
        what="a server cannot be deleted while a volume that goes with it has snapshots, or another server",
        seed=6,
        cure="what its owner keeps is left to its owner; what is at work only is tried again",
    ),
    Case(
        what="a resize of a server that was rebuilt while stopped is stuck",
        seed=3,
        cure="a guest that is not there counts as shut down",
    ),
    Case(
        what="a stopped server is active once its resize is confirmed",
        seed=4,
        cure="the confirmation keeps the server's rest",
    ),
    Case(
        what="a process that dies between an image's creation and its saga leaves a queued image",
        seed=8,
        proof=Proof(flow="snapshot", step="copy_root", when="before"),
        cure="the saga begins first, with the image's id, and its first step makes sure of the image",
    ),
    Case(
        what="a reservation made before its saga leaves a volume reserved for nobody",
        seed=34,
        cure="the saga's first step reserves, and finds what an earlier run of it reserved",
    ),
    Case(
        what="a NIC whose plugging failed stays on the server's record without a port",
        seed=29,
        proof=Proof(flow="attach_interface", step="plug_nic", when="after"),
        cure="a NIC is on the record when the guest has it, and taken from the guest again",
    ),
    Case(
        what="a lost answer at a port's release leaves a NIC without a port",
        seed=4,
        proof=Proof(flow="detach_interface", step="release_port", when="after"),
        cure="a step with no way back keeps on",
    ),
    Case(
        what="a lost answer at a volume's release leaves a disk without a volume",
        proof=Proof(flow="detach_volume", step="disconnect_volume", when="after"),
        cure="a step with no way back keeps on",
    ),
    Case(
        what="a lost answer at the unplugging leaves a record of a NIC that the guest has not",
        seed=21,
        proof=Proof(flow="detach_interface", step="unplug_nic", when="after"),
        cure="unwinding plugs it again",
    ),
    Case(
        what="a lost answer at the unplugging leaves a record of a disk that the guest has not",
        proof=Proof(flow="detach_volume", step="unplug_volume", when="after"),
        cure="unwinding plugs it again",
    ),
    Case(
        what="a lost word of a guest's state, or a lost answer of a power action, leaves a server active whose guest is not",
        seed=1,
        proof=Proof(flow="pause", step="pause", when="after"),
        cure="hosts tell every guest's state with each beat, and a server at rest follows",
    ),
    Case(
        what="a late word of a guest that ran makes a rebuilt, stopped server active for good",
        seed=156,
        cure="hosts tell every guest's state with each beat; who should run and is not there twice is off",
    ),
    Case(
        what="a late word of a guest that was suspended makes it stopped, and paused guests stay so",
        seed=134,
        cure="a server at rest follows its guest from each state to each other",
    ),
    Case(
        what="a launch waits for ever to undo a volume that somebody else took",
        seed=32,
        cure="as with deletions",
    ),
    Case(
        what="a choice of the scheduler that comes after its undo keeps the host's resources",
        proof=Proof(flow="launch", late=0),
        cure="who finds the launch turned back gives the claim back itself",
    ),
    Case(
        what="an image's creation that comes after its undo leaves a queued image",
        proof=Proof(flow="snapshot", late=0),
        cure="the undo uses up the image's id",
    ),
    Case(
        what="a volume's creation that comes after the launch asked again makes a second one",
        proof=Proof(flow="launch", late=8),
        cure="the request carries an Idempotency-Key, the block device's id",
    ),
    Case(
        what="a copying that begins after its undo leaves the copy of a volume that nobody knows of",
        proof=Proof(flow="volume_copy", late=3),
        cure="back ends list copies, the leak check names them, its repair ends the copying and removes them",
    ),
    Case(
        what="a lost order to detach a volume keeps its server busy for five minutes",
        proof=Proof(flow="detach_volume", lost=1),
        cure="an order whose host is not heard of is sent again by the reconciler, and given up after five minutes",
    ),
    Case(
        what="a lost order to attach a NIC, its host gone with it, keeps its server busy for minutes after the return",
        proof=Proof(flow="attach_interface", lost=1, gone_s=120),
        cure="an order whose host is not heard of is sent again by the reconciler, and given up after five minutes",
    ),
    Case(
        what="a host that dies with an order to detach a NIC in hand is waited for until the step is overdue",
        proof=Proof(flow="detach_interface", dies=5),
        cure="a host that begins anew is told its orders anew",
    ),
    Case(
        what="a lost order to copy a root disk keeps its server busy, and its image queued, for half an hour",
        proof=Proof(flow="snapshot", lost=1),
        cure="an order whose host is not heard of is sent again by the reconciler, and given up after five minutes",
    ),
    Case(
        what="a volume that was to be attached stays on the record of a server whose flow vanished before the attachment was made",
        proof=Proof(flow="attach_volume", forgotten=0),
        cure="a device without an attachment is on its way too",
    ),
    Case(
        what="a guest has lost a disk that its record has, and the flow vanished",
        proof=Proof(flow="detach_volume", forgotten=1),
        cure="the guest has it again, or, where the attachment is gone, the detachment is begun again",
    ),
    Case(
        what="a port is bound to a server that has no such NIC, and the flow vanished",
        proof=Proof(flow="attach_interface", forgotten=3),
        cure="the port is untied; it may be one that the user brought",
    ),
    Case(
        what="a guest has lost a NIC that its record has, and the flow vanished",
        proof=Proof(flow="detach_interface", forgotten=2),
        cure="the guest has it again, or, where the port is gone, the detachment is begun again",
    ),
    Case(
        what="an image waits for a server whose flow vanished",
        proof=Proof(flow="snapshot", forgotten=2),
        cure="the image that is queued for the server is given up",
    ),
    Case(
        what="a lost word of a volume's end keeps a launch, and its server's deletion behind it, for twenty minutes",
        seed=7018,
        proof=Proof(flow="launch", wordless=True),
        cure="who waits for a volume looks every half minute",
    ),
)
