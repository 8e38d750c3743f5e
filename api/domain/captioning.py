"""Which captioners there are, what they are asked, and whose captions they may replace. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from api.domain.intake import CaptionSource
from api.errors import InputError


class CaptionerName(StrEnum):
    """Also the `caption_source` of what each has written."""

    FLORENCE_2 = "florence-2"
    JOYCAPTION = "joycaption"


class Overwrite(StrEnum):
    """Which captions that are there already a captioning replaces."""

    NOTHING = "nothing"
    GENERATED = "generated"
    EVERYTHING = "everything"


class ImageStatus(StrEnum):
    """What became of one image of a captioning."""

    PENDING = "pending"
    CAPTIONED = "captioned"
    FAILED = "failed"
    KEPT = "kept"
    """Its caption was changed, or it was removed, after the captioning was asked for: the owner's word counts."""


@dataclass(frozen=True, slots=True)
class Wording:
    """What a captioner is asked."""

    style: str | None
    """None for words of the owner's own."""
    prompt: str


STYLES: dict[CaptionerName, dict[str, str]] = {
    # The tasks that the model was trained on; it understands no other words.
    CaptionerName.FLORENCE_2: {
        "caption": "<CAPTION>",
        "detailed_caption": "<DETAILED_CAPTION>",
        "more_detailed_caption": "<MORE_DETAILED_CAPTION>",
    },
    # As its authors document them: it was trained on these very words, and follows others less well.
    CaptionerName.JOYCAPTION: {
        "descriptive": "Write a detailed description for this image.",
        "descriptive_casual": "Write a descriptive caption for this image in a casual tone.",
        "straightforward": (
            "Write a straightforward caption for this image. Begin with the main subject and medium. Mention pivotal "
            "elements—people, objects, scenery—using confident, definite language. Focus on concrete details like "
            "color, shape, texture, and spatial relationships. Show how elements interact. Omit mood and speculative "
            "wording. If text is present, quote it exactly. Note any watermarks, signatures, or compression "
            "artifacts. Never mention what's absent, resolution, or unobservable details. Vary your sentence "
            "structure and keep the description concise, without starting with “This image is…” or similar phrasing."
        ),
        "stable_diffusion_prompt": (
            "Output a stable diffusion prompt that is indistinguishable from a real stable diffusion prompt."
        ),
        "midjourney": "Write a MidJourney prompt for this image.",
        "danbooru_tags": (
            "Generate only comma-separated Danbooru tags (lowercase_underscores). Strict order: `artist:`, "
            "`copyright:`, `character:`, `meta:`, then general tags. Include counts (1girl), appearance, clothing, "
            "accessories, pose, expression, actions, background. Use precise Danbooru syntax. No extra text."
        ),
        "booru_like_tags": "Write a list of Booru-like tags for this image.",
        "art_critic": (
            "Analyze this image like an art critic would with information about its composition, style, symbolism, "
            "the use of color, light, any artistic movement it might belong to, etc."
        ),
        "product_listing": "Write a caption for this image as though it were a product listing.",
        "social_media_post": "Write a caption for this image as if it were being used for a social media post.",
    },
}
DEFAULT_STYLE = {CaptionerName.FLORENCE_2: "detailed_caption", CaptionerName.JOYCAPTION: "straightforward"}


def wording(captioner: CaptionerName, *, style: str | None, prompt: str | None, usual_style: str | None) -> Wording:
    """What to ask; `usual_style` is the dataset's, which counts where the captioner has it.

    Raises InputError `style_unknown`, `style_and_prompt` or `prompt_not_understood`.
    """
    styles = STYLES[captioner]
    if prompt is not None:
        if style is not None:
            raise InputError("Give either a style or a prompt.", code="style_and_prompt", value=style)
        if captioner is CaptionerName.FLORENCE_2:
            raise InputError(
                "Florence-2 understands no prompts, only its styles.",
                code="prompt_not_understood",
                value=prompt,
                hint=f"Choose one of: {', '.join(styles)}; or take joycaption.",
            )
        return Wording(None, prompt)
    chosen = style or (usual_style if usual_style in styles else None) or DEFAULT_STYLE[captioner]
    if chosen not in styles:
        raise InputError(
            f"{captioner} has no style {chosen!r}.",
            code="style_unknown",
            value=chosen,
            hint=f"Choose one of: {', '.join(styles)}.",
        )
    return Wording(chosen, styles[chosen])


def is_wanted(caption: str, source: str, overwrite: Overwrite) -> bool:
    """Whether an image with this caption is to have another one. A trigger word alone, put there for want of a
    caption, is none."""
    if overwrite is Overwrite.EVERYTHING or not caption or source in ("", CaptionSource.NONE):
        return True
    return overwrite is Overwrite.GENERATED and source in set(CaptionerName)
