"""What a launch starts with, beyond the server's own record."""

import msgspec

__all__ = ["LaunchRequest"]


class LaunchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The request as the user made it.  What is kept on the server's record (flavor, networks, devices, …) is not repeated here."""

    #: hosts that a retry must avoid
    exclude_hosts: tuple[str, ...] = ()
