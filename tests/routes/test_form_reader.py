"""The multipart parser: the same answer however the bytes arrive, and a limit on everything."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.domain.upload import UploadLimits
from api.errors import InputError, TooLargeError
from api.routes.form_reader import FIELD_BYTES, FIELD_COUNT, PART_HEADER_BYTES, FormReader, parse_disposition

BOUNDARY = b"XXboundaryXX"
INTO = Path("into")
LIMITS = UploadLimits(file_bytes=1000, total_bytes=1_000_000, files=5, image_pixels=1, min_side=1)

Parts = list[tuple[str, str | None, bytes]]


def body(parts: Parts) -> bytes:
    """A multipart body as browsers write it."""
    out = b""
    for name, filename, data in parts:
        out += b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="' + name.encode() + b'"'
        if filename is not None:
            out += b'; filename="' + filename.encode() + b'"\r\nContent-Type: application/octet-stream'
        out += b"\r\n\r\n" + data + b"\r\n"
    return out + b"--" + BOUNDARY + b"--\r\n"


def _read(pieces: list[bytes], limits: UploadLimits = LIMITS) -> tuple[FormReader, dict[Path, bytes]]:
    form = FormReader(BOUNDARY, INTO, limits)
    stored: dict[Path, bytes] = {}
    for piece in pieces:
        form.feed(piece)
        for path, data in form.take_writes():
            assert path == list(stored or [path])[-1] or path not in stored, "files must be written one after the other"
            stored[path] = stored.get(path, b"") + data
    return form, stored


def _refusal(parts: Parts, limits: UploadLimits = LIMITS) -> TooLargeError:
    with pytest.raises(TooLargeError) as caught:
        _read([body(parts)], limits)
    return caught.value


awkward = st.sampled_from([b"\r", b"\n", b"\r\n", b"-", b"--", b"\r\n--", b"\r\n--XXbound", BOUNDARY, b"\r\r\n--XX"])
content = (
    st.lists(st.one_of(awkward, st.binary(max_size=20)), max_size=12)
    .map(b"".join)
    .filter(lambda data: b"\r\n--" + BOUNDARY not in b"\r\n" + data + b"\r\n")
)


@given(st.lists(content, max_size=5), st.lists(st.integers(1, 60), min_size=1, max_size=60))
def test_files_arrive_whole_however_the_body_is_cut_into_pieces(contents: list[bytes], sizes: list[int]) -> None:
    parts: Parts = [("files", f"{n}.png", data) for n, data in enumerate(contents)]
    whole = body([*parts, ("name", None, "Köln".encode())])
    pieces, at, turn = [], 0, 0
    while at < len(whole):
        size = sizes[turn % len(sizes)]
        pieces.append(whole[at : at + size])
        at, turn = at + size, turn + 1
    form, stored = _read(pieces)
    assert form.complete
    assert form.fields == {"name": ["Köln"]}
    assert [(f.field, f.filename, f.size) for f in form.files] == [("files", n, len(d)) for _, n, d in parts]
    assert [stored[f.path] for f in form.files] == contents
    assert form.pending_bytes == 0


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_as_malformed(data: bytes) -> None:
    form = FormReader(BOUNDARY, INTO, LIMITS)
    with contextlib.suppress(InputError):
        form.feed(b"--" + BOUNDARY + b"\r\n" + data)
    assert not form.complete


def test_fields_of_one_name_are_all_kept_in_order() -> None:
    form, stored = _read([body([("tag", None, b"a"), ("tag", None, b"b"), ("empty", None, b"")])])
    assert form.fields == {"tag": ["a", "b"], "empty": [""]}
    assert stored == {}


def test_names_never_become_paths() -> None:
    names = ["../../etc/passwd", "/abs.png", "C:\\x.png", "a/b.png"]
    form, stored = _read([body([("files", name, b"x") for name in names])])
    assert [f.filename for f in form.files] == names
    assert list(stored) == [INTO / "00000", INTO / "00001", INTO / "00002", INTO / "00003"]


def test_an_empty_file_exists_and_an_input_left_empty_does_not() -> None:
    form, stored = _read([body([("files", "empty.png", b""), ("files", "", b"")])])
    assert [f.filename for f in form.files] == ["empty.png"]
    assert stored == {INTO / "00000": b""}


@pytest.mark.parametrize("cut", [3, 5, 20, 60, 100, 130])
def test_a_body_without_its_end_is_not_complete(cut: int) -> None:
    whole = body([("files", "a.png", b"x" * 100)])
    assert not _read([whole[:-cut]])[0].complete


def test_what_follows_the_end_is_ignored() -> None:
    form, stored = _read([body([("files", "a.png", b"x")]) + b"epilogue" * 100])
    assert form.complete
    assert stored == {INTO / "00000": b"x"}


def test_each_limit_names_itself_and_the_setting_that_raises_it() -> None:
    file = ("files", "a.png", b"x" * 1001)
    large = _refusal([file])
    assert (large.code, "MASUKA_MAX_FILE_MB" in str(large), "a.png" in str(large)) == ("file_too_large", True, True)
    many = _refusal([("files", "a.png", b"")] * 6)
    assert (many.code, "MASUKA_MAX_FILES" in str(many)) == ("too_many_files", True)
    total = _refusal([("files", "a.zip", b"x" * 2000)], replace(LIMITS, total_bytes=2000))
    assert (total.code, "MASUKA_MAX_UPLOAD_MB" in str(total)) == ("upload_too_large", True)
    assert _refusal([("name", None, b"x" * (FIELD_BYTES + 1))]).code == "field_too_large"
    assert _refusal([("name", None, b"")] * (FIELD_COUNT + 1)).code == "too_many_fields"
    assert _refusal([("files", "", b"")] * (FIELD_COUNT + 1)).code == "too_many_fields"
    assert _refusal([("n" * PART_HEADER_BYTES, None, b"")]).code == "part_header_too_large"


def test_a_header_without_end_is_refused_while_it_arrives() -> None:
    form = FormReader(BOUNDARY, INTO, LIMITS)
    form.feed(b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data; name=")
    form.feed(b"x" * (PART_HEADER_BYTES - 100))
    with pytest.raises(TooLargeError):
        form.feed(b"x" * 100)


def test_exactly_the_limit_passes() -> None:
    form, _ = _read([body([("files", f"{n}.png", b"x" * 1000) for n in range(5)])])
    assert len(form.files) == 5


def test_a_zip_may_be_larger_than_a_picture() -> None:
    form, _ = _read([body([("files", "Set.ZIP", b"x" * 5000)])])
    assert form.files[0].size == 5000


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b'{"name": "x"}',
        b"--otherboundary\r\n\r\n",
        b"--" + BOUNDARY + b"\r\n\r\nno headers\r\n--" + BOUNDARY + b"--",
        b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data\r\n\r\nx\r\n--" + BOUNDARY + b"--",
        b"--" + BOUNDARY + b'\r\nContent-Disposition: attachment; name="a"\r\n\r\nx\r\n--' + BOUNDARY + b"--",
        b"--" + BOUNDARY + b"\r\nBad Header: x\r\n\r\nx\r\n--" + BOUNDARY + b"--",
        body([("name", None, b"\xff\xfe")]),
        body([("files", "", b"bytes of a file without a name")]),
    ],
)
def test_malformed_bodies_are_refused(data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        _read([data])
    assert caught.value.code == "multipart_invalid"


def test_a_boundary_longer_than_any_client_sends_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        FormReader(b"x" * 1000, INTO, LIMITS)
    assert caught.value.code == "multipart_invalid"


@pytest.mark.parametrize(
    ("header", "filename"),
    [
        (b'form-data; name="f"', None),
        (b'form-data; name="f"; filename=""', ""),
        (b'form-data; name="f"; filename="a b.png"', "a b.png"),
        (b'form-data; filename="a.png"; name="f"', "a.png"),
        (b"Form-Data; NAME=f; FILENAME=a.png", "a.png"),
        ('form-data; name="f"; filename="Köln 写真.png"'.encode(), "Köln 写真.png"),
        ('form-data; name="f"; filename="Köln.png"'.encode("latin-1"), "Köln.png"),
        (b'form-data; name="f"; filename="a;b.png"', "a;b.png"),
        (b'form-data; name="f"; filename="a\\"b.png"', 'a"b.png'),
        (b'form-data; name="f"; filename="dir\\"', "dir\\"),
        (b'form-data; name="f"; filename="C:\\new\\a.png"', "C:\\new\\a.png"),
        (b'form-data; name="f"; filename="K_ln.png"; filename*=UTF-8\'\'K%C3%B6ln.png', "Köln.png"),
        (b"form-data; name=\"f\"; filename*=iso-8859-1'de'K%F6ln.png", "Köln.png"),
        (b'form-data; name="f"; filename="x; filename*=UTF-8\'\'evil.png"', "x; filename*=UTF-8''evil.png"),
    ],
)
def test_file_names_are_read_as_their_senders_meant_them(header: bytes, filename: str | None) -> None:
    assert parse_disposition(header) == ("f", filename)
