"""Which bytes of a text that grows are asked for."""

from dataclasses import dataclass

_LONGEST_CHARACTER = 4


@dataclass(frozen=True, slots=True)
class ByteRange:
    start: int
    end: int
    """Without this one."""


def choose(size: int, offset: int | None, limit: int) -> ByteRange:
    """`limit` bytes from `offset` on, or the last ones; none where the text does not reach yet."""
    start = max(0, size - limit) if offset is None else min(offset, size)
    return ByteRange(start, min(size, start + limit))


def whole_characters(data: bytes) -> bytes:
    """Without the beginning of a character of UTF-8 whose rest comes with the next bytes.

    Only such an end is cut off: what is no UTF-8 at all stays as it is.
    """
    for back in range(1, min(_LONGEST_CHARACTER, len(data) + 1)):
        byte = data[-back]
        if byte & 0b1100_0000 == 0b1000_0000:
            continue  # inside a character
        length = 2 if byte >> 5 == 0b110 else 3 if byte >> 4 == 0b1110 else 4 if byte >> 3 == 0b1_1110 else 1
        return data[:-back] if length > back and len(data) > back else data
    return data


def from_next_line(data: bytes) -> bytes:
    """From the first whole line on, where there is one; for a text that was cut at its beginning."""
    _, found, rest = data.partition(b"\n")
    return rest if found and rest else data
