"""Tiny random models of every supported family, and random SAEs for them."""

from pathlib import Path

import torch
import transformers as tf
from sae_lens import SAE

from interp.models.language_model import LanguageModel

WORDS = "anger disgust fear joy sadness surprise neutral the a dog cat rain street letter morning friend lost found"


SENTENCES = [
    "The dog ran down the street in the rain.",
    "A letter came in the morning.",
    "My friend lost the cat, and then, late in the evening, found it again behind the garden wall of the old school.",
    "Rain.",
    "Nobody had told us that the road was closed until noon on every second Friday of the month.",
]


LABELS = ["anger", "disgust", "fear", "joy", "sadness", "surprise"]
PROMPTS = [f"Text: {s}\nEmotion:" for s in SENTENCES]
SHAPE = {
    "vocab_size": 400,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 1,
}


GEMMA = {"num_key_value_heads": 2, "head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 16}


VISION = {"hidden_size": 32, "image_size": 28, "patch_size": 14}


ALTERNATING = ["sliding_attention", "full_attention"] * 2


def _config(family: str) -> tf.PreTrainedConfig:
    if family == "gpt2":
        named = {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 128, "n_inner": 64}
        return tf.GPT2Config(vocab_size=400, bos_token_id=0, eos_token_id=0, pad_token_id=1, **named)
    return {
        "gpt_neox": lambda: tf.GPTNeoXConfig(**SHAPE),
        "llama": lambda: tf.LlamaConfig(**SHAPE, num_key_value_heads=2, tie_word_embeddings=True),
        "mistral": lambda: tf.MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=8),
        "qwen2": lambda: tf.Qwen2Config(**SHAPE, num_key_value_heads=2),
        "qwen3": lambda: tf.Qwen3Config(**SHAPE, num_key_value_heads=2, head_dim=16),
        "gemma2": lambda: tf.Gemma2Config(**SHAPE, **GEMMA, layer_types=ALTERNATING),
        "gemma3": lambda: tf.Gemma3TextConfig(**SHAPE, **GEMMA, layer_types=ALTERNATING),
        "gemma3_vision": lambda: tf.Gemma3Config(
            text_config={**SHAPE, **GEMMA, "layer_types": ALTERNATING},
            vision_config={**VISION, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64},
        ),
    }[family]()


FAMILIES = ["gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "gemma3_vision"]


def build_model(
    family: str, tokenizer: tf.PreTrainedTokenizerFast, seed: int = 0, dtype: torch.dtype = torch.float32
) -> LanguageModel:
    """Random weights, large enough that attention and softcaps matter."""
    torch.manual_seed(seed)
    hf = tf.AutoModelForCausalLM.from_config(_config(family))
    with torch.no_grad():
        for name, weight in hf.named_parameters():
            if weight.ndim == 2:
                weight.normal_(0, 0.15)
            elif "bias" in name:
                weight.normal_(0, 0.1)
    model = LanguageModel(hf.to(dtype), tokenizer, family, f"test:{family}")
    model.verify()
    return model


def build_sae(architecture: str = "topk", *, d_in: int = 32, d_sae: int = 64, seed: int = 0, **options) -> SAE:
    """Random weights of any SAELens architecture."""
    kinds = {"topk": {"k": 8}, "jumprelu": {}, "standard": {}, "gated": {}}
    config = SAE.get_sae_config_class_for_architecture(architecture).from_dict(
        {
            "architecture": architecture,
            "d_in": d_in,
            "d_sae": d_sae,
            "dtype": "float32",
            "device": "cpu",
            "metadata": {"sae_lens_version": "6.54.12", "model_name": "test"},
            **kinds[architecture],
            **options,
        }
    )
    sae = SAE.get_sae_class_for_architecture(architecture)(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sae.named_parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * (0.3 if weight.ndim == 2 else 0.05))
            if name == "threshold":
                weight.abs_()
    return sae.requires_grad_(False)


def save_stack(folder: Path, layers: int = 4) -> Path:
    for layer in range(layers):
        build_sae(seed=layer).save_model(str(folder / f"layer_{layer:02d}"))
    return folder
