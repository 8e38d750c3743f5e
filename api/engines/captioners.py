"""The captioners MASUKA knows: native transformers conversions, safetensors without code, each at one commit. Pure.

Memory in GiB. Florence-2-large was seen to take 1.9 GB of a GPU; JoyCaption is 8.5 billion weights in bf16. Sizes of
files are for planning the disk: a download is checked against what the hub itself says of that commit.
"""

from dataclasses import dataclass

from api.domain.captioning import CaptionerName
from api.engines.catalogue import ModelFile

FLORENCE_REPO, FLORENCE_REVISION = "florence-community/Florence-2-large", "4271c66b88cdbc05735372ec13b2360108de5317"
JOYCAPTION_REPO = "fancyfeast/llama-joycaption-beta-one-hf-llava"
JOYCAPTION_REVISION = "ebf414ea497a020da0f82df3913e5b6cb8e9663a"
FOLDER = "model"
"""Below the captioner's folder."""


@dataclass(frozen=True, slots=True)
class Captioner:
    name: CaptionerName
    family: str
    """The class of transformers that it is: `florence2` or `llava`."""
    description: str
    repo: str
    revision: str
    licence: str
    licence_url: str
    files: tuple[ModelFile, ...]
    disk_gb: float
    vram_gb: float
    ram_gb: float
    """What it takes of the machine's memory where there is no GPU."""
    cpu_dtype: str
    max_tokens: int
    """The longest caption."""

    def need_gb(self, *, gpu: bool) -> float:
        return self.vram_gb if gpu else self.ram_gb


def _files(repo: str, revision: str, sizes: dict[str, int]) -> tuple[ModelFile, ...]:
    return tuple(ModelFile(repo, path, f"{FOLDER}/{path}", size, revision) for path, size in sizes.items())


FLORENCE_2 = Captioner(
    name=CaptionerName.FLORENCE_2,
    family="florence2",
    description="Florence-2-large by Microsoft: small and fast, on any machine; one to three plain sentences.",
    repo=FLORENCE_REPO,
    revision=FLORENCE_REVISION,
    licence="MIT",
    licence_url="https://huggingface.co/microsoft/Florence-2-large/blob/main/LICENSE",
    files=_files(
        FLORENCE_REPO,
        FLORENCE_REVISION,
        {
            "added_tokens.json": 22_410,
            "config.json": 2_396,
            "generation_config.json": 300,
            "merges.txt": 456_318,
            "model.safetensors": 1_553_541_016,
            "preprocessor_config.json": 1_000,
            "processor_config.json": 1_000,
            "special_tokens_map.json": 147_000,
            "tokenizer.json": 3_740_000,
            "tokenizer_config.json": 200_000,
            "vocab.json": 798_293,
        },
    ),
    disk_gb=1.6,
    vram_gb=3.0,
    ram_gb=5.0,
    cpu_dtype="float32",
    max_tokens=256,
)

JOYCAPTION = Captioner(
    name=CaptionerName.JOYCAPTION,
    family="llava",
    description="JoyCaption beta one: long, exact and uncensored captions in many styles, or by a prompt of your own.",
    repo=JOYCAPTION_REPO,
    revision=JOYCAPTION_REVISION,
    licence="Llama 3.1 Community License",
    licence_url=f"https://huggingface.co/{JOYCAPTION_REPO}/blob/main/LLAMA_LICENSE",
    files=_files(
        JOYCAPTION_REPO,
        JOYCAPTION_REVISION,
        {
            "chat_template.json": 1_380,
            "config.json": 1_510,
            "generation_config.json": 181,
            "model-00001-of-00004.safetensors": 4_910_000_000,
            "model-00002-of-00004.safetensors": 5_000_000_000,
            "model-00003-of-00004.safetensors": 4_920_000_000,
            "model-00004-of-00004.safetensors": 3_030_000_000,
            "model.safetensors.index.json": 76_100,
            "preprocessor_config.json": 392,
            "processor_config.json": 189,
            "special_tokens_map.json": 454,
            "tokenizer.json": 9_090_000,
            "tokenizer_config.json": 51_900,
        },
    ),
    disk_gb=18,
    vram_gb=19.0,
    ram_gb=19.0,
    cpu_dtype="bfloat16",
    max_tokens=512,
)

CAPTIONERS = {captioner.name: captioner for captioner in (FLORENCE_2, JOYCAPTION)}
