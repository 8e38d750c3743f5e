"""`masuka demo`: the main job end to end, through the real API of a service of its own."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

from api.client import Api
from api.commands.console import console, follow_with_bar, reporting
from api.commands.demo_checkpoints import Checkpoints
from api.commands.demo_service import Service, start_service
from api.commands.demo_sheet import columns, learnt_sheet
from api.commands.setup import install_all
from api.commands.work import model_of
from api.errors import MasukaError
from api.selftest.dataset import TrainingRecipe, make_dataset
from api.selftest.sheet import pixel_difference
from api.settings import load_settings

READY_SECONDS = 120.0
TINY = "flux-tiny"
PROMPT = "a photo of ohwx on a blue background"
SEED = 1
CHECKPOINTS = 3
"""Of a training of other than the recipe's length, the finished LoRA included."""
DRAWING = {"width": 64, "height": 64, "num_inference_steps": 12}


@dataclass
class Timings:
    """Seconds of each stage, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began


@dataclass(frozen=True, slots=True)
class Result:
    without: Path
    with_lora: Path
    lora: Path
    checkpoints: dict[int, Path]
    """The LoRA after so many steps, before the last one."""
    sheet: Path | None
    """Only for the drawn pictures, whose prompts are known."""

    @property
    def difference(self) -> float:
        with Image.open(self.without) as a, Image.open(self.with_lora) as b:
            return pixel_difference(a, b)


def demo(
    images: Annotated[Path | None, typer.Option(exists=True, help="Your own pictures; default: drawn ones.")] = None,
    base_model: Annotated[str, typer.Option(help="flux-tiny on any machine; flux-dev with a GPU and HF_TOKEN.")] = TINY,
    prompt: Annotated[str | None, typer.Option(help="What to draw with the LoRA.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the service running.")] = False,
) -> None:
    """Upload pictures, train a LoRA, draw with it and without it, and show where everything is."""
    timings = Timings()
    with reporting():
        settings = load_settings()
        folder = settings.masuka_data_dir / "demo"
        with timings.stage("install"):
            install_all(settings, ["comfyui", "simpletuner", base_model])
        with timings.stage("start"):
            service = start_service(settings, folder)
            try:
                client = Api(service.url, settings.api_token)
                client.wait_ready(READY_SECONDS)
            except BaseException:
                service.stop()
                raise
        try:
            with client:
                result = _main_job(client, service, folder, Wishes(images, base_model, prompt, steps), timings)
        except BaseException:
            service.stop()
            raise
        if not keep:
            service.stop()
        _show(result, timings, service if keep else None)


@dataclass(frozen=True, slots=True)
class Wishes:
    images: Path | None
    base_model: str
    prompt: str | None
    steps: int | None

    @property
    def tiny(self) -> bool:
        return self.base_model == TINY

    def training(self) -> dict[str, Any]:
        """flux-tiny by the recipe it was made for; a real base model by the service's defaults."""
        chosen: dict[str, Any] = asdict(TrainingRecipe()) if self.tiny else {}
        if self.steps is not None:
            chosen |= {"steps": self.steps}
            chosen.pop("lr_warmup_steps", None)  # the recipe's may be longer than that
            if self.tiny:
                chosen["checkpoint_interval"] = -(-self.steps // CHECKPOINTS)
        return {**chosen, "base_model": self.base_model}

    def drawing(self) -> dict[str, Any]:
        size = DRAWING if self.tiny else {}
        return {**size, "prompt": self.prompt or PROMPT, "seed": SEED, "base_model": self.base_model}


def _main_job(client: Api, service: Service, folder: Path, wishes: Wishes, timings: Timings) -> Result:
    """Photos in, LoRA trained, pictures out. Raises MasukaError."""
    with timings.stage("pictures"):
        photos = wishes.images
        if photos is None:
            photos = folder / "photos"
            shutil.rmtree(photos, ignore_errors=True)
            make_dataset(photos)
    with timings.stage("upload"), console.status("Uploading the pictures"):
        # The drawn captions carry the trigger word themselves; your own pictures get it in front of theirs.
        fields = {"name": "demo"} if wishes.images is None else {"name": "demo", "trigger_word": "ohwx"}
        dataset = client.upload_dataset(photos, fields)
        console.print(f"Uploaded {dataset['image_count']} pictures as dataset {dataset['id']}", highlight=False)
    with timings.stage("training"):
        session = client.post("/api/training/flux", {"dataset_id": dataset["id"], "name": "demo", **wishes.training()})
        checkpoints = _checkpoints(service, folder, session)
        follow_with_bar(client, session["id"], "Training the LoRA", checkpoints.keep_new)
    model = model_of(client, session["id"])
    with timings.stage("picture without LoRA"):
        without = _draw(client, folder / "without-lora.png", wishes.drawing())
    with timings.stage("picture with LoRA"):
        with_lora = _draw(client, folder / "with-lora.png", {**wishes.drawing(), "model_id": model["id"]})
    lora = client.download(f"/api/models/{model['id']}/file", folder / model["file_name"])
    sheet = None
    if wishes.tiny and wishes.images is None:
        with timings.stage("contact sheet"):
            table = columns(model["id"], checkpoints.as_models(client, wishes.base_model))
            sheet = learnt_sheet(client, table, wishes.drawing(), folder / "pictures", folder / "contact-sheet.png")
    return Result(without, with_lora, lora, checkpoints.kept, sheet)


def _checkpoints(service: Service, folder: Path, session: dict[str, Any]) -> Checkpoints:
    """Those that the training will have."""
    config = session["config"]
    steps = range(config["checkpoint_interval"], config["steps"], config["checkpoint_interval"])
    return Checkpoints(service.workdir(session["id"]), folder / "checkpoints", steps)


def _draw(client: Api, destination: Path, body: dict[str, Any]) -> Path:
    started = client.post("/api/generate/image", body)
    follow_with_bar(client, started["asset_id"], f"Drawing {destination.stem}")
    return client.download(f"/api/assets/{started['asset_id']}/file", destination)


def _show(result: Result, timings: Timings, service: Service | None) -> None:
    lines = {
        "without LoRA": result.without,
        "with LoRA": result.with_lora,
        **{f"LoRA after {step} steps": path for step, path in result.checkpoints.items()},
        "LoRA": result.lora,
        **({"contact sheet": result.sheet} if result.sheet else {}),
        "pixel difference": f"{result.difference:.1f} of 255",
        **{f"time: {name}": f"{seconds:.1f} s" for name, seconds in timings.seconds.items()},
        "time in all": f"{sum(timings.seconds.values()):.1f} s",
    }
    for name, value in lines.items():
        console.print(f"{name:>26}: {value}", soft_wrap=True, highlight=False, markup=False)
    if service is not None:
        console.print(
            f"The service goes on at {service.url}; stop it with: kill {service.process.pid}", highlight=False
        )
    if result.difference == 0:
        raise MasukaError("The LoRA changed nothing.", code="lora_without_effect", hint="See the service's log.")
