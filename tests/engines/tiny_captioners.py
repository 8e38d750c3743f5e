"""Makes tiny captioners with random weights, in the layout of the real ones; run by SimpleTuner's Python.

`python tiny_captioners.py FOLDER` makes `FOLDER/florence2` and `FOLDER/llava`. They talk nonsense, always the
same about the same picture.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    BartConfig,
    BartTokenizerFast,
    CLIPImageProcessor,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessor,
    SiglipVisionConfig,
)

SIDE = 64
TEXT = [
    "a small red square stands on a blue ground beside three white stars and one orange triangle in the corner",
    "two green circles lie under a yellow line which crosses the dark picture from its left to its upper right",
]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<image>"]
FIRST_WORD = len(SPECIAL) + 256
"""Before it are the single bytes."""
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: "
    "{% if message['role'] == 'user' %}<image>{% endif %}{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def tokenizer_file(folder: Path) -> Path:
    """A byte-level BPE of a few words."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(TEXT, vocab_size=400, min_frequency=1, special_tokens=SPECIAL)
    folder.mkdir(parents=True, exist_ok=True)
    bpe.save_model(str(folder))
    bpe.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def florence2(folder: Path) -> None:
    tokenizer_file(folder)
    tokenizer = BartTokenizerFast(
        vocab_file=str(folder / "vocab.json"),
        merges_file=str(folder / "merges.txt"),
        extra_special_tokens={"image_token": "<image>"},
    )
    images = CLIPImageProcessor(
        size={"height": SIDE, "width": SIDE}, crop_size={"height": SIDE, "width": SIDE}, do_center_crop=False
    )
    images.image_seq_length = 5
    Florence2Processor(images, tokenizer, num_additional_image_tokens=1).save_pretrained(folder)
    text = BartConfig(
        vocab_size=len(tokenizer), d_model=32, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=64,
        decoder_ffn_dim=64, encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=512,
        init_std=0.5,
        bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=2,
    )  # fmt: skip
    vision = {
        "depths": (1, 1, 1, 1), "embed_dim": (16, 16, 16, 32), "num_heads": (2, 2, 2, 2), "num_groups": (2, 2, 2, 2),
        "window_size": 4, "projection_dim": 32,
    }  # fmt: skip
    config = Florence2Config(
        text_config=text.to_dict(), vision_config=vision, image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        bos_token_id=0, pad_token_id=1, eos_token_id=2,
    )  # fmt: skip
    _save(Florence2ForConditionalGeneration(config), torch.float16, folder, last_words=3)


def llava(folder: Path) -> None:
    path = tokenizer_file(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(path), bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        additional_special_tokens=["<image>"], model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
    images = SiglipImageProcessor(size={"height": SIDE, "width": SIDE}, resample=1)
    processor = LlavaProcessor(
        images, tokenizer, patch_size=16, vision_feature_select_strategy="full", chat_template=TEMPLATE
    )
    processor.save_pretrained(folder)
    config = LlavaConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE,
            patch_size=16,
        ).to_dict(),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, max_position_embeddings=2048, initializer_range=0.5,
            bos_token_id=0, pad_token_id=1, eos_token_id=2,
        ).to_dict(),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="full", vision_feature_layer=-1, image_seq_length=16,
    )  # fmt: skip
    _save(LlavaForConditionalGeneration(config), torch.bfloat16, folder, last_words=12)


def _save(model: Any, dtype: torch.dtype, folder: Path, *, last_words: int) -> None:
    """Whole words are said rather than single bytes, and what is said depends on the picture.

    Every `last_words`-th word is a last one: chance would seldom come to an end.
    """
    weights = model.get_output_embeddings().weight
    with torch.no_grad():
        weights[:FIRST_WORD] = 0
        weights[FIRST_WORD:] *= 4
        for projector in (each for name, each in model.named_parameters() if "projector" in name and each.ndim == 2):
            projector.normal_(std=1.0)
    model.generation_config.eos_token_id = [2, *range(FIRST_WORD, weights.shape[0], last_words)]
    model.to(dtype).save_pretrained(folder)


if __name__ == "__main__":
    for name, make in {"florence2": florence2, "llava": llava}.items():
        torch.manual_seed(0)
        make(Path(sys.argv[1]) / name)
