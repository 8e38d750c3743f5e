"""What is said about the caption of one picture. Pure."""

import re
from collections.abc import Iterator

from api.domain.caption import with_trigger_word
from api.domain.clip_tokens import CLIP_TOKENS
from api.domain.intake import CaptionSource
from api.domain.verdict import Verdict, advice, warning

_OVERLAYS = re.compile(
    r"\b(watermark|signature|logo|text overlay|subtitles?|copyright|stock photo)\w*\b", re.IGNORECASE
)


def about_caption(caption: str, source: str, trigger_word: str | None, tokens: int | None) -> Iterator[Verdict]:
    """`caption` as it is stored; `tokens` of the text that is trained on, None when they cannot be counted."""
    if not _without(trigger_word, caption):
        if source == CaptionSource.NONE:
            code, message = "caption_missing", "It has no caption."
        else:
            code, message = "caption_empty", "Its caption says nothing."
        yield warning(code, message, "Say what is to be seen besides the subject; else that is learnt as part of it.")
    elif trigger_word and with_trigger_word(caption, trigger_word) != caption:
        yield advice("caption_without_trigger_word", f"Its caption lacks {trigger_word!r}, which will be put in front.")
    if tokens is not None and tokens > CLIP_TOKENS:
        yield advice(
            "caption_too_long",
            f"Its caption has {tokens} tokens; CLIP reads the first {CLIP_TOKENS}, and only T5 the rest.",
            "Put what matters first, or shorten it.",
        )
    if found := _OVERLAYS.search(caption):
        yield advice(
            "caption_names_overlay",
            f"Its caption speaks of a {found[1].lower()}; the LoRA may learn to draw it.",
            "Remove that from the picture, unless it is what you want.",
        )


def _without(trigger_word: str | None, caption: str) -> str:
    """What of the caption is left without the trigger word and signs."""
    left = (
        re.sub(rf"(?<!\w){re.escape(trigger_word)}(?!\w)", "", caption, flags=re.IGNORECASE)
        if trigger_word
        else caption
    )
    return re.sub(r"[\W_]+", "", left)
