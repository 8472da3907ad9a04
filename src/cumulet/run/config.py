"""What `cumulet up` was told, read once and passed by argument."""

from pathlib import Path
from typing import Literal

import msgspec

__all__ = ["DEFAULT_PORT", "UpConfig"]

DEFAULT_PORT = 8780


class UpConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one cloud in one process."""

    state_dir: Path
    listen: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    #: what links begin with; None follows each request's Host
    public_url: str | None = None
    #: auto: real drivers where they work
    drivers: Literal["auto", "sim", "real"] = "auto"
    #: `sqlite:` below the state directory unless told otherwise
    database_url: str | None = None
    #: RabbitMQ, or None for queues in this process
    bus_url: str | None = None
    #: merge the clouds into the user's own clouds.yaml
    merge_clouds: bool = True
    keep_guests: bool = False
    bcrypt_rounds: int = 12
    #: compute response schemas to check every answer against: for tests
    compute_schemas: Path | None = None
    #: let admins inject faults
    faults: bool = False
    #: make the guest image and the external network
    guest_image: bool = True

    @property
    def base_url(self) -> str:
        """How this machine reaches the cloud."""
        host = "127.0.0.1" if self.listen in {"0.0.0.0", "::"} else self.listen  # noqa: S104 - compared, not bound
        return f"http://{host}:{self.port}"

    @property
    def databases(self) -> str:
        return self.database_url or f"sqlite://{self.state_dir / 'db'}"
