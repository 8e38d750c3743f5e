"""How many tokens CLIP makes of a caption. Pure.

The same steps as `CLIPTokenizer` of transformers takes, as far as captions need them; a test compares the counts with
those of the trainer's own. Transformers 4, which SimpleTuner 3 has, tidies the text by `ftfy` before; 5 does not.
"""

import html
import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Self

CLIP_TOKENS = 77
"""That CLIP reads, with the two that mark start and end; FLUX's other encoder, T5, reads 512."""
_MARKS = 2
_CONTRACTIONS = ("'re", "'ve", "'ll", "'s", "'t", "'m", "'d")
_PLAIN = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "\ufb01": "fi", "\ufb02": "fl"})
_END = "</w>"

Ranks = Mapping[tuple[str, str], int]
"""Pairs of parts that are merged, and how early."""


class ClipTokens:
    """Counts tokens by the merges of CLIP's vocabulary."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._parts = lru_cache(maxsize=20_000)(self._parts_of)

    @classmethod
    def of(cls, merges: str) -> Self:
        """From the text of `merges.txt`, whose first line is its version."""
        pairs = (line.split() for line in merges.strip().splitlines()[1:])
        return cls({(left, right): rank for rank, (left, right) in enumerate(pairs)})

    def count(self, caption: str, *, tidied: bool) -> int:
        """With both marks; above CLIP_TOKENS the end of the caption is not read by CLIP.

        `tidied`: HTML's entities are the signs that they stand for, and typographic quotes are plain ones.
        """
        text = caption
        if tidied:
            text = (html.unescape(text) if "<" not in text else text).translate(_PLAIN)
        return _MARKS + sum(self._parts(word) for word in _words(unicodedata.normalize("NFC", text).lower()))

    def most(self, caption: str) -> int:
        """Whichever version of the trainer reads it."""
        return max(self.count(caption, tidied=True), self.count(caption, tidied=False))

    def _parts_of(self, word: str) -> int:
        letters = [_BYTES[byte] for byte in word.encode()]
        parts = [*letters[:-1], letters[-1] + _END]
        while len(parts) > 1:
            pairs = set(pairwise(parts))
            best = min(pairs, key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self._ranks:
                break
            parts = _merged(parts, best)
        return len(parts)


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """With every occurrence of the pair made one part, from left to right."""
    merged: list[str] = []
    at = 0
    while at < len(parts):
        if tuple(parts[at : at + 2]) == pair:
            merged.append(parts[at] + parts[at + 1])
            at += 2
        else:
            merged.append(parts[at])
            at += 1
    return merged


def _words(text: str) -> Iterator[str]:
    """Runs of letters, single digits, runs of other signs; English contractions are words of their own."""
    kinds = [_kind(character) for character in text]
    at = 0
    while at < len(text):
        short = next((each for each in _CONTRACTIONS if text.startswith(each, at)), None)
        end = at + 1
        if short:
            end = at + len(short)
        elif kinds[at] != "N":
            while end < len(text) and kinds[end] == kinds[at]:
                end += 1
        if short or kinds[at] != " ":
            yield text[at:end]
        at = end


def _kind(character: str) -> str:
    if character.isspace():
        return " "
    category = unicodedata.category(character)[0]
    return category if category in "LN" else "other"


def _byte_signs() -> list[str]:
    """For each byte the visible sign that stands for it in the vocabulary."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in visible else chr(next(others)) for byte in range(256)]


_BYTES = _byte_signs()
