"""The third cell: a prompt becomes pictures, shown where it was written."""

from collections.abc import Mapping
from typing import Any

from api.colab import gallery, watching
from api.colab.client import Api
from api.colab.errors import NotebookError
from api.colab.show import Live

TINY = {"width": 64, "height": 64, "num_inference_steps": 12}
RANDOM_SEED = -1
NEWEST, NONE = "newest", "none"


def wishes_of(base_model: str, wishes: Mapping[str, Any]) -> dict[str, Any]:
    """Those that were made, for this base model: 0 and nothing are none, a seed of -1 is random."""
    made = {
        name: value
        for name, value in wishes.items()
        if value not in (None, "") and not (value == 0 and name not in ("seed", "lora_scale"))
    }
    if made.get("seed") == RANDOM_SEED:
        del made["seed"]
    return {**(TINY if base_model == "flux-tiny" else {}), "base_model": base_model, **made}


def generate(api: Api, prompt: str, model: str, wishes: Mapping[str, Any]) -> list[str]:
    """Raises NotebookError when a picture failed. After an interrupt they are drawn all the same."""
    if not prompt.strip():
        raise NotebookError("There is nothing to draw.", code="prompt_missing", hint="Set PROMPT.")
    chosen = _model(api, model)
    started = api.post("/api/generate/image", {"prompt": prompt, **wishes, **({"model_id": chosen} if chosen else {})})
    ids: list[str] = started["asset_ids"]
    live = Live()
    if started["warnings"]:
        Live().text("\n".join(started["warnings"]))
    for number, asset_id in enumerate(ids, start=1):
        try:
            last = watching.follow(api, asset_id, live, f"Picture {number} of {len(ids)}")
        except KeyboardInterrupt:
            live.text("They are drawn all the same; ACTION = list shows them.")
            return ids
        if last["status"] != "completed":
            message = f"Picture {number}: {last['error_message'] or last['status']}"
            raise NotebookError(message, code=last["error_code"] or "picture_cancelled", hint=last["hint"])
    gallery.show(api, [api.get(f"/api/assets/{asset_id}") for asset_id in ids])
    return ids


def _model(api: Api, wish: str) -> str | None:
    """The id of a LoRA by its id or name, `newest`, or `none`; without any LoRA, the newest is none."""
    if wish in ("", NONE):
        return None
    models = list(api.every("/api/models/"))
    fitting = [each for each in models if wish in (NEWEST, each["id"], each["name"])]
    if fitting:
        return str(fitting[0]["id"])
    if wish == NEWEST:
        return None
    raise NotebookError(
        f"There is no LoRA {wish!r}.",
        code="model_not_found",
        value=wish,
        hint=f"There are: {', '.join(each['name'] for each in models) or 'none'}.",
    )
