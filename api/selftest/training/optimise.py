"""The training loop that all stages share: AdamW by a plan, averaged weights, a state on disk to resume from."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from api.selftest.training.schedule import Plan

Loss = Callable[[torch.Generator], Tensor]
"""Of one batch, which it draws by the generator."""

_BETAS = (0.9, 0.98)
_GRADIENT_LIMIT = 1.0
_SMOOTHING = 0.98


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Optimisation:
    """One module on its way. Everything that decides the next step is in its state."""

    def __init__(self, module: nn.Module, plan: Plan, state_file: Path, seed: int, weight_decay: float = 0.0) -> None:
        self.module, self.plan, self.state_file = module, plan, state_file
        parameters = [p for p in module.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(parameters, lr=plan.learning_rate, betas=_BETAS, weight_decay=weight_decay)
        self.average = {name: value.detach().clone() for name, value in module.state_dict().items()}
        self.random = torch.Generator().manual_seed(seed)
        self.step, self.seconds = 0, 0.0

    def resume(self) -> None:
        """Go on where the state on disk was saved; from the start when there is none."""
        if not self.state_file.exists():
            return
        state = torch.load(self.state_file, weights_only=True)
        self.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average, self.step, self.seconds = state["average"], state["step"], state["seconds"]
        self.random.set_state(state["random"])
        say(f"resumed after step {self.step}, {self.seconds:.0f} s")

    def save(self) -> None:
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        part = self.state_file.with_suffix(".part")
        torch.save(
            {
                "module": self.module.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "average": self.average,
                "random": self.random.get_state(),
                "step": self.step,
                "seconds": self.seconds,
            },
            part,
        )
        part.replace(self.state_file)

    def run(self, loss_of: Loss) -> None:
        """Use up the plan's time; afterwards the module holds the averaged weights."""
        smooth, saved = None, self.seconds
        while self.seconds < self.plan.seconds:
            started = time.monotonic()
            loss = self._take_step(loss_of)
            self.seconds += time.monotonic() - started
            smooth = loss if smooth is None else _SMOOTHING * smooth + (1 - _SMOOTHING) * loss
            if self.step % self.plan.report_steps == 0:
                rate = self.plan.rate(self.step, self.seconds)
                say(f"{self.seconds:6.0f} s  step {self.step:6}  loss {smooth:.4f}  rate {rate:.1e}")
            if self.seconds - saved > self.plan.save_seconds:
                saved = self.seconds
                self.save()
        self.save()
        self.module.load_state_dict(self.average)

    def _take_step(self, loss_of: Loss) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate(self.step, self.seconds)
        loss = loss_of(self.random)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), _GRADIENT_LIMIT)
        self.optimiser.step()
        with torch.no_grad():
            values = list(self.module.state_dict().values())
            torch._foreach_lerp_(list(self.average.values()), values, 1 - self.plan.decay(self.step))
        self.step += 1
        return float(loss.item())
