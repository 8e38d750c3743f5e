"""`masuka train`, `generate` and `list`: what a person does all day, as clients of the API."""

from pathlib import Path
from typing import Annotated, Any

import typer

from api.client import Api
from api.commands.console import JsonOption, UrlOption, api, console, follow_with_bar, print_json, print_table
from api.errors import InputError

LISTS = {
    "datasets": ("/api/datasets/", ("id", "name", "image_count", "created_at")),
    "sessions": ("/api/training/", ("id", "name", "status", "current_step", "total_steps", "created_at")),
    "models": ("/api/models/", ("id", "name", "base_model", "trigger_word", "file_size_mb", "created_at")),
    "assets": ("/api/assets/", ("id", "status", "prompt", "created_at")),
    "jobs": ("/api/jobs/", ("id", "kind", "status", "attempt", "error_code", "created_at")),
}


def train(
    images: Annotated[Path, typer.Argument(exists=True, help="Folder of pictures (and captions), or a zip of one.")],
    name: Annotated[str | None, typer.Option(help="Name of the LoRA; default: the folder's.")] = None,
    trigger_word: Annotated[str | None, typer.Option(help="The word that will stand for the subject.")] = None,
    base_model: Annotated[str | None, typer.Option(help="flux-dev or flux-tiny.")] = None,
    preset: Annotated[str | None, typer.Option(help="Such as 24gb-person: what is not said here is as in it.")] = None,
    steps: Annotated[int | None, typer.Option()] = None,
    rank: Annotated[int | None, typer.Option()] = None,
    alpha: Annotated[float | None, typer.Option()] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    resolution: Annotated[int | None, typer.Option()] = None,
    batch_size: Annotated[int | None, typer.Option()] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Upload pictures, train a LoRA on them, and wait for it. Ctrl-C stops the waiting, not the training."""
    with api(url, as_json) as client:
        label = name or images.stem
        fields = {"name": label, **({"trigger_word": trigger_word} if trigger_word else {})}
        dataset = client.upload_dataset(images, fields)
        wishes = {
            "base_model": base_model,
            "preset": preset,
            "steps": steps,
            "rank": rank,
            "alpha": alpha,
            "learning_rate": learning_rate,
            "resolution": resolution,
            "batch_size": batch_size,
            "seed": seed,
        }
        chosen = {key: value for key, value in wishes.items() if value is not None}
        session = client.post("/api/training/flux", {"dataset_id": dataset["id"], "name": label, **chosen})
        _follow(client, session["id"], f"Training {label}", as_json)
        model = model_of(client, session["id"])
        if as_json:
            print_json({"dataset": dataset["id"], "session": session["id"], "model": model})
        else:
            console.print(f"Trained [bold]{model['name']}[/]: model {model['id']}, file {model['file_name']}")


def model_of(client: Api, session_id: str) -> dict[str, Any]:
    """The LoRA that a session has made."""
    for model in client.get("/api/models/", limit=200)["items"]:
        if model["training_session_id"] == session_id:
            return dict(model)
    raise InputError("This session has made no model.", code="model_not_found", value=session_id)


def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    model: Annotated[str | None, typer.Option(help="Id of the LoRA.")] = None,
    base_model: Annotated[str | None, typer.Option()] = None,
    lora_scale: Annotated[float | None, typer.Option()] = None,
    width: Annotated[int | None, typer.Option()] = None,
    height: Annotated[int | None, typer.Option()] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    num_images: Annotated[int | None, typer.Option()] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path(),
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make pictures, wait for them, and save them."""
    with api(url, as_json) as client:
        wishes = {
            "model_id": model,
            "base_model": base_model,
            "lora_scale": lora_scale,
            "width": width,
            "height": height,
            "num_inference_steps": steps,
            "seed": seed,
            "num_images": num_images,
        }
        chosen = {key: value for key, value in wishes.items() if value is not None}
        started = client.post("/api/generate/image", {"prompt": prompt, **chosen})
        saved = []
        for number, asset_id in enumerate(started["asset_ids"], start=1):
            _follow(client, asset_id, f"Picture {number}", as_json)
            saved.append(str(client.download(f"/api/assets/{asset_id}/file", (out / f"{asset_id}.png").absolute())))
        if as_json:
            print_json({**started, "files": saved})
        else:
            for line in (*started["warnings"], *saved):
                console.print(line, soft_wrap=True, highlight=False, markup=False)


def _follow(client: Api, any_id: str, what: str, as_json: bool) -> None:
    console.quiet = as_json
    follow_with_bar(client, any_id, what)
    console.quiet = False


def list_(
    what: Annotated[str, typer.Argument(help="datasets, sessions, models, assets or jobs.")],
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """The newest rows of one kind."""
    with api(url, as_json) as client:
        if what not in LISTS:
            raise InputError(
                f"There is no list of {what!r}.",
                code="list_unknown",
                value=what,
                hint=f"Choose one of: {', '.join(LISTS)}.",
            )
        path, columns = LISTS[what]
        found = client.get(path, limit=limit)
        if as_json:
            print_json(found)
        else:
            print_table(what, columns, ([row[column] for column in columns] for row in found["items"]))
