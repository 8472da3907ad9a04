"""Image headers made by hand: each builder gives a small acceptable image, and takes what would make it hostile."""

import random
import struct
import uuid
from pathlib import Path

MIB = 1 << 20
SIZE = 10 * MIB


def noise(length: int) -> bytes:
    """Bytes that no tool can make shorter, the same each time."""
    return random.Random(length).randbytes(length)  # noqa: S311 - content, not a secret


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(entry.name for entry in folder.iterdir())


def qcow2(
    *,
    version: int = 3,
    size: int = SIZE,
    cluster_bits: int = 16,
    backing: bytes = b"",
    backing_offset: int | None = None,
    crypt: int = 0,
    incompatible: int = 0,
    extensions: tuple[tuple[int, bytes], ...] = (),
    l1_entries: int = 1,
    header_length: int = 104,
    refcount_order: int = 4,
) -> bytes:
    """A qcow2 header, its extensions and the name of its backing file."""
    tail = b"".join(
        struct.pack(">II", kind, len(data)) + data.ljust((len(data) + 7) & ~7, b"\0") for kind, data in extensions
    )
    tail += bytes(8)
    start = header_length if version == 3 else 72
    at = backing_offset if backing_offset is not None else (start + len(tail) if backing else 0)
    cluster = 1 << cluster_bits
    header = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb",
        version,
        at,
        len(backing),
        cluster_bits,
        size,
        crypt,
        l1_entries,
        3 * cluster,
        cluster,
        1,
        0,
        0,
    )
    if version == 3:
        header += struct.pack(">QQQII", incompatible, 0, 0, refcount_order, header_length)
        header = header.ljust(header_length, b"\0")
    return (header + tail + backing).ljust(4 * 65536, b"\0")


DESCRIPTOR = """# Disk DescriptorFile
version=1
CID=12345678
parentCID=ffffffff
createType="{create_type}"

# Extent description
{extents}

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "4"
ddb.geometry.cylinders = "20"
"""


def vmdk(
    *,
    create_type: str = "monolithicSparse",
    extents: str = 'RW 20480 SPARSE "disk.vmdk"',
    text: str | None = None,
    version: int = 1,
    flags: int = 3,
    capacity: int = SIZE // 512,
    descriptor_at: int = 1,
    descriptor_sectors: int = 20,
    directory: int = 26,
    compression: int = 0,
    magic: bytes = b"KDMV",
) -> bytes:
    """A sparse header with a descriptor inside; `text` replaces the descriptor."""
    header = struct.pack(
        "<4sIIQQQQIQQQB4sH",
        magic,
        version,
        flags,
        capacity,
        128,
        descriptor_at,
        descriptor_sectors,
        512,
        21,
        directory,
        128,
        0,
        b"\n \r\n",
        compression,
    )
    words = (text if text is not None else DESCRIPTOR.format(create_type=create_type, extents=extents)).encode(
        "latin-1"
    )
    return header.ljust(512, b"\0") + words.ljust(20 * 512, b"\0") + bytes(65536)


AT_END = 0xFFFFFFFFFFFFFFFF


def vmdk_stream(*, marker_kind: int = 3, footer_directory: int = 26, **changed_in_footer: int) -> bytes:
    """A streamOptimized image: its directory is named in a footer."""
    start = vmdk(create_type="streamOptimized", flags=0x30001, version=3, compression=1, directory=AT_END)
    same: dict[str, int] = {"flags": 0x30001, "version": 3, "compression": 1}
    footer = vmdk(directory=footer_directory, **{**same, **changed_in_footer})[:512]  # type: ignore[arg-type]  # numbers only
    return start + struct.pack("<QII", 1, 0, marker_kind).ljust(512, b"\0") + footer + bytes(512)


def vdi(
    *,
    size: int = SIZE,
    kind: int = 1,
    link: bytes = b"",
    parent: bytes = b"",
    block: int = MIB,
    blocks: int = 10,
    version: int = 0x10001,
) -> bytes:
    """VirtualBox's header."""
    header = bytearray(
        b"<<< QEMU VM Virtual Disk Image >>>\n".ljust(64, b"\0")
        + b"\x7f\x10\xda\xbe"
        + struct.pack("<III", version, 0x190, kind)
    )
    header = header.ljust(0x168, b"\0") + struct.pack("<I4xQIIII", 512, size, block, 0, blocks, 0)
    return bytes(header.ljust(0x1A8, b"\0") + link.ljust(16, b"\0") + parent.ljust(16, b"\0")).ljust(8192, b"\0")


