"""Describes pictures: `python child.py PARENT_PID SPEC`, run by SimpleTuner's Python.

Standard library, torch, transformers and Pillow are all it may use. SPEC is JSON: the keys of `api.captioner.spec`.
It reads a line of JSON for each picture, `{"path"}`, and answers with one: `{"caption"}`, or `{"code", "error"}` for a
picture that cannot be described. Before the first picture comes `{"ready": {...}}`, or `{"failed": {"code", "error"}}`.
It ends when its input does, and with its parent. What libraries print goes to the standard error output.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Protocol, TextIO

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Model(Protocol):
    def describe(self, image: Any) -> str: ...


def main(parent_pid: int, spec: dict[str, Any]) -> int:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        return 1  # it is gone already
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        model, about = _load(spec)
    except Exception as exc:  # noqa: BLE001  whatever it is, the parent is to be told
        _say(answers, {"failed": _trouble(exc, "captioner_not_loaded")})
        return 1
    _say(answers, {"ready": about})
    for line in sys.stdin:
        _say(answers, _answer(model, json.loads(line)["path"]))
    return 0


def _say(answers: TextIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _answer(model: Model, path: str) -> dict[str, Any]:
    from PIL import Image, ImageOps  # noqa: PLC0415  what is imported here is there only in SimpleTuner's Python

    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except Exception as exc:  # noqa: BLE001  Pillow raises all kinds of them
        return _trouble(exc, "image_unreadable")
    try:
        return {"caption": model.describe(image)}
    except Exception as exc:  # noqa: BLE001  one picture must not fail the rest
        return _trouble(exc, "caption_failed")


def _trouble(exc: Exception, code: str) -> dict[str, Any]:
    out_of_memory = type(exc).__name__ == "OutOfMemoryError" or isinstance(exc, MemoryError)
    return {"code": "captioner_out_of_memory" if out_of_memory else code, "error": str(exc) or type(exc).__name__}


# ---- the two families ----------------------------------------------------------------------------------------------


def _load(spec: dict[str, Any]) -> tuple[Model, dict[str, Any]]:
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    gpu = torch.cuda.is_available()
    dtype = getattr(torch, spec["cpu_dtype"])
    if gpu:
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    model = FAMILIES[spec["family"]](spec, "cuda:0" if gpu else "cpu", dtype)
    about = {"device": torch.cuda.get_device_name(0) if gpu else "cpu", "dtype": str(dtype).removeprefix("torch.")}
    return model, {**about, "transformers": transformers.__version__}


class Florence2:
    """Answers one of its task tokens; the same picture always gets the same words."""

    def __init__(self, spec: dict[str, Any], device: str, dtype: Any) -> None:
        from transformers import Florence2ForConditionalGeneration  # noqa: PLC0415

        self._spec = spec
        self._processor, self._model = _from_folder(Florence2ForConditionalGeneration, spec, device, dtype)

    def describe(self, image: Any) -> str:
        inputs = self._processor(text=self._spec["prompt"], images=image, return_tensors="pt")
        ids = _generate(self._model, inputs, self._spec, num_beams=3, do_sample=False)
        return _decoded(self._processor, ids[0])


class Llava:
    """JoyCaption is a chat: what its authors recommend for sampling, from a seed, so that it can be repeated."""

    def __init__(self, spec: dict[str, Any], device: str, dtype: Any) -> None:
        from transformers import LlavaForConditionalGeneration  # noqa: PLC0415

        self._spec = spec
        self._processor, self._model = _from_folder(LlavaForConditionalGeneration, spec, device, dtype)
        chat = [{"role": "system", "content": spec["system"]}, {"role": "user", "content": spec["prompt"]}]
        self._text = self._processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        size = self._processor.image_processor.size
        self._size = (size["width"], size["height"])

    def describe(self, image: Any) -> str:
        from PIL import Image  # noqa: PLC0415

        # Here, because the image processors of torchvision know no Lanczos and would take another filter.
        small = image.resize(self._size, Image.Resampling.LANCZOS)
        inputs = self._processor(text=[self._text], images=[small], return_tensors="pt")
        ids = _generate(self._model, inputs, self._spec, do_sample=True, temperature=0.6, top_p=0.9, top_k=None)
        return _decoded(self._processor, ids[0][inputs["input_ids"].shape[1] :])


FAMILIES: dict[str, Callable[[dict[str, Any], str, Any], Model]] = {"florence2": Florence2, "llava": Llava}


def _from_folder(kind: Any, spec: dict[str, Any], device: str, dtype: Any) -> tuple[Any, Any]:
    """Processor and model; safetensors only, nothing from the internet, no code from the folder."""
    from transformers import AutoProcessor  # noqa: PLC0415

    safely = {"local_files_only": True, "trust_remote_code": False}
    processor = AutoProcessor.from_pretrained(spec["folder"], **safely)
    # Straight onto the GPU: most machines have less memory of their own than JoyCaption takes.
    placed = {"device_map": {"": device}} if device != "cpu" else {}
    model = kind.from_pretrained(spec["folder"], dtype=dtype, use_safetensors=True, **safely, **placed)
    return processor, model.eval()


def _generate(model: Any, inputs: Any, spec: dict[str, Any], **how: Any) -> Any:
    import torch  # noqa: PLC0415

    torch.manual_seed(spec["seed"])
    inputs = inputs.to(model.device)
    inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    with torch.inference_mode():
        return model.generate(**inputs, max_new_tokens=spec["max_tokens"], **how)


def _decoded(processor: Any, ids: Any) -> str:
    text: str = processor.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text.strip()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), json.loads(sys.argv[2])))
