"""Headers of safetensors files, good and bad."""

import json

import numpy as np
import pytest

from api.domain.tensor_file import (
    ITEM_BYTES,
    MAX_HEADER_BYTES,
    Header,
    Tensor,
    build_header,
    header_bytes,
    is_finite,
    parse_header,
)
from api.errors import InputError


def header(**entries: object) -> bytes:
    return json.dumps(entries).encode()


def entry(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_what_is_built_is_read_back() -> None:
    built = build_header({"b": ("BF16", (2, 3)), "a": ("F32", ())}, {"z": "1", "format": "pt"})

    length = header_bytes(built[:8], len(built) + 16)

    assert parse_header(built[8 : 8 + length], 16) == Header(
        {"b": Tensor("BF16", (2, 3), 0, 12), "a": Tensor("F32", (), 12, 16)}, {"format": "pt", "z": "1"}
    )
    assert len(built) % 8 == 0


def test_the_same_input_gives_the_same_bytes() -> None:
    assert build_header({"a": ("F32", (1,))}, {"x": "1", "y": "2"}) == build_header(
        {"a": ("F32", (1,))}, {"y": "2", "x": "1"}
    )


def test_a_file_without_metadata_has_none() -> None:
    built = build_header({"a": ("F32", (1,))}, {})

    assert parse_header(built[8:], 4).metadata == {}


@pytest.mark.parametrize(
    ("prefix", "size"),
    [
        (b"", 0),
        (b"\x01\x00", 2),
        ((100).to_bytes(8, "little"), 50),
        ((MAX_HEADER_BYTES + 1).to_bytes(8, "little"), 2**40),
        (b"\xff" * 8, 2**20),
    ],
)
def test_a_header_longer_than_its_file_or_the_limit_is_refused(prefix: bytes, size: int) -> None:
    with pytest.raises(InputError) as caught:
        header_bytes(prefix, size)

    assert caught.value.code == "lora_invalid"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"\x80", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not an object"),
        (header(__metadata__=[1]), "metadata is not an object"),
        (header(a=5), "not described"),
        (header(a={}), "not described"),
        (header(a=entry("F13")), "not described"),
        (header(a=entry(shape=5)), "not described"),
        (header(a=entry(shape=["2"])), "not described"),
        (header(a=entry(shape=[2.0])), "not described"),
        (header(a=entry(shape=[-1, -2])), "not described"),
        (header(a=entry(offsets=[0])), "not described"),
        (header(a=entry(offsets=[0, 4])), "does not fit its shape"),
        (header(a=entry(offsets=[-8, 0])), "not described"),
        (header(a=entry(offsets=[8, 16])), "does not begin where"),
        (header(a=entry(), b=entry()), "does not begin where"),
        (header(), "promises 0"),
    ],
)
def test_a_header_that_does_not_describe_its_file_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        parse_header(text, 8)

    assert caught.value.code == "lora_invalid"


@pytest.mark.parametrize(
    ("dtype", "numpy_type"), [("F16", np.float16), ("F32", np.float32), ("F64", np.float64)], ids=str
)
def test_nan_and_infinity_are_found_in_every_float(dtype: str, numpy_type: type[np.floating]) -> None:
    largest = np.finfo(numpy_type).max

    assert is_finite(dtype, np.array([0, -1.5, largest, -largest], dtype=numpy_type).tobytes())
    for wrong in (np.nan, np.inf, -np.inf):
        assert not is_finite(dtype, np.array([0, wrong, 1], dtype=numpy_type).tobytes())


@pytest.mark.parametrize(
    ("dtype", "finite", "wrong"),
    [
        ("BF16", [0x0000, 0x3F80, 0xBF80, 0x7F7F], [0x7F80, 0xFF80, 0x7FC0, 0x7F81]),
        ("F8_E4M3", [0x00, 0x7E, 0xFE], [0x7F, 0xFF]),
        ("F8_E5M2", [0x00, 0x7B, 0xFB], [0x7C, 0xFC, 0x7D, 0x7F]),
    ],
)
def test_nan_and_infinity_are_found_in_the_types_numpy_does_not_know(
    dtype: str, finite: list[int], wrong: list[int]
) -> None:
    def stored(number: int) -> bytes:
        return number.to_bytes(ITEM_BYTES[dtype], "little")

    assert is_finite(dtype, b"".join(map(stored, finite)))
    assert [is_finite(dtype, stored(number)) for number in wrong] == [False] * len(wrong)


def test_whole_numbers_are_always_finite() -> None:
    assert is_finite("I64", b"\xff" * 8)
