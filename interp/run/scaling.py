"""What a run costs in operations and bytes, from the shapes of model and SAEs alone: the plan before the machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OPERATIONS = 2
"""Of a multiplication with a weight: it is multiplied and added."""


@dataclass(frozen=True)
class Shape:
    """The shapes that costs depend on.

    Attributes:
        hidden: width of an MLP.
        matrices: of an MLP; 3 where it is gated.
        d_sae: features of an SAE; 0 without.
        saes: layers that have one.
    """

    n_layers: int
    d_model: int
    hidden: int
    heads: int
    kv_heads: int
    d_head: int
    vocabulary: int
    matrices: int = 3
    d_sae: int = 0
    saes: int = 0

    @property
    def block_weights(self) -> int:
        """Of one block's matrices: queries and output, keys and values, MLP."""
        attention = 2 * self.d_model * self.d_head * (self.heads + self.kv_heads)
        return attention + self.matrices * self.d_model * self.hidden

    @property
    def weights(self) -> int:
        """All blocks and one embedding, which most models use to unembed as well."""
        return self.n_layers * self.block_weights + self.vocabulary * self.d_model


GEMMA_2_2B = Shape(26, 2304, 9216, 8, 4, 256, 256_000, d_sae=16_384, saes=26)
GEMMA_2_9B = Shape(42, 3584, 14_336, 16, 8, 256, 256_000, d_sae=16_384, saes=42)
"""Of the models' config.json, with Gemma Scope's SAEs of 16k features in every layer."""
SHAPES = {
    "google/gemma-2-2b": GEMMA_2_2B,
    "google/gemma-2-9b": GEMMA_2_9B,
    "google/gemma-2-9b-it": GEMMA_2_9B,
    "google/gemma-3-270m": Shape(18, 640, 2048, 4, 1, 256, 262_144),
    "google/gemma-3-1b-it": Shape(26, 1152, 6912, 4, 1, 256, 262_144),
    "google/gemma-3-4b-it": Shape(34, 2560, 10_240, 8, 4, 256, 262_208),
    "HuggingFaceTB/SmolLM2-135M-Instruct": Shape(30, 576, 1536, 9, 3, 64, 49_152),
    "meta-llama/Llama-3.1-8B": Shape(32, 4096, 14_336, 32, 8, 128, 128_256),
    "Qwen/Qwen3-1.7B-Base": Shape(28, 2048, 6144, 16, 8, 128, 151_936),
    "Qwen/Qwen3-8B-Base": Shape(36, 4096, 12_288, 32, 8, 128, 151_936),
    "openai-community/gpt2": Shape(12, 768, 3072, 12, 12, 64, 50_257, matrices=2),
    "EleutherAI/pythia-70m-deduped": Shape(6, 512, 2048, 8, 8, 64, 50_304, matrices=2),
}
"""Of models with a configuration in `experiments`, by hub id: so something is known before they are here."""


def shape_of(config: Any, *, d_sae: int = 0, saes: int = 0) -> Shape:
    """The shape of a model that transformers describes.

    Args:
        config: `model.backbone.config`.
    """
    heads = config.num_attention_heads
    kind = str(getattr(config, "model_type", ""))
    return Shape(
        n_layers=config.num_hidden_layers,
        d_model=config.hidden_size,
        hidden=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        d_head=getattr(config, "head_dim", None) or config.hidden_size // heads,
        vocabulary=config.vocab_size,
        matrices=2 if kind in ("gpt2", "gpt_neox") else 3,
        d_sae=d_sae,
        saes=saes,
    )


def capture_flops(shape: Shape, tokens: int) -> float:
    """One prompt through all blocks: every weight for every token, and each token's attention to those before it."""
    attention = 4 * shape.heads * shape.d_head * tokens * (tokens + 1) / 2
    return shape.n_layers * (OPERATIONS * shape.block_weights * tokens + attention)


def row_flops(shape: Shape, tokens: int, above: float | None = None) -> float:
    """One edit: a single token through the blocks above it, attending to the whole prompt.

    Args:
        above: blocks; None: half of them, the mean over edits of all layers.
    """
    blocks = shape.n_layers / 2 if above is None else above
    return blocks * (OPERATIONS * shape.block_weights + 4 * shape.heads * shape.d_head * tokens)


def encode_flops(shape: Shape) -> float:
    """One residual through the encoder of one layer's SAE."""
    return float(OPERATIONS * shape.d_model * shape.d_sae)


def weight_bytes(shape: Shape, itemsize: int) -> int:
    return shape.weights * itemsize


def sae_bytes(shape: Shape) -> int:
    """One SAE in float32: encoder and decoder."""
    return 2 * shape.d_model * shape.d_sae * 4


def kept_bytes(shape: Shape, tokens: int, itemsize: int) -> int:
    """What a captured prompt leaves for later passes: keys, values and residuals of every layer."""
    return shape.n_layers * itemsize * (2 * shape.kv_heads * shape.d_head * tokens + shape.d_model)


def residual_bytes(shape: Shape, itemsize: int) -> int:
    """What of a prompt lies in a run folder."""
    return shape.n_layers * itemsize * shape.d_model


def feature_bytes(shape: Shape, active: float) -> float:
    """Features of a text in all layers as compressed sparse rows, before compression: an index and a value each.

    Args:
        active: features a layer.
    """
    return shape.saes * active * (4 + 4)


def tally_bytes(shape: Shape, labels: int, kept: int) -> int:
    """What a stream holds for all texts together (see `interp.analysis.tally`)."""
    per_feature = (labels + 1) * (8 + 8) + 8 + kept * (4 + 8 + 8 + 4 + 8)
    return shape.saes * shape.d_sae * per_feature


@dataclass(frozen=True)
class Work:
    """How much is asked of a run.

    Attributes:
        texts: captured and encoded.
        rows: edits measured, all stages together.
        tokens: of a prompt.
    """

    texts: int
    rows: int
    tokens: int


def flops(shape: Shape, work: Work) -> Mapping[str, float]:
    """Operations by kind of work."""
    return {
        "capture": work.texts * capture_flops(shape, work.tokens),
        "encode": work.texts * shape.saes * 2 * encode_flops(shape),  # and once more to reconstruct
        "edits": work.rows * row_flops(shape, work.tokens),
    }


def traced_rows(*, discover: int, labels: int, candidates: int, phases: int = 3, active: float = 0.25) -> int:
    """Edits of the stage `trace`: candidates and as many controls, on the discover texts of their emotion.

    Args:
        discover: texts, all emotions together.
        candidates: a phase and emotion.
        active: share of candidates that fire on a text.
    """
    per_emotion = discover / labels
    return round(labels * per_emotion * 2 * candidates * phases * active)
