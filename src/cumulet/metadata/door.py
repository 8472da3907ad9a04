"""What other rooms may use of the metadata service."""

from cumulet.metadata.agent import MetadataAgent, NoMetadata
from cumulet.metadata.documents import config_drive_files

__all__ = ["MetadataAgent", "NoMetadata", "config_drive_files"]
