"""When a child that says nothing is taken for hung."""


class Silence:
    """Counts the looks at a child that found no sign of life.

    Looks, and not time: while a laptop sleeps its clock goes on, but nobody looks. The first sign may take longer,
    for a program is loaded before it can give one.
    """

    def __init__(self, looks: int, first_looks: int) -> None:
        self._looks = looks
        self._left = first_looks

    def look(self, sign: bool) -> bool:
        """Whether the child hangs, now that this look has found a sign of life or none."""
        self._left = self._looks if sign else self._left - 1
        return self._left <= 0
