"""How long an optimisation runs and how fast it learns, by the clock: any machine does what it can in the time."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    seconds: float
    """Of computing, that of the runs which this one resumes included."""
    learning_rate: float
    """The highest one: reached after the warm-up, and left again along half a cosine."""
    warm_up_steps: int
    average_decay: float
    """Share of the averaged weights that a step leaves as they were."""
    last_rate_share: float = 0.02
    report_steps: int = 100
    save_seconds: float = 120

    def rate(self, step: int, seconds: float) -> float:
        """The learning rate of a step (from 0) that starts after so many seconds."""
        progress = min(1.0, seconds / self.seconds) if self.seconds > 0 else 1.0
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        slope = self.last_rate_share + (1 - self.last_rate_share) * cosine
        return self.learning_rate * min(1.0, (step + 1) / self.warm_up_steps) * slope

    def decay(self, step: int) -> float:
        """Of the average, which forgets faster at the start: the first weights are the worst."""
        return min(self.average_decay, (step + 1) / (step + 10))
