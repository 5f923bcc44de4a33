"""Where the parts of a decoder hang, by architecture: all that the tool knows of a family beyond transformers."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from transformers import PreTrainedModel

from interp.errors import UserError

BlockPart = Literal["input_norm", "attention", "mlp"]
"""What of a block can be looked at by name: what its attention reads, and what attention and MLP put out."""


class Architecture(NamedTuple):
    """Names of modules; `LanguageModel.verify` holds them against a pass. The unembedding transformers names itself.

    Attributes:
        backbone: from the model that transformers loads.
        blocks, final_norm: from the backbone.
        input_norm, attention, mlp: from a block. Attention reads the norm of the residual that enters the block.
        past: the argument through which a block is given keys and values.
        masks_by_type: whether the backbone takes one ready-made attention mask per type of layer (full or sliding).
    """

    backbone: str = "model"
    blocks: str = "layers"
    final_norm: str = "norm"
    input_norm: str = "input_layernorm"
    attention: str = "self_attn"
    mlp: str = "mlp"
    past: str = "past_key_values"
    masks_by_type: bool = False


ARCHITECTURES: Mapping[str, Architecture] = {
    "GPT2LMHeadModel": Architecture("transformer", "h", "ln_f", "ln_1", "attn"),
    "GPTNeoXForCausalLM": Architecture(
        "gpt_neox", final_norm="final_layer_norm", attention="attention", past="layer_past"
    ),
    "LlamaForCausalLM": Architecture(),
    "MistralForCausalLM": Architecture(),
    "Qwen2ForCausalLM": Architecture(masks_by_type=True),
    "Qwen3ForCausalLM": Architecture(masks_by_type=True),
    "Gemma2ForCausalLM": Architecture(masks_by_type=True),
    "Gemma3ForCausalLM": Architecture(masks_by_type=True),
    "Gemma3ForConditionalGeneration": Architecture("model.language_model", masks_by_type=True),
}
"""The supported architectures."""


def architecture_of(hf: PreTrainedModel) -> Architecture:
    """Only modules known by name, and as transformers made them, are run.

    Raises:
        UserError: another architecture, or modules that TransformerLens or an adapter has replaced.
    """
    kind = type(hf).__name__
    if any("transformer_lens" in type(m).__module__ for m in hf.modules()):
        raise UserError(
            f"This {kind} has been wrapped by TransformerLens, which changes its modules in place;"
            " load it anew with load_model and use `.bridge` for TransformerLens hooks."
        )
    if "Peft" in kind or any(type(m).__module__.startswith("peft.") for m in hf.modules()):
        raise UserError(f"This {kind} is wrapped by an adapter; call merge_and_unload() and give what it returns.")
    if kind not in ARCHITECTURES:
        raise UserError(f"Architecture {kind} is not supported; supported: {', '.join(ARCHITECTURES)}.")
    return ARCHITECTURES[kind]
