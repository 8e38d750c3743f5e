"""Captions: from the bytes of a `.txt` to the one line of text that a picture is trained on."""

import codecs
import re
import unicodedata

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_DROPPED_CATEGORIES = frozenset({"Cc", "Cs"})
_BYTE_ORDER_MARK = "\ufeff"


def decode_caption(data: bytes) -> str:
    """The caption in a text file, cleaned; empty when there is none.

    UTF-8 with or without a mark, UTF-16 with one, else Windows-1252, of which every file is some text. All lines
    become one, because SimpleTuner takes each line of a caption file as a caption of its own.
    """
    if data.startswith(_UTF16_MARKS):
        return clean_caption(data.decode("utf-16", errors="replace"))
    try:
        return clean_caption(data.decode("utf-8"))
    except UnicodeDecodeError:
        return clean_caption(data.decode("cp1252", errors="ignore"))


def clean_caption(text: str) -> str:
    """One line, single spaces, NFC, no control characters; PostgreSQL cannot store a NUL."""
    kept = "".join(c for c in text if c.isspace() or unicodedata.category(c) not in _DROPPED_CATEGORIES)
    return unicodedata.normalize("NFC", " ".join(kept.replace(_BYTE_ORDER_MARK, "").split()))


def with_trigger_word(caption: str | None, trigger_word: str | None) -> str:
    """The text to train on: the caption, led by the trigger word unless it has it as a word, in any case."""
    caption = caption or ""
    if not trigger_word:
        return caption
    if not caption:
        return trigger_word
    if re.search(rf"(?<!\w){re.escape(trigger_word)}(?!\w)", caption, re.IGNORECASE):
        return caption
    return f"{trigger_word}, {caption}"


def training_caption(caption: str | None, trigger_word: str | None, name: str) -> str:
    """What the trainer is given for a picture; it needs some text: without any, the name of what is learnt."""
    return with_trigger_word(caption, trigger_word) or name
