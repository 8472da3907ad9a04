"""The gate under bytes nobody thought of: it answers, or refuses in its own words, and nothing else happens."""

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit import disk_images as made

from cumulet.core.disk import qcow2
from cumulet.core.disk.errors import ImageMalformed, ImageRefused
from cumulet.core.disk.formats import DISK_FORMATS, ImageFacts, Inspector, inspect_file

LIMIT = 1 << 40

SEEDS = {
    "qcow2": made.qcow2(extensions=((0x6803F857, bytes(48)),)),
    "vmdk": made.vmdk(),
    "vmdk stream": made.vmdk_stream(),
    "vmdk text": made.DESCRIPTOR.format(create_type="monolithicFlat", extents='RW 1 FLAT "x" 0').encode() + bytes(4096),
    "vdi": made.vdi(),
    "vhd": made.vhd(),
    "vhd fixed": made.vhd_fixed(),
    "vhdx": made.vhdx(metadata_at=320 * 1024),
    "iso": made.iso(),
    "raw": made.partitioned()[:4096],
}
#: where the structures lie, so that most changes meet one
PLACES = (
    0,
    4,
    8,
    64,
    72,
    100,
    104,
    112,
    400,
    446,
    512,
    520,
    560,
    0x8000,
    192 * 1024,
    192 * 1024 + 16,
    320 * 1024,
    320 * 1024 + 32,
    384 * 1024,
)

declared_formats = st.sampled_from(sorted(DISK_FORMATS))
changes = st.lists(
    st.tuples(
        st.sampled_from(PLACES),
        st.integers(0, 63),
        st.one_of(st.binary(min_size=1, max_size=16), st.just(b"\xff" * 8), st.just(bytes(8))),
    ),
    max_size=6,
)


@st.composite
def spoilt_images(draw: st.DrawFn) -> bytes:
    """A good image with a few bytes changed, and its end cut off or made longer."""
    image = bytearray(SEEDS[draw(st.sampled_from(sorted(SEEDS)))])
    for place, further, data in draw(changes):
        image[place + further : place + further + len(data)] = data
    cut = draw(st.one_of(st.none(), st.integers(0, len(image)), st.sampled_from(PLACES)))
    return bytes(image[:cut]) + draw(st.binary(max_size=600))


def in_chunks(image: bytes, steps: list[int], declared: str, *, encrypted: bool) -> ImageFacts | ImageRefused:
    """The verdict over a stream."""
    inspector = Inspector(declared, virtual_bytes_max=LIMIT, allow_encrypted=encrypted)
    try:
        position = 0
        for step in [*steps, len(image)]:
            inspector.feed(image[position : position + step])
            position += step
        return inspector.finish()
    except ImageRefused as refused:
        return refused


def as_file(image: bytes, declared: str, *, encrypted: bool) -> ImageFacts | ImageRefused:
    """The verdict over a file."""
    handle, name = tempfile.mkstemp()
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(image)
        return inspect_file(Path(name), declared, virtual_bytes_max=LIMIT, allow_encrypted=encrypted)
    except ImageRefused as refused:
        return refused
    finally:
        Path(name).unlink()


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    image=spoilt_images(),
    declared=declared_formats,
    steps=st.lists(st.integers(1, 300_000), max_size=8),
    encrypted=st.booleans(),
)
def test_whatever_comes_is_judged_or_refused_and_alike_on_both_ways(
    image: bytes, declared: str, steps: list[int], encrypted: bool
) -> None:
    """No bytes make the gate fail in another way than ImageRefused, and chunks never change the verdict."""
    streamed = in_chunks(image, steps, declared, encrypted=encrypted)
    filed = as_file(image, declared, encrypted=encrypted)
    if isinstance(filed, ImageFacts):
        assert streamed == filed
        assert filed.file_size == len(image)
        assert 0 <= filed.virtual_size <= LIMIT
    else:
        assert isinstance(streamed, ImageRefused)
        assert (type(streamed), streamed.message) == (type(filed), filed.message)


@settings(max_examples=150, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    image=spoilt_images().filter(lambda image: image.startswith(qcow2.MAGIC)),
    declared=st.sampled_from(sorted(DISK_FORMATS - {"qcow2"})),
)
def test_nothing_that_begins_like_qcow2_passes_as_something_else(image: bytes, declared: str) -> None:
    """A tool that looks at the first bytes never sees a qcow2 file under another name."""
    assert isinstance(in_chunks(image, [], declared, encrypted=True), ImageRefused)


@settings(max_examples=1000)
@given(data=st.one_of(st.binary(max_size=300), st.binary(max_size=200).map(lambda tail: made.qcow2()[:72] + tail)))
def test_the_qcow2_parser_reads_anything(data: bytes) -> None:
    """The parser answers with a header or says that it is malformed."""
    try:
        header = qcow2.parse_header(data)
    except ImageMalformed:
        return
    assert 9 <= header.cluster_bits <= 21
    assert header.size <= header.l1_entries << (2 * header.cluster_bits - 3)
