import struct

import pytest

from slipway.data.exif import check_exif
from slipway.errors import DataError

MAKER_NOTE, UNDEFINED, RATIONAL = 0x927C, 7, 5


def directory(entries, order="<"):
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + struct.pack(order + "H", len(entries)) + b"".join(struct.pack(order + "HHII", *entry) for entry in entries)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0", b"Exif\0\0Exif\0\0"])
@pytest.mark.parametrize(
    "entries",
    [[(0x9000 + tag, UNDEFINED, 4, 0) for tag in range(257)], [(0x0112, RATIONAL, 300, 8)], [(0x011A, RATIONAL, 2**32 - 1, 8)]],
    ids=["entries", "orientations", "resolutions"],
)
def test_a_directory_that_goes_on_and_on_is_refused(entries, prefix, order):
    with pytest.raises(DataError, match="its Exif has over 256 entries and values; accepted: at most 256"):
        check_exif(prefix + directory(entries, order))


def test_a_directory_that_says_so_is_refused_even_if_it_is_cut_off():
    with pytest.raises(DataError, match="over 256 entries"):
        check_exif(b"II*\0\x08\0\0\0\xff\xff")


def test_exif_of_more_than_a_mib_is_refused():
    with pytest.raises(DataError, match="its Exif has over 1048576 bytes; accepted: at most 1048576"):
        check_exif(bytes((1 << 20) + 1))


def test_a_cameras_exif_is_accepted():
    note = directory([(0x0112, 3, 1, 6), (0x011A, RATIONAL, 1, 8), (MAKER_NOTE, UNDEFINED, 60_000, 50)]) + bytes(60_000)
    check_exif(b"Exif\0\0" + note)


@pytest.mark.parametrize("exif", [b"", b"II", b"II*\0\x08\0", b"MM\0*\0\0\xff\xff", b"XX*\0", b"II*\0\x08\0\0\0\x01\0\x12\x01"])
def test_damaged_exif_is_left_to_pillow(exif):
    check_exif(exif)
