"""What a step may use that runs at a volume host."""

from collections.abc import Callable
from pathlib import Path

from cumulet.core.saga import Run
from cumulet.core.web.client import Credentials
from cumulet.image.door import ImageDoor
from cumulet.volume.drivers.driver import VolumeDriver

__all__ = ["HostTools"]


class HostTools:
    """The driver, the image service, and a folder for disks on their way to it."""

    def __init__(
        self,
        *,
        driver: VolumeDriver,
        image: ImageDoor,
        service_token: Callable[[], str],
        folder: Path,
    ) -> None:
        self.driver = driver
        self.image = image
        self._service_token = service_token
        self._folder = folder

    def credentials(self, run: Run) -> Credentials:
        """The user's token with the service's beside it; after a restart the service's alone."""
        service = self._service_token()
        return Credentials(token=run.token or service, service_token=service, request_id=run.context.request_id)

    def own(self, run: Run) -> Credentials:
        """The service's own token, for what must work whatever became of the user's."""
        service = self._service_token()
        return Credentials(token=service, service_token=service, request_id=run.context.request_id)

    def uploads(self) -> list[str]:
        """Ids of the images that a volume's disk is here for: for the leak check."""
        return sorted(path.stem for path in self._folder.glob("*.upload"))

    def drop_upload(self, image_id: str) -> None:
        """Remove a volume's disk that waited for its upload."""
        self.upload_path(image_id).unlink(missing_ok=True)

    def upload_path(self, image_id: str) -> Path:
        """Where a volume's disk waits for its upload, by the image's id."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._folder / f"{image_id}.upload"
