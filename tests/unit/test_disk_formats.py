"""The gate: what passes, what is refused and by which words, and that a stream and a file are judged alike."""

import io
import itertools
import json
import shutil
import subprocess
import tracemalloc
from pathlib import Path

import pytest
from tests.unit import disk_images as made

from cumulet.core.disk import errors
from cumulet.core.disk.formats import DISK_FORMATS, ImageFacts, Inspector, inspect_file, qemu_format

LIMIT = 1 << 40

needs_qemu = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


def judge(
    data: bytes, declared: str, *, limit: int = LIMIT, encrypted: bool = False, step: int = 1 << 20
) -> ImageFacts:
    """Through the gate as a stream."""
    inspector = Inspector(declared, virtual_bytes_max=limit, allow_encrypted=encrypted)
    for start in range(0, len(data), step):
        inspector.feed(data[start : start + step])
    return inspector.finish()


ACCEPTED = {
    "raw": (made.MIB * b"\0", "raw", made.MIB),
    "raw, nothing at all": (b"", "raw", 0),
    "raw, an odd number of random bytes": (made.noise(1023), "raw", 1023),
    "raw, partitioned": (made.partitioned(), "raw", made.MIB),
    "ami": (bytes(4096), "ami", 4096),
    "aki, with a boot sector's mark as every kernel has": (made.partitioned(boot=0x4D), "aki", made.MIB),
    "ari": (b"\x1f\x8b" + bytes(4096), "ari", 4098),
    "iso": (made.iso(), "iso", 0x8000 + 2048 + 65536),
    "iso that boots as a disk": (made.iso(front=made.partitioned()[:512]), "iso", 0x8000 + 2048 + 65536),
    "qcow2": (made.qcow2(), "qcow2", made.SIZE),
    "qcow2 version 2": (made.qcow2(version=2), "qcow2", made.SIZE),
    "qcow2 with a feature name table": (made.qcow2(extensions=((0x6803F857, bytes(96)),)), "qcow2", made.SIZE),
    "qcow2 with lazy refcounts left dirty": (made.qcow2(incompatible=1), "qcow2", made.SIZE),
    "qcow2 with zstd": (made.qcow2(incompatible=8, header_length=112), "qcow2", made.SIZE),
    "qcow2 with extended L2": (made.qcow2(incompatible=16), "qcow2", made.SIZE),
    "vmdk": (made.vmdk(), "vmdk", made.SIZE),
    "vmdk for streams": (made.vmdk_stream(), "vmdk", made.SIZE),
    "vdi": (made.vdi(), "vdi", made.SIZE),
    "vdi static": (made.vdi(kind=2), "vdi", made.SIZE),
    "vhd": (made.vhd(), "vhd", made.SIZE),
    "vhd fixed": (made.vhd_fixed(), "vhd", 65536),
    "vhd fixed, of a partitioned disk": (made.vhd_fixed(made.partitioned()), "vhd", made.MIB),
    "vhdx": (made.vhdx(), "vhdx", made.SIZE),
    "vhdx with its items the other way round": (made.vhdx(size_at=65536, parameters_at=65536 + 8), "vhdx", made.SIZE),
}


@pytest.mark.parametrize(("data", "declared", "size"), ACCEPTED.values(), ids=ACCEPTED)
def test_an_honest_image_passes_with_its_virtual_size(data: bytes, declared: str, size: int) -> None:
    """Each format that is allowed passes, and the size of the disk inside is told."""
    facts = judge(data, declared)
    assert (facts.disk_format, facts.virtual_size, facts.file_size) == (declared, size, len(data))


