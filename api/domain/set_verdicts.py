"""What is said about a dataset as a whole. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from enum import StrEnum

from api.domain.verdict import Verdict, advice, error, warning

LEAST_TO_LEARN = 5
MOSTLY = 0.5


class Subject(StrEnum):
    PERSON = "person"
    STYLE = "style"
    PRODUCT = "product"


ADVISED = {Subject.PERSON: (20, 30), Subject.STYLE: (30, 100), Subject.PRODUCT: (15, 40)}
"""(fewest, most) pictures that are usual for a good LoRA."""


def about_set(
    pictures: int, subject: Subject, trigger_word: str | None, captions: Sequence[str], unmeasured: int
) -> Iterator[Verdict]:
    """`captions` as they are trained on; `unmeasured`: pictures whose pixels could not be looked at in time."""
    if pictures == 0:
        yield error("no_images", "There are no pictures.", "Upload some.")
        return
    fewest, most = ADVISED[subject]
    count = "is 1 picture" if pictures == 1 else f"are {pictures} pictures"
    size = f"There {count}; {fewest} to {most} are usual for a {subject}."
    if pictures < LEAST_TO_LEARN:
        yield warning("too_few_images", size, "Add different views; so few are learnt by heart.")
    elif pictures < fewest:
        yield advice("few_images", size, "Add different views, light and backgrounds.")
    elif pictures > most:
        yield advice("many_images", size, "Fewer, better ones are often enough; else train for more steps.")
    if not trigger_word and subject is not Subject.STYLE:
        yield advice(
            "no_trigger_word", "There is no trigger word.", "A rare word makes it possible to call the subject."
        )
    ((text, times),) = Counter(captions).most_common(1)
    if pictures >= LEAST_TO_LEARN and times > MOSTLY * pictures and text != trigger_word:
        yield advice("same_captions", f"{times} pictures have the same caption.", "Say what is different in each.")
    if unmeasured:
        yield advice(
            "not_all_measured", f"The pixels of {unmeasured} pictures were not looked at.", "Ask for the report again."
        )
