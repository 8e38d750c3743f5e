"""The words that LoRAs listen to, in the prompt that is sent."""

import re
from collections.abc import Iterable


def with_trigger_words(prompt: str, words: Iterable[str | None]) -> str:
    """The prompt with every trigger word in front of it that it does not hold already as words of its own.

    Case and the amount of space between words do not count.
    """
    missing: list[str] = []
    for word in words:
        if word and word.strip() and not _holds(", ".join([*missing, prompt]), word):
            missing.append(" ".join(word.split()))
    return ", ".join([*missing, prompt] if prompt.strip() else missing) or prompt


def _holds(text: str, word: str) -> bool:
    pattern = r"\s+".join(re.escape(part) for part in word.split())
    return re.search(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE) is not None