def vhd_footer(
    *,
    kind: int = 3,
    data_offset: int = 512,
    size: int = SIZE,
    original: int = SIZE,
    geometry: tuple[int, int, int] = (301, 4, 17),
) -> bytes:
    """The footer, with a right checksum."""
    footer = bytearray(
        struct.pack(
            ">8sIIQI4sIIQQHBBII",
            b"conectix",
            2,
            0x10000,
            data_offset,
            0,
            b"qemu",
            0x50003,
            0x5769326B,
            original,
            size,
            *geometry,
            kind,
            0,
        )
    )
    footer = footer.ljust(512, b"\0")
    footer[64:68] = struct.pack(">I", ~sum(footer) & 0xFFFFFFFF)
    return bytes(footer)


def vhd(*, parent: bytes = b"", cookie: bytes = b"cxsparse", end: bytes | None = None, **footer: int) -> bytes:
    """A dynamic vhd: footer, header, tables, and the footer again."""
    start = vhd_footer(**footer)  # type: ignore[arg-type]  # numbers only
    dynamic = (cookie + bytes(32) + parent).ljust(1024, b"\0")
    return start + dynamic + bytes(4096) + (start if end is None else end)


def vhd_fixed(content: bytes = bytes(64 * 1024)) -> bytes:
    """A disk with the footer behind it."""
    return content + vhd_footer(kind=2, data_offset=AT_END, size=len(content), original=len(content))


METADATA = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
BLOCK_TABLE = uuid.UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
PARAMETERS = uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
DISK_SIZE = uuid.UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
PARENT = uuid.UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")


def vhdx(
    *,
    size: int = SIZE,
    metadata_at: int = MIB,
    regions: tuple[tuple[uuid.UUID, int], ...] = (),
    items: tuple[tuple[uuid.UUID, int], ...] = (),
    size_at: int = 65536 + 8,
    parameters_at: int = 65536,
    bits: int = 0,
    region_count: int | None = None,
    item_count: int | None = None,
    region_mark: bytes = b"regi",
    table_mark: bytes = b"metadata",
) -> bytes:
    """`regions` and `items` are added to the usual ones, each with its flags."""
    image = bytearray(metadata_at + 128 * 1024)
    image[:8] = b"vhdxfile"
    rows = [(METADATA, metadata_at, 1), (BLOCK_TABLE, 2 * MIB, 1), *((name, 3 * MIB, flags) for name, flags in regions)]
    table = region_mark + struct.pack("<III", 0, len(rows) if region_count is None else region_count, 0)
    table += b"".join(name.bytes_le + struct.pack("<QII", at, MIB, flags) for name, at, flags in rows)
    image[192 * 1024 : 192 * 1024 + len(table)] = table
    cells = [
        (PARAMETERS, parameters_at, 4),
        (DISK_SIZE, size_at, 6),
        *((name, 65536 + 64, flags) for name, flags in items),
    ]
    meta = table_mark + struct.pack("<HH20x", 0, len(cells) if item_count is None else item_count)
    meta += b"".join(name.bytes_le + struct.pack("<IIII", at, 8, flags, 0) for name, at, flags in cells)
    image[metadata_at : metadata_at + len(meta)] = meta
    for at, value in ((parameters_at, 32 * MIB | bits << 32), (size_at, size)):
        if metadata_at + at + 8 <= len(image):
            image[metadata_at + at : metadata_at + at + 8] = struct.pack("<Q", value)
    return bytes(image)


def iso(*, front: bytes = b"") -> bytes:
    """A primary volume descriptor, with `front` in the sectors a system may use."""
    return front.ljust(0x8000, b"\0") + b"\x01CD001\x01".ljust(2048, b"\0") + bytes(64 * 1024)


def partitioned(kind: int = 0x83, *, gpt: bool = False, boot: int = 0x80) -> bytes:
    """A boot sector with one partition, and with `gpt` the header behind it."""
    entry = struct.pack("<B3sB3sII", boot, b"\0\2\0", kind, b"\xff\xff\xff", 1, 2047)
    sector = bytes(446) + entry + bytes(48) + b"\x55\xaa"
    return (sector + (b"EFI PART" if gpt else b"")).ljust(MIB, b"\0")
