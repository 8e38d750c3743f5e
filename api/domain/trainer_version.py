"""What the versions of SimpleTuner can and cannot do."""

FIRST_THAT_TAKES_WISHES = "4.8"


def takes_wishes(version: str) -> bool:
    """Whether it saves and draws when asked, by a file that it looks at after each step."""
    return _numbers(version) >= _numbers(FIRST_THAT_TAKES_WISHES)


def _numbers(version: str) -> tuple[int, ...]:
    """The first two: `4.8.0` is (4, 8); whatever is no number there is 0."""
    parts = [*version.split("."), "0"][:2]
    return tuple(int(part) if part.isdecimal() else 0 for part in parts)
