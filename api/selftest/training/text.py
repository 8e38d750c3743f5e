"""The two text encoders: never trained, made from a seed. What matters is that different words come out different.

- T5: token embeddings N(0, 1), so any two words are nearly at right angles, a LoRA's new word too. Attention knows only
  places: queries are zero, and a relative position bias set by hand makes the four heads copy a random projection of
  the neighbours at -1, +1, -2, +2. Through two layers "red" gets to know that it stands before "circle", not before
  "background". As nothing looks farther, all far padding tokens come out identical; `flow.padding_bias` lives on that.
- CLIP: random, its pooled vector is a bag of words. A head has 16 numbers, what the shim of ComfyUI assumes.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizerFast, T5Config, T5EncoderModel, T5TokenizerFast

T5_SEED, CLIP_SEED = 1234, 1235
T5_WIDTH, CLIP_WIDTH = 64, 32
T5_EMBEDDING, CLIP_EMBEDDING = "shared.weight", "text_model.embeddings.token_embedding.weight"
LAYERS = "layers.safetensors"

CLIP_TOKENS = 77
TEXT_TOKENS = 24
"""That the transformer is trained with; the engines give it 256 (ComfyUI) or 512 (SimpleTuner), nearly all padding."""
_SEEN_TOKENS = 40
"""That T5 is given here: the padding after the text, far enough from it, is among the first TEXT_TOKENS."""
_LEAST_PADDING = 5

_COPY = 18.0
"""A bias that leaves one neighbour all the attention."""
_BUCKETS = (1, 17, 2, 18)
"""T5's names for the distances -1, +1, -2, +2."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Captions as the transformer gets them."""

    tokens: Tensor
    """Captions, TEXT_TOKENS, T5_WIDTH."""
    pooled: Tensor
    """Captions, CLIP_WIDTH."""


class TextEncoders:
    """Both encoders in the precision of their files, with ComfyUI's tokenizers."""

    def __init__(self, comfy_source: Path) -> None:
        self.t5, self.clip = make_t5().bfloat16().float(), make_clip().bfloat16().float()
        self.t5_tokenizer = T5TokenizerFast.from_pretrained(comfy_source / "text_encoders" / "t5_tokenizer")
        self.clip_tokenizer = CLIPTokenizerFast.from_pretrained(comfy_source / "sd1_tokenizer")

    def encode(self, captions: list[str]) -> Encoded:
        fixed = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        t5_ids = self.t5_tokenizer(captions, max_length=_SEEN_TOKENS, **fixed).input_ids
        clip_ids = self.clip_tokenizer(captions, max_length=CLIP_TOKENS, **fixed).input_ids
        with torch.no_grad():
            return Encoded(self.t5(t5_ids).last_hidden_state[:, :TEXT_TOKENS], self.clip(clip_ids).pooler_output)

    def fits(self, caption: str) -> bool:
        """Whether a caption leaves enough of TEXT_TOKENS to padding."""
        return len(self.t5_tokenizer(caption).input_ids) <= TEXT_TOKENS - _LEAST_PADDING


def make_t5() -> T5EncoderModel:
    torch.manual_seed(T5_SEED)
    sizes = {"vocab_size": 32_128, "d_model": T5_WIDTH, "d_kv": 32, "d_ff": 128, "num_layers": 2, "num_heads": 4}
    t5 = T5EncoderModel(T5Config(**sizes, feed_forward_proj="gated-gelu", tie_word_embeddings=False)).eval()
    with torch.no_grad():
        t5.shared.weight.copy_(torch.randn_like(t5.shared.weight))
        for name, weight in t5.named_parameters():
            _draw_t5_layer(name, weight)
        bias = t5.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
        bias.zero_()
        for head, bucket in enumerate(_BUCKETS):
            bias[bucket, head] = _COPY
    return t5


def make_clip() -> CLIPTextModel:
    torch.manual_seed(CLIP_SEED)
    config = CLIPTextConfig(
        vocab_size=49_408,
        hidden_size=CLIP_WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=CLIP_WIDTH // 16,
        max_position_embeddings=CLIP_TOKENS,
        projection_dim=CLIP_WIDTH,
        bos_token_id=49_406,
        eos_token_id=49_407,
        pad_token_id=49_407,
        hidden_act="quick_gelu",
    )
    clip = CLIPTextModel(config).eval()
    with torch.no_grad():
        for name, weight in clip.named_parameters():
            if name.endswith(("v_proj.weight", "out_proj.weight")):
                weight.copy_(torch.randn_like(weight) / CLIP_WIDTH**0.5)
            elif name == CLIP_EMBEDDING:
                weight.copy_(torch.randn_like(weight) * 0.3)
    return clip


def save_layers(encoder: nn.Module, folder: Path, embedding: str) -> None:
    """Everything but the token embedding, which is made from its seed at install."""
    tensors = {name: weight.detach().bfloat16().contiguous() for name, weight in encoder.named_parameters()}
    del tensors[embedding]
    save_file(tensors, folder / LAYERS, metadata={"format": "pt"})


def _draw_t5_layer(name: str, weight: Tensor) -> None:
    if ".q.weight" in name:
        weight.zero_()
    elif ".k.weight" in name:
        weight.normal_(0, 0.02)
    elif ".v.weight" in name or ".wi_" in name:
        weight.copy_(torch.randn_like(weight) / T5_WIDTH**0.5)
    elif ".o.weight" in name:
        weight.copy_(torch.randn_like(weight) / weight.shape[1] ** 0.5 * 1.4)
    elif ".wo." in name:
        weight.copy_(torch.randn_like(weight) / weight.shape[1] ** 0.5 * 0.5)
