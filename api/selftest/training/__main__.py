"""`python -m api.selftest.training`: trains flux-tiny in stages; `scripts/train-flux-tiny` finds what it needs.

In the folder `--out`: `pool/` the drawn pictures, `state/` what `--resume` goes on from, `flux_tiny/` the result, laid
out as `api/engines/flux_tiny_files`. The result begins as a copy of `--start`: `decoder` and `transformer` train its
weights further, `vae` begins anew; as its latents are other ones, `transformer` then begins anew, too. With `--anew` it
does so by itself: only then is it true of its held-out pairs that it has never seen them.
"""

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel

from api.selftest.training import pool, text, transformer, vae, weights
from api.selftest.training.optimise import Optimisation, say
from api.selftest.training.schedule import Plan
from api.selftest.training.text import TextEncoders

STAGES = {"data": 0.0, "vae": 0.35, "decoder": 0.25, "transformer": 0.4}
"""In their order, with the share of `--minutes` that each gets when all are run."""
SEEDS = {"vae": 0, "decoder": 1, "transformer": transformer.SEED}
THREADS = 2


@dataclass(frozen=True, slots=True)
class Run:
    """What a stage needs to know."""

    out: Path
    comfy_source: Path
    scenes: int
    judged: int
    resume: bool
    anew: bool

    @property
    def pool(self) -> Path:
        return self.out / "pool"

    @property
    def result(self) -> Path:
        return self.out / "flux_tiny"

    def state(self, stage: str) -> Path:
        return self.out / "state" / f"{stage}.pt"


def main() -> None:
    options = _options()
    torch.set_num_threads(THREADS)
    run = Run(options.out, options.comfy_source, options.scenes, options.judged, options.resume, options.anew)
    if not run.result.exists():
        shutil.copytree(options.start, run.result)
    stages = {"data": draw_data, "vae": train_vae, "decoder": train_decoder, "transformer": train_transformer}
    for name in stages if options.stage == "all" else [options.stage]:
        minutes = options.minutes * (STAGES[name] if options.stage == "all" else 1)
        say(f"== {name}" + (f", {minutes:.1f} min" if name != "data" else ""))
        stages[name](run, minutes * 60)


def draw_data(run: Run, _seconds: float) -> None:
    """The pictures, and the layers of the text encoders that never change."""
    counts = {kind: max(1, int(run.scenes * share)) for kind, share in pool.SHARES.items()}
    pool.draw(run.pool, counts)
    text.save_layers(text.make_t5(), run.result / "text_encoder_2", text.T5_EMBEDDING)
    text.save_layers(text.make_clip(), run.result / "text_encoder", text.CLIP_EMBEDDING)
    say(", ".join(f"{count} of {kind}" for kind, count in counts.items()))


def train_vae(run: Run, seconds: float) -> None:
    torch.manual_seed(SEEDS["vae"])
    trained = weights.build(AutoencoderKL, run.result / "vae")
    vae.train_whole(trained, run.pool, _optimisation(run, "vae", trained, vae.whole_plan(seconds)))
    weights.save(trained, run.result / "vae")
    (run.result / "transformer" / weights.WEIGHTS).unlink(missing_ok=True)
    vae.report_quality(trained, run.judged)


def train_decoder(run: Run, seconds: float) -> None:
    trained = weights.load(AutoencoderKL, run.result / "vae")
    vae.report_quality(trained, run.judged)
    optimisation = _optimisation(run, "decoder", trained.decoder, vae.decoder_plan(seconds))
    vae.train_decoder(trained, run.pool, optimisation)
    weights.save(trained, run.result / "vae")
    vae.report_quality(trained, run.judged)


def train_transformer(run: Run, seconds: float) -> None:
    folder = run.result / "transformer"
    codec = weights.load(AutoencoderKL, run.result / "vae").eval()
    encoders = TextEncoders(run.comfy_source)
    examples = transformer.encode_pool(run.pool, codec, encoders)
    if (folder / weights.WEIGHTS).exists() and not run.anew:
        trained, plan = weights.load(FluxTransformer2DModel, folder), transformer.further_plan(seconds)
        transformer.report_accuracy(trained, codec, encoders, run.judged)
    else:
        torch.manual_seed(SEEDS["transformer"])
        trained, plan = weights.build(FluxTransformer2DModel, folder), transformer.fresh_plan(seconds)
        transformer.zero_outputs(trained)
    optimisation = _optimisation(run, "transformer", trained, plan, transformer.WEIGHT_DECAY)
    optimisation.run(transformer.loss_on(trained, *examples))
    weights.save(trained, folder)
    transformer.report_accuracy(trained, codec, encoders, run.judged)


def _optimisation(run: Run, stage: str, module: torch.nn.Module, plan: Plan, weight_decay: float = 0.0) -> Optimisation:
    optimisation = Optimisation(module, plan, run.state(stage), SEEDS[stage], weight_decay)
    if run.resume:
        optimisation.resume()
    return optimisation


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="train-flux-tiny", description="Train flux-tiny from drawn pictures.")
    parser.add_argument("--stage", choices=[*STAGES, "all"], default="all")
    parser.add_argument("--minutes", type=float, default=60, help="of computing, earlier runs included (default: 60)")
    parser.add_argument("--out", type=Path, default=Path("data/flux-tiny-training"), help="(default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on with the stage where it was saved last")
    parser.add_argument("--anew", action="store_true", help="begin the transformer from random weights")
    parser.add_argument("--scenes", type=int, default=48_000, help="captioned pictures to draw (default: 48000)")
    parser.add_argument("--judged", type=int, default=108, help="pictures to judge each result by (default: 108)")
    parser.add_argument("--comfy-source", type=Path, required=True, help="`comfy/` of a ComfyUI, for its tokenizers")
    parser.add_argument("--start", type=Path, required=True, help="weights that a new --out begins with")
    options = parser.parse_args()
    if options.stage not in ("data", "all") and not (options.out / "pool").is_dir():
        parser.error(f"there are no pictures in {options.out}: run --stage data first")
    return options


if __name__ == "__main__":
    main()