TEXT_VMDK = made.DESCRIPTOR.format(create_type="monolithicFlat", extents='RW 20480 FLAT "/etc/passwd" 0').encode()
REFUSED = {
    # lessons: external data file, backing file, unknown features (CVE-2024-32498 and its like)
    "backing file": (made.qcow2(backing=b"/etc/passwd"), "qcow2", errors.ImageHasBackingFile),
    "backing file in version 2": (made.qcow2(version=2, backing=b"/etc/passwd"), "qcow2", errors.ImageHasBackingFile),
    "backing file by offset only": (made.qcow2(backing_offset=4096), "qcow2", errors.ImageHasBackingFile),
    "backing file by json": (made.qcow2(backing=b'json:{"driver":"nbd"}'), "qcow2", errors.ImageHasBackingFile),
    "backing format without a file": (
        made.qcow2(extensions=((0xE2792ACA, b"raw"),)),
        "qcow2",
        errors.ImageHasBackingFile,
    ),
    "data file by feature": (made.qcow2(incompatible=4), "qcow2", errors.ImageHasDataFile),
    "data file by extension": (
        made.qcow2(extensions=((0x44415441, b"/etc/passwd"),)),
        "qcow2",
        errors.ImageHasDataFile,
    ),
    "data file behind another extension": (
        made.qcow2(extensions=((0x6803F857, bytes(48)), (0x44415441, b"/etc/passwd"))),
        "qcow2",
        errors.ImageHasDataFile,
    ),
    "marked corrupt": (made.qcow2(incompatible=2), "qcow2", errors.ImageMalformed),
    "unknown feature": (made.qcow2(incompatible=1 << 5), "qcow2", errors.ImageHasUnknownFeatures),
    "unknown feature, high": (made.qcow2(incompatible=1 << 63), "qcow2", errors.ImageHasUnknownFeatures),
    "unknown extension": (made.qcow2(extensions=((0xDEADBEEF, b"?"),)), "qcow2", errors.ImageHasUnknownFeatures),
    "old AES": (made.qcow2(crypt=1), "qcow2", errors.ImageEncrypted),
    "LUKS inside qcow2": (made.qcow2(crypt=2), "qcow2", errors.ImageEncrypted),
    "LUKS header pointer alone": (made.qcow2(extensions=((0x0537BE77, bytes(16)),)), "qcow2", errors.ImageEncrypted),
    "LUKS as raw": (b"LUKS\xba\xbe\0\1" + bytes(4096), "raw", errors.ImageEncrypted),
    "unknown crypt method": (made.qcow2(crypt=3), "qcow2", errors.ImageMalformed),
    "qcow2 version 4": (made.qcow2(version=4), "qcow2", errors.ImageMalformed),
    "qcow2 version 1": (made.qcow2(version=1), "qcow2", errors.ImageFormatBanned),
    "cluster of 256 bytes": (made.qcow2(cluster_bits=8), "qcow2", errors.ImageMalformed),
    "cluster of 4 GiB": (made.qcow2(cluster_bits=32), "qcow2", errors.ImageMalformed),
    "L1 too small for the size": (made.qcow2(size=1 << 39), "qcow2", errors.ImageMalformed),
    "L1 of 32 GiB": (made.qcow2(l1_entries=0xFFFFFFFF), "qcow2", errors.ImageMalformed),
    "header longer than a cluster": (made.qcow2(cluster_bits=9, header_length=1024), "qcow2", errors.ImageMalformed),
    "extension longer than the header": (
        made.qcow2()[:104] + b"\x68\x03\xf8\x57\xff\xff\xff\xff" + bytes(65536),
        "qcow2",
        errors.ImageMalformed,
    ),
    "qcow2 of 40 bytes": (made.qcow2()[:40], "qcow2", errors.ImageMalformed),
    "a bomb: a petabyte in 256 KiB": (made.qcow2(size=1 << 50, l1_entries=1 << 21), "qcow2", errors.ImageTooLarge),
    # lessons: vmdk that names files of the host (CVE-2022-47951)
    "vmdk of text": (TEXT_VMDK, "vmdk", errors.ImageHasForeignExtents),
    "vmdk of text behind comments": (b"# hello\n\n#\nversion=1\n" + TEXT_VMDK, "vmdk", errors.ImageHasForeignExtents),
    "vmdk of text as raw": (TEXT_VMDK, "raw", errors.ImageFormatMismatch),
    "vmdk of text behind comments as raw": (b"# hi\r\n \nversion=3\r\n" + TEXT_VMDK, "raw", errors.ImageFormatMismatch),
    "vmdk of ESX": (made.vmdk(magic=b"COWD"), "vmdk", errors.ImageHasForeignExtents),
    "monolithicFlat inside": (made.vmdk(create_type="monolithicFlat"), "vmdk", errors.ImageHasForeignExtents),
    "flat extent inside": (made.vmdk(extents='RW 20480 FLAT "passwd" 0'), "vmdk", errors.ImageHasForeignExtents),
    "extent with a path": (made.vmdk(extents='RW 20480 SPARSE "/etc/passwd"'), "vmdk", errors.ImageHasForeignExtents),
    "two extents": (made.vmdk(extents='RW 1 SPARSE "a"\nRW 1 SPARSE "b"'), "vmdk", errors.ImageHasForeignExtents),
    "no extent": (made.vmdk(extents=""), "vmdk", errors.ImageHasForeignExtents),
    "no capacity: readers follow the descriptor": (made.vmdk(capacity=0), "vmdk", errors.ImageHasForeignExtents),
    "descriptor elsewhere": (made.vmdk(descriptor_at=40), "vmdk", errors.ImageHasForeignExtents),
    "no descriptor": (made.vmdk(descriptor_sectors=0), "vmdk", errors.ImageHasForeignExtents),
    "descriptor of an exabyte": (made.vmdk(descriptor_sectors=1 << 60), "vmdk", errors.ImageHasForeignExtents),
    "descriptor past the end": (made.vmdk(descriptor_sectors=2000), "vmdk", errors.ImageMalformed),
    "parent": (
        made.vmdk(
            text=made.DESCRIPTOR.format(create_type="monolithicSparse", extents='RW 1 SPARSE "a"').replace(
                "ffffffff", "12345678"
            )
        ),
        "vmdk",
        errors.ImageHasBackingFile,
    ),
    "parent by name only": (
        made.vmdk(extents='RW 1 SPARSE "a"\nparentFileNameHint="/etc/passwd"'),
        "vmdk",
        errors.ImageHasBackingFile,
    ),
    "createType twice": (
        made.vmdk(extents='RW 1 SPARSE "a"\ncreateType="monolithicFlat"'),
        "vmdk",
        errors.ImageMalformed,
    ),
    "unknown line": (made.vmdk(extents='RW 1 SPARSE "a"\nsomething else'), "vmdk", errors.ImageMalformed),
    "not ASCII": (made.vmdk(extents='RW 1 SPARSE "\xe4"'), "vmdk", errors.ImageMalformed),
    "vmdk version 9": (made.vmdk(version=9), "vmdk", errors.ImageHasUnknownFeatures),
    "vmdk with unknown flags": (made.vmdk(flags=1 << 30), "vmdk", errors.ImageHasUnknownFeatures),
    "vmdk with unknown compression": (made.vmdk(compression=7), "vmdk", errors.ImageHasUnknownFeatures),
    "footer of another disk": (made.vmdk_stream(capacity=0), "vmdk", errors.ImageMalformed),
    "footer with another descriptor": (made.vmdk_stream(descriptor_at=9), "vmdk", errors.ImageMalformed),
    "footer that points to a footer": (made.vmdk_stream(footer_directory=made.AT_END), "vmdk", errors.ImageMalformed),
    "footer without its marker": (made.vmdk_stream(marker_kind=0), "vmdk", errors.ImageMalformed),
    # the others
    "vdi with a parent": (made.vdi(parent=b"0123456789abcdef"), "vdi", errors.ImageHasBackingFile),
    "vdi with a link": (made.vdi(link=b"0123456789abcdef"), "vdi", errors.ImageHasBackingFile),
    "vdi differencing": (made.vdi(kind=4), "vdi", errors.ImageHasUnknownFeatures),
    "vdi larger than its blocks": (made.vdi(size=made.SIZE * 9), "vdi", errors.ImageMalformed),
    "vdi with odd blocks": (made.vdi(block=4096), "vdi", errors.ImageMalformed),
    "vdi cut short": (made.vdi()[:200], "vdi", errors.ImageMalformed),
    "vdi bomb by blocks": (made.vdi(blocks=0x1FFFFFFF), "vdi", errors.ImageTooLarge),
    "vhd differencing": (made.vhd(kind=4), "vhd", errors.ImageHasBackingFile),
    "vhd dynamic with a parent": (made.vhd(parent=b"p" * 16), "vhd", errors.ImageHasBackingFile),
    "vhd of unknown kind": (made.vhd(kind=6), "vhd", errors.ImageHasUnknownFeatures),
    "vhd without its header": (made.vhd(cookie=b"nothing!"), "vhd", errors.ImageMalformed),
    "vhd with its header far off": (made.vhd(data_offset=1 << 40), "vhd", errors.ImageMalformed),
    "vhd whose end says otherwise": (made.vhd(end=made.vhd_footer(size=made.SIZE * 2)), "vhd", errors.ImageMalformed),
    "vhd bomb by geometry": (made.vhd(geometry=(65535, 255, 255), size=512), "vhd", errors.ImageTooLarge),
    "vhdx with a parent": (made.vhdx(bits=2), "vhdx", errors.ImageHasBackingFile),
    "vhdx with a parent locator": (made.vhdx(items=((made.PARENT, 0),)), "vhdx", errors.ImageHasBackingFile),
    "vhdx with an unknown required region": (
        made.vhdx(regions=((made.PARENT, 1),)),
        "vhdx",
        errors.ImageHasUnknownFeatures,
    ),
    "vhdx with an unknown required item": (
        made.vhdx(items=((made.METADATA, 4),)),
        "vhdx",
        errors.ImageHasUnknownFeatures,
    ),
    "vhdx with 4 billion regions": (made.vhdx(region_count=0xFFFFFFFF), "vhdx", errors.ImageMalformed),
    "vhdx with 65535 items": (made.vhdx(item_count=0xFFFF), "vhdx", errors.ImageMalformed),
    "vhdx with its size given twice": (made.vhdx(items=((made.DISK_SIZE, 0),)), "vhdx", errors.ImageMalformed),
    "vhdx without a region table": (made.vhdx(region_mark=b"...."), "vhdx", errors.ImageMalformed),
    "vhdx without metadata": (made.vhdx(table_mark=b"........"), "vhdx", errors.ImageMalformed),
    "vhdx with its size past the end": (made.vhdx(size_at=1 << 31), "vhdx", errors.ImageMalformed),
    "vhdx with its size inside the table": (made.vhdx(size_at=1024), "vhdx", errors.ImageMalformed),
    "vhdx bomb": (made.vhdx(size=1 << 50), "vhdx", errors.ImageMalformed),
    "raw beyond the limit": (bytes(1 << 20), "raw", errors.ImageTooLarge),
    # lessons: declared as one thing, being another (CVE-2024-40767)
    "qcow2 as raw": (made.qcow2(), "raw", errors.ImageFormatMismatch),
    "vmdk as raw": (made.vmdk(), "raw", errors.ImageFormatMismatch),
    "vdi as raw": (made.vdi(), "raw", errors.ImageFormatMismatch),
    "vhd as raw": (made.vhd(), "raw", errors.ImageFormatMismatch),
    "vhd fixed as raw": (made.vhd_fixed(), "raw", errors.ImageFormatMismatch),
    "vhdx as raw": (made.vhdx(), "raw", errors.ImageFormatMismatch),
    "iso as raw": (made.iso(), "raw", errors.ImageFormatMismatch),
    "qcow2 as ami": (made.qcow2(), "ami", errors.ImageFormatMismatch),
    "qcow2 as vmdk": (made.qcow2(), "vmdk", errors.ImageFormatMismatch),
    "raw as qcow2": (bytes(4096), "qcow2", errors.ImageFormatMismatch),
    "raw as iso": (bytes(65536), "iso", errors.ImageFormatMismatch),
    "raw as vhd": (bytes(65536), "vhd", errors.ImageFormatMismatch),
    "nothing as qcow2": (b"", "qcow2", errors.ImageFormatMismatch),
    # formats QEMU opens and we never do
    "qed": (b"QED\0" + bytes(4096), "raw", errors.ImageFormatBanned),
    "parallels": (b"WithoutFreeSpace" + bytes(4096), "raw", errors.ImageFormatBanned),
    "bochs": (b"Bochs Virtual HD Image".ljust(4096, b"\0"), "raw", errors.ImageFormatBanned),
    "cloop": (b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0\n" + bytes(4096), "raw", errors.ImageFormatBanned),
    "dmg": (bytes(4096) + b"koly\0\0\0\4\0\0\2\0".ljust(512, b"\0"), "raw", errors.ImageFormatMismatch),
    "ploop": (bytes(4096), "ploop", errors.ImageFormatUnknown),
    "a format nobody knows": (bytes(4096), "../raw", errors.ImageFormatUnknown),
    # one header behind another
    "iso and qcow2": (made.iso(front=made.qcow2()[:4096]), "iso", errors.ImageFormatAmbiguous),
    "qcow2 and iso": (made.iso(front=made.qcow2()[:4096]), "qcow2", errors.ImageFormatAmbiguous),
    "qcow2 and vdi": (
        made.qcow2()[:64] + b"\x7f\x10\xda\xbe" + made.qcow2()[68:],
        "qcow2",
        errors.ImageFormatAmbiguous,
    ),
    "qcow2 and vhd fixed": (made.vhd_fixed(made.qcow2()), "qcow2", errors.ImageFormatAmbiguous),
    "iso and vhd fixed": (made.vhd_fixed(made.iso()), "iso", errors.ImageFormatAmbiguous),
    "iso and luks": (made.iso(front=b"LUKS\xba\xbe\0\1"), "iso", errors.ImageFormatAmbiguous),
}
SMALL_LIMIT = {"raw beyond the limit": 1 << 16, "vhd bomb by geometry": 1 << 40, "vdi bomb by blocks": 1 << 40}


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_image_is_refused_by_name(name: str) -> None:
    """Each trick is refused for what it is, with words for the tenant that quote none of its bytes."""
    data, declared, error = REFUSED[name]
    with pytest.raises(errors.ImageRefused) as refused:
        judge(data, declared, limit=SMALL_LIMIT.get(name, LIMIT))
    assert type(refused.value) is error
    assert "passwd" not in refused.value.message
    assert refused.value.status == (413 if error is errors.ImageTooLarge else 415)


@pytest.mark.parametrize("name", [*ACCEPTED, *REFUSED])
def test_a_file_and_a_stream_in_any_chunks_are_judged_alike(name: str, tmp_path: Path) -> None:
    """The verdict does not depend on how the bytes come."""
    data, declared = (ACCEPTED.get(name) or REFUSED[name])[:2]
    path = tmp_path / "image"
    path.write_bytes(data)

    def verdict(how: str) -> object:
        try:
            if how == "file":
                return inspect_file(path, declared, virtual_bytes_max=LIMIT)
            return judge(data, declared, step=int(how))
        except errors.ImageRefused as refused:
            return type(refused), refused.message

    assert verdict("file") == verdict("4096") == verdict("65537") == verdict("1000003")


WORDS = {
    "mismatch": (made.qcow2(), "raw", "Image disk_format raw does not match stream data qcow2"),
    "ambiguous": (made.iso(front=made.qcow2()[:4096]), "iso", "Multiple formats detected: iso,qcow2"),
    "unsafe": (made.qcow2(backing=b"x"), "qcow2", "Image failed safety checks: it has a backing file"),
}


@pytest.mark.parametrize(("data", "declared", "words"), WORDS.values(), ids=WORDS)
def test_the_words_are_the_references(data: bytes, declared: str, words: str) -> None:
    """Clients that match on the reference's texts find them."""
    with pytest.raises(errors.ImageRefused) as refused:
        judge(data, declared)
    assert refused.value.message == words


def test_a_wrong_format_is_refused_as_soon_as_the_head_is_there() -> None:
    """An upload that cannot pass stops after 64 KiB, and stays refused."""
    inspector = Inspector("raw", virtual_bytes_max=LIMIT)
    data = made.qcow2()
    with pytest.raises(errors.ImageFormatMismatch):
        inspector.feed(data[:65536])
    with pytest.raises(errors.ImageFormatMismatch):
        inspector.feed(b"more")
    with pytest.raises(errors.ImageFormatMismatch):
        inspector.finish()


def test_a_raw_image_is_refused_when_it_passes_the_limit_not_at_its_end() -> None:
    """A stream without end is not read to its end."""
    inspector = Inspector("raw", virtual_bytes_max=1 << 20)
    with pytest.raises(errors.ImageTooLarge):  # noqa: PT012 - which of the calls refuses is the limit's business
        for _ in range(100):
            inspector.feed(bytes(1 << 16))


def test_an_image_of_exactly_the_limit_passes() -> None:
    """The limit itself is allowed."""
    assert judge(made.qcow2(size=made.SIZE), "qcow2", limit=made.SIZE).virtual_size == made.SIZE


ENCRYPTED = {
    "LUKS inside qcow2": (made.qcow2(crypt=2, extensions=((0x0537BE77, bytes(16)),)), "qcow2"),
    "LUKS as raw": (b"LUKS\xba\xbe\0\1" + bytes(8192), "raw"),
}


@pytest.mark.parametrize(("data", "declared"), ENCRYPTED.values(), ids=ENCRYPTED)
def test_encryption_passes_where_it_is_asked_for(data: bytes, declared: str) -> None:
    """The caller who expects an encrypted image gets it, marked as such."""
    assert judge(data, declared, encrypted=True).encrypted


def test_old_aes_never_passes() -> None:
    """QEMU itself no longer opens that method."""
    with pytest.raises(errors.ImageEncrypted):
        judge(made.qcow2(crypt=1), "qcow2", encrypted=True)


TABLES = {
    "none": (bytes(65536), None),
    "mbr": (made.partitioned(), "mbr"),
    "gpt": (made.partitioned(0xEE, gpt=True), "gpt"),
    "protective entry without a gpt": (made.partitioned(0xEE), "mbr"),
    "a boot sector of code": (made.partitioned(boot=0x4D), None),
}


@pytest.mark.parametrize(("data", "table"), TABLES.values(), ids=TABLES)
def test_a_partition_table_is_noted(data: bytes, table: str | None) -> None:
    """Of a raw image the record says how it is partitioned."""
    assert judge(data, "raw").partition_table == table


def test_every_accepted_format_has_a_name_for_qemu() -> None:
    """What passes can be given to QEMU explicitly."""
    names = {declared: qemu_format(declared) for declared in DISK_FORMATS}
    assert names["vhd"] == "vpc"
    assert {names[name] for name in ("raw", "ami", "aki", "ari", "iso")} == {"raw"}
    assert set(names.values()) == {"raw", "qcow2", "vmdk", "vdi", "vpc", "vhdx"}


REAL = [
    ("qcow2", "qcow2", ""),
    ("qcow2", "qcow2", "compat=0.10"),
    ("qcow2", "qcow2", "compression_type=zstd"),
    ("qcow2", "qcow2", "extended_l2=on"),
    ("qcow2", "qcow2", "cluster_size=2M"),
    ("qcow2", "qcow2", "cluster_size=512"),
    ("qcow2", "qcow2", "lazy_refcounts=on"),
    ("vmdk", "vmdk", ""),
    ("vmdk", "vmdk", "subformat=streamOptimized"),
    ("vdi", "vdi", ""),
    ("vdi", "vdi", "static=on"),
    ("vhd", "vpc", ""),
    ("vhd", "vpc", "subformat=fixed"),
    ("vhd", "vpc", "force_size=on"),
    ("vhdx", "vhdx", ""),
    ("vhdx", "vhdx", "subformat=fixed"),
    ("raw", "raw", ""),
]


@needs_qemu
@pytest.mark.parametrize(("declared", "driver", "options"), REAL)
def test_what_qemu_writes_passes_with_the_size_qemu_tells(
    declared: str, driver: str, options: str, tmp_path: Path
) -> None:
    """Images made by the tool everybody uses are let in, and their virtual size is the tool's."""
    source, image = tmp_path / "source", tmp_path / "image"
    source.write_bytes(made.noise(1 << 20) + bytes(5 << 20) + b"y" * 51200)
    chosen = ["-o", options] if options else []
    subprocess.run(
        ["qemu-img", "convert", "-q", "-f", "raw", "-O", driver, *chosen, source, image], check=True, timeout=60
    )
    told = subprocess.run(
        ["qemu-img", "info", "-f", driver, "--output=json", image], check=True, timeout=60, capture_output=True
    )
    assert (
        inspect_file(image, declared, virtual_bytes_max=LIMIT).virtual_size == json.loads(told.stdout)["virtual-size"]
    )


UNSAFE = [
    ("vmdk", "vmdk", "subformat=monolithicFlat"),
    ("vmdk", "vmdk", "subformat=twoGbMaxExtentSparse"),
    ("vmdk", "vmdk", "subformat=twoGbMaxExtentFlat"),
    ("raw", "qed", ""),
    ("qcow2", "qcow", ""),
    ("raw", "parallels", ""),
    ("qcow2", "qcow2", "data_file=data"),
    ("qcow2", "qcow2", "backing_file=/etc/hostname,backing_fmt=raw"),
]


@needs_qemu
@pytest.mark.parametrize(("declared", "driver", "options"), UNSAFE)
def test_what_qemu_writes_for_other_purposes_is_refused(
    declared: str, driver: str, options: str, tmp_path: Path
) -> None:
    """Variants that reach for other files, and formats that are not ours, are refused as the real tool writes them."""
    chosen = ["-o", options] if options else []
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", driver, *chosen, "image", "8M"], check=True, timeout=60, cwd=tmp_path
    )
    with pytest.raises(errors.ImageUnsafe):
        inspect_file(tmp_path / "image", declared, virtual_bytes_max=LIMIT)


