"""What a benchmark has measured, in numbers that may be published."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

BYTES_PER_MB, BYTES_PER_KB = 1000**2, 1000
P99_NEEDS = 1000
"""Of fewer values the 99th percentile is a matter of ten of them at most, so it is not given."""


@dataclass(frozen=True, slots=True)
class Series:
    """One quantity, measured again and again."""

    name: str
    unit: str
    values: tuple[float, ...]

    def quantile(self, share: float) -> float:
        """By the nearest rank. Raises ValueError for no values."""
        if not self.values:
            raise ValueError(f"nothing was measured of {self.name}")
        ordered = sorted(self.values)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    def figures(self) -> dict[str, float | int | str]:
        """n, p50, p95, largest; p99 where it means something."""
        found: dict[str, float | int | str] = {"unit": self.unit, "n": len(self.values)}
        found |= {"p50": _short(self.quantile(0.5)), "p95": _short(self.quantile(0.95))}
        if len(self.values) >= P99_NEEDS:
            found["p99"] = _short(self.quantile(0.99))
        return {**found, "max": _short(max(self.values))}


@dataclass(frozen=True, slots=True)
class Fact:
    """One number, with the target that it should meet, where there is one."""

    name: str
    unit: str
    value: float
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool | None:
        """None without a target."""
        if self.at_most is None and self.at_least is None:
            return None
        above = self.at_most is None or self.value <= self.at_most
        return above and (self.at_least is None or self.value >= self.at_least)

    @property
    def target(self) -> str:
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return "" if self.at_least is None else f"at least {self.at_least:g}"

    def figures(self) -> dict[str, float | str | bool]:
        found: dict[str, float | str | bool] = {"unit": self.unit, "value": _short(self.value)}
        return found if self.met is None else {**found, "target": self.target, "met": self.met}


@dataclass(frozen=True, slots=True)
class Result:
    """Of one benchmark."""

    series: Sequence[Series] = ()
    facts: Sequence[Fact] = ()
    about: Mapping[str, str | int | float] = field(default_factory=dict)
    """What was done, as far as it can be chosen."""

    def figures(self) -> dict[str, object]:
        return {
            "about": dict(self.about),
            "series": {each.name: each.figures() for each in self.series},
            "facts": {each.name: each.figures() for each in self.facts},
        }


def compared(
    name: str, ours: Series, theirs: Series, *, p50: float | None = None, p95: float | None = None
) -> list[Fact]:
    """How much more ours takes, and how many times as much; `p50` and `p95` are the most that it should be."""
    more = {share: ours.quantile(share) - theirs.quantile(share) for share in (0.5, 0.95)}
    return [
        Fact(f"{name}, p50", ours.unit, more[0.5], at_most=p50),
        Fact(f"{name}, p95", ours.unit, more[0.95], at_most=p95),
        Fact(f"{name}, ratio of p50", "x", ours.quantile(0.5) / theirs.quantile(0.5)),
    ]


def milliseconds(seconds: Iterable[float]) -> tuple[float, ...]:
    return tuple(1000 * each for each in seconds)


def _short(value: float) -> float:
    """Three digits: no measurement here has more in it."""
    return float(f"{value:.3g}")
