"""What the gate and the converter refuse, in words a tenant may read.

The words follow the reference's image service, whose upload answers 415 with "Image disk_format X does not match
stream data Y", "Multiple formats detected: X,Y" or "Image failed safety checks"; what was found is added to the last
one, because the owner of an image can only cure what he is told.  Nothing here quotes bytes of the image.
"""

from typing import ClassVar

from cumulet.core.errors import Conflict, ServerFault, UnsupportedMediaType

__all__ = [
    "ConversionFailed",
    "ConversionNoSpace",
    "ConversionTimeout",
    "ConverterMissing",
    "DiskCannotGrow",
    "DiskExists",
    "ImageEncrypted",
    "ImageFormatAmbiguous",
    "ImageFormatBanned",
    "ImageFormatMismatch",
    "ImageFormatUnknown",
    "ImageHasBackingFile",
    "ImageHasDataFile",
    "ImageHasForeignExtents",
    "ImageHasUnknownFeatures",
    "ImageMalformed",
    "ImageRefused",
    "ImageTooLarge",
    "ImageUnsafe",
]


class ImageRefused(UnsupportedMediaType):
    """The gate did not let the bytes through.  Everything the gate raises is one of these."""

    default = "Image data is not acceptable or does not match parameters"


class ImageFormatUnknown(ImageRefused):
    """The declared disk_format is none that may come in."""

    default = "Image disk_format {declared} is not accepted"


class ImageFormatMismatch(ImageRefused):
    """The bytes are another format than the one declared."""

    default = "Image disk_format {declared} does not match stream data {found}"


class ImageFormatAmbiguous(ImageRefused):
    """The bytes are two formats at once: one header hides behind another."""

    default = "Multiple formats detected: {found}"


class ImageMalformed(ImageRefused):
    """The headers contradict themselves, the file or the format."""

    default = "Image format inspection failed: {reason}"


class ImageTooLarge(ImageRefused):
    """The disk inside would be larger than allowed, however small the file is."""

    status: ClassVar[int] = 413
    title: ClassVar[str] = "Request Entity Too Large"
    code: ClassVar[str] = "overLimit"
    default = "The incoming image is too large: its virtual size exceeds the limit of {limit} bytes"


class ImageUnsafe(ImageRefused):
    """The format is what was declared, but uses something that could reach beyond the image's own bytes."""

    default = "Image failed safety checks"


class ImageHasBackingFile(ImageUnsafe):
    """The image is a layer over another file, of the host's."""

    default = "Image failed safety checks: it has a backing file"


class ImageHasDataFile(ImageUnsafe):
    """The image is an index into another file, of the host's."""

    default = "Image failed safety checks: it keeps its data in an external file"


class ImageHasForeignExtents(ImageUnsafe):
    """The image is, or may be, made of other files."""

    default = "Image failed safety checks: only single-file vmdk (monolithicSparse, streamOptimized) is accepted"


class ImageHasUnknownFeatures(ImageUnsafe):
    """The image needs something whose effect we do not know."""

    default = "Image failed safety checks: it uses unknown features"


class ImageEncrypted(ImageUnsafe):
    """The image is encrypted, and nobody asked for that."""

    default = "Image failed safety checks: it is encrypted"


class ImageFormatBanned(ImageUnsafe):
    """The image is of a format that QEMU opens and we never do."""

    default = "Image failed safety checks: format {found} is not allowed"


class ConversionFailed(ServerFault):
    """The converter ended with an error; its words are in `detail` only, as they quote paths of the host."""

    default = "The image could not be converted."


class ConversionTimeout(ConversionFailed):
    """The converter was killed when its time was over."""

    default = "The image could not be converted in the time allowed."


class ConversionNoSpace(ConversionFailed):
    """The target's file system is full, or the output went past its limit."""

    default = "There is no space to convert the image."


class ConverterMissing(ConversionFailed):
    """The package with qemu-img is not installed."""

    default = "The image could not be converted: no converter is installed on this host."


class DiskExists(Conflict):
    """A disk is never written over another one."""

    default = "The disk already exists."


class DiskCannotGrow(Conflict):
    """The header alone cannot express the new size; the converter has to move tables."""

    default = "The disk cannot be grown in place."
