"""What may be asked of a workflow: a template of one's own, and a run of any."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from api.domain.generation import MAX_IMAGES, MAX_LORAS, LoraChoice
from api.domain.text import Name, Text, storable_json
from api.domain.webhook import WebhookUrl

WorkflowName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$"),
    Field(description="Small letters, digits, `_` and `-`.", examples=["flux_text_to_image"]),
]
GRAPH_EXAMPLE: dict[str, Any] = {
    "1": {
        "inputs": {"ckpt_name": "my.safetensors"},
        "class_type": "CheckpointLoaderSimple",
        "_meta": {"title": "Base model [[@loras]]"},
    },
    "2": {
        "inputs": {"text": "a cat", "clip": ["1", 1]},
        "class_type": "CLIPTextEncode",
        "_meta": {"title": "[[text=prompt]]"},
    },
}


class WorkflowForm(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"example": {"name": "my_flow", "title": "My flow", "graph": GRAPH_EXAMPLE}},
    )

    name: WorkflowName
    title: Name | None = None
    description: Annotated[Text, Field(max_length=2000)] = ""
    graph: Annotated[
        dict[str, Any],
        AfterValidator(storable_json),
        Field(description="In ComfyUI's API format, as the canvas exports it with Workflow > Export (API)."),
    ]


class RunRequest(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        json_schema_extra={"example": {"parameters": {"prompt": "a red circle", "seed": 7}, "num_images": 1}},
    )

    parameters: dict[str, Any] = Field(
        default_factory=dict, description="As the workflow's JSON Schema has them; what is left out keeps its default."
    )
    base_model: Name | None = Field(None, description="Default: the LoRAs' own.")
    loras: list[LoraChoice] = Field(default_factory=list, max_length=MAX_LORAS)
    add_trigger_words: bool = Field(True, description="Put the LoRAs' trigger words in front of the prompt.")
    num_images: int = Field(1, ge=1, le=MAX_IMAGES, description="Pictures with seeds seed, seed + 1, ...")
    webhook_url: WebhookUrl | None = None
