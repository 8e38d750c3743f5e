"""Find and replace in captions."""

import re

from pydantic import BaseModel, ConfigDict, Field

from api.domain.caption import clean_caption
from api.domain.text import Text

MAX_CAPTION_CHARACTERS = 16_384


class Replacement(BaseModel):
    """What to look for, and what to put there; both as they are, without patterns."""

    model_config = ConfigDict(extra="forbid")

    find: Text = Field(min_length=1, max_length=1000)
    replace: Text = Field("", max_length=1000)
    match_case: bool = True
    whole_words: bool = Field(False, description="`man` is then not found in `woman`.")

    def apply(self, caption: str) -> tuple[str, int]:
        """The caption as it would be, cleaned where it has changed, and how often something was found."""
        changed, found = self._pattern().subn(lambda _: self.replace, caption)
        return (clean_caption(changed), found) if found else (caption, 0)

    def _pattern(self) -> re.Pattern[str]:
        pattern = re.escape(self.find)
        if self.whole_words:
            pattern = rf"(?<!\w){pattern}(?!\w)"
        return re.compile(pattern, 0 if self.match_case else re.IGNORECASE)