#: where we refuse less than the reference, and why
LENIENT = {
    "qcow2 with extended L2": "a known feature, read by every QEMU since 5.2",
    "vhd fixed": "the reference does not look at the end, and takes it for raw",
    "vhd fixed, of a partitioned disk": "the same",
    "aki, with a boot sector's mark as every kernel has": "the reference inspects bare containers only, not kernels",
}


def the_reference_refuses(data: bytes, declared: str) -> bool:
    """The rules of the reference's upload, over the inspector it uses."""
    inspector = pytest.importorskip("oslo_utils.imageutils.format_inspector")
    stream = inspector.InspectWrapper(io.BytesIO(data))
    while stream.read(65536):
        pass
    stream.close()
    try:
        found = {str(match): match for match in stream.formats}
        chosen = found["iso"] if found.keys() == {"iso", "gpt"} else stream.format
        unknown_to_it = str(chosen) == "raw" and declared not in inspector.ALL_FORMATS
        known = unknown_to_it or declared in {"raw", str(chosen)}
        chosen.safety_check()
    except (inspector.ImageFormatError, inspector.SafetyCheckFailed):
        return True
    return not known


@pytest.mark.parametrize("name", [*ACCEPTED, *REFUSED])
def test_nothing_the_reference_refuses_passes_here(name: str) -> None:
    """The reference's own inspector, asked about the same bytes, is never stricter, but for a stated reason."""
    data, declared = (ACCEPTED.get(name) or REFUSED[name])[:2]
    if not the_reference_refuses(data, declared):
        assert name not in LENIENT
    elif name not in LENIENT:
        with pytest.raises(errors.ImageRefused):
            judge(data, declared, limit=SMALL_LIMIT.get(name, LIMIT))


def test_the_inspector_holds_little_however_much_comes() -> None:
    """Memory stays below 2 MiB for the greediest header (a descriptor of a megabyte) and for any length."""
    head = made.vmdk(descriptor_sectors=2047)[:512]
    chunk = bytes(256 * 1024)
    tracemalloc.start()
    try:
        inspector = Inspector("vmdk", virtual_bytes_max=LIMIT)
        inspector.feed(head)
        with pytest.raises(errors.ImageRefused):  # noqa: PT012 - refused when the descriptor is there
            for _ in itertools.repeat(None, 64):
                inspector.feed(chunk)
        inspector = Inspector("raw", virtual_bytes_max=LIMIT)
        for _ in itertools.repeat(None, 256):
            inspector.feed(chunk)
        inspector.finish()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
