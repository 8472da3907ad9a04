"""What identity is told at start, and its limits, each with a name."""

from pathlib import Path

import msgspec

__all__ = ["IdentityConfig"]


class IdentityConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the identity service; read once in `run/`, passed by argument.

    key_folder: where the Fernet keys are, made when it is not there.
    """

    key_folder: Path
    region: str = "RegionOne"
    #: cost of a password hash: 2 to this power rounds
    bcrypt_rounds: int = 12
    token_lifetime_s: int = 3600
    #: how long after its expiry a token may still be shown to a service that acts for it
    allow_expired_window_s: int = 172_800
    #: Fernet keys kept, the staged and the primary one among them
    keys_max: int = 3
    #: how long a key writes tokens: longer than these are valid and may be shown afterwards, as the key before the last goes
    key_renewed_after_s: int = 604_800
    #: whether other processes write this database: the revision is then read from it at each validation
    shared_database: bool = False
    #: validated tokens kept in memory
    cached_tokens_max: int = 4_000
    #: how long the record of a token's issue is kept
    issue_kept_s: int = 86_400
    #: largest page of a list
    page_max: int = 1000
    #: levels of projects below a domain
    project_depth_max: int = 5
    #: password attempts of one user that wait for their turn
    attempts_waiting_max: int = 16
    application_credentials_per_user_max: int = 1000
