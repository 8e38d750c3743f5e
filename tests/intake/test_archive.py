"""A zip: what comes out, and what no zip can do to the machine."""

import random
import stat
import struct
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.domain.upload import UploadLimits
from api.errors import InputError, TooLargeError
from api.intake.archive import Unpacked, unpack
from tests.intake.pictures import LIMITS

Entries = dict[str | zipfile.ZipInfo, bytes]


def _zip(folder: Path, entries: Entries, method: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder / "set.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def _unpack(folder: Path, archive: Path, limits: UploadLimits = LIMITS) -> Unpacked:
    (folder / "out").mkdir()
    return unpack(archive, limits, folder / "out")


def _codes(unpacked: Unpacked) -> dict[str, str | None]:
    return {entry.filename: entry.code for entry in unpacked.refused}


def test_files_of_all_folders_come_out_under_numbers(tmp_path: Path) -> None:
    unpacked = _unpack(tmp_path, _zip(tmp_path, {"set/": b"", "set/a.png": b"A", "set/deep/a.txt": b"text"}))
    assert [(f.filename, f.path.read_bytes(), f.size) for f in unpacked.files] == [
        ("set/a.png", b"A", 1),
        ("set/deep/a.txt", b"text", 4),
    ]
    assert {f.path.parent for f in unpacked.files} == {tmp_path / "out"}
    assert unpacked.refused == []


def test_clutter_of_operating_systems_is_not_mentioned(tmp_path: Path) -> None:
    names = ["__MACOSX/._a.png", ".DS_Store", "set/Thumbs.db", "set/._b.jpg"]
    unpacked = _unpack(tmp_path, _zip(tmp_path, dict.fromkeys(names, b"x")))
    assert unpacked == Unpacked([], [])


def test_entries_that_cannot_be_taken_are_refused_one_by_one(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    entries: Entries = {
        "../up.png": b"x",
        "/etc/root.png": b"x",
        "a/../../up.png": b"x",
        "C:\\win.png": b"x",
        "prog.exe": b"x",
        "inner.zip": b"x",
        link: b"/etc/passwd",
        "large.png": b"x" * 2000,
        "good.png": b"x",
    }
    unpacked = _unpack(tmp_path, _zip(tmp_path, entries), replace(LIMITS, file_bytes=1000))
    assert _codes(unpacked) == {
        "../up.png": "unsafe_name",
        "/etc/root.png": "unsafe_name",
        "a/../../up.png": "unsafe_name",
        "C:\\win.png": "unsafe_name",
        "prog.exe": "unsupported_type",
        "inner.zip": "unsupported_type",
        "link.png": "symlink",
        "large.png": "file_too_large",
    }
    assert [f.filename for f in unpacked.files] == ["good.png"]
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["00000", "set.zip"]


def test_an_encrypted_entry_is_refused(tmp_path: Path) -> None:
    archive = _zip(tmp_path, {"a.png": b"x", "b.png": b"y"})
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    unpacked = _unpack(tmp_path, archive)
    assert _codes(unpacked) == {"a.png": "encrypted"}
    assert [f.filename for f in unpacked.files] == ["b.png"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_inflate_without_bound_are_refused(tmp_path: Path, method: int) -> None:
    assert _codes(_unpack(tmp_path, _zip(tmp_path, {"a.png": b"x" * 100}, method))) == {"a.png": "corrupt_entry"}


def test_an_entry_that_does_not_match_its_checksum_is_refused_and_removed(tmp_path: Path) -> None:
    archive = _zip(tmp_path, {"a.png": b"picture bytes"}, zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b"picture", b"pixture"))
    assert _codes(_unpack(tmp_path, archive)) == {"a.png": "corrupt_entry"}
    assert list((tmp_path / "out").iterdir()) == []


def test_an_entry_never_inflates_to_more_than_it_declares(tmp_path: Path) -> None:
    archive = _zip(tmp_path, {"a.png": b"\0" * 50_000_000})
    data = bytearray(archive.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 1000)
    archive.write_bytes(data)
    assert _codes(_unpack(tmp_path, archive)) == {"a.png": "corrupt_entry"}


def test_a_zip_that_would_unpack_to_too_much_is_refused_before_a_byte_is(tmp_path: Path) -> None:
    archive = _zip(tmp_path, {f"{n}.png": b"\0" * 1000 for n in range(20)})
    with pytest.raises(TooLargeError) as caught:
        _unpack(tmp_path, archive, replace(LIMITS, total_bytes=19_999))
    assert caught.value.code == "zip_too_large"
    assert "MASUKA_MAX_UPLOAD_MB" in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_hundred_thousand_entries_are_refused_without_reading_their_table(tmp_path: Path) -> None:
    archive = _zip(tmp_path, {f"{n:06d}.png": b"" for n in range(100_000)}, zipfile.ZIP_STORED)
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError) as caught:
            _unpack(tmp_path, archive)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.code == "zip_too_many_files"
    assert "MASUKA_MAX_FILES" in str(caught.value)
    assert peak_bytes < 5_000_000


def test_files_are_counted_and_clutter_is_not(tmp_path: Path) -> None:
    names = [f"{n}.png" for n in range(10)] + [f"__MACOSX/._{n}.png" for n in range(10)]
    archive = _zip(tmp_path, dict.fromkeys(names, b"x"))
    assert len(_unpack(tmp_path, archive, replace(LIMITS, files=10)).files) == 10
    with pytest.raises(TooLargeError):
        unpack(archive, replace(LIMITS, files=9), tmp_path / "out")


def test_names_that_macos_wrote_keep_their_umlauts(tmp_path: Path) -> None:
    archive = _zip(tmp_path, {"K__ln.png": b"x"})
    archive.write_bytes(archive.read_bytes().replace(b"K__ln", "Köln".encode()))
    assert [f.filename for f in _unpack(tmp_path, archive).files] == ["Köln.png"]


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04" + b"\0" * 100, b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_zip_is_refused_as_a_whole(tmp_path: Path, data: bytes) -> None:
    archive = tmp_path / "set.zip"
    archive.write_bytes(data)
    with pytest.raises(InputError) as caught:
        _unpack(tmp_path, archive)
    assert caught.value.code == "zip_invalid"


def test_a_zip_cut_off_half_way_is_refused_as_a_whole(tmp_path: Path) -> None:
    archive = _zip(tmp_path, {"a.png": random.Random(1).randbytes(10_000)})
    archive.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(InputError) as caught:
        _unpack(tmp_path, archive)
    assert caught.value.code == "zip_invalid"


def test_damage_of_any_kind_is_refused_in_part_or_as_a_whole(tmp_path: Path) -> None:
    """What `zipfile` raises on damage is not documented; a thousand damaged zips show what it is."""
    dice = random.Random(20261122)
    whole = _zip(tmp_path, {f"d/{n}.png": b"picture" * 9 for n in range(3)}).read_bytes()
    archive = tmp_path / "damaged.zip"
    for number in range(1000):
        data = bytearray(whole)
        for _ in range(dice.choice([1, 2, 8])):
            data[dice.randrange(len(data))] = dice.choice([0, 255, dice.randrange(256)])
        archive.write_bytes(data)
        (tmp_path / f"{number}").mkdir()
        try:
            unpacked = unpack(archive, LIMITS, tmp_path / f"{number}")
        except InputError:
            continue
        assert all(file.path.stat().st_size == file.size for file in unpacked.files)


@given(name=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_no_name_makes_a_file_outside_its_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.mktemp("zip")
    unpacked = _unpack(folder, _zip(folder, {f"{name}.png": b"x"}))
    assert all(file.path.parent == folder / "out" for file in unpacked.files)
    assert {path.name for path in folder.rglob("*")} <= {"set.zip", "out", "00000"}
