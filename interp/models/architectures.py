"""Where the parts of a decoder hang, by architecture: all that the tool knows of a family beyond transformers."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from transformers import PreTrainedModel

from interp.errors import UserError

BlockPart = Literal["input_norm", "attention", "mlp", "heads", "neurons"]
"""What of a block can be looked at by name: what its attention reads, what attention and MLP put out, and what stands
just before that: what every head has gathered, side by side, and the activations of the MLP's neurons."""
WRITERS: tuple[BlockPart, ...] = ("heads", "neurons")
"""Parts that are seen where they enter the projection through which they write to the residual."""


class Architecture(NamedTuple):
    """Names of modules; `LanguageModel.verify` holds them against a pass. The unembedding transformers names itself.

    Attributes:
        backbone: from the model that transformers loads.
        blocks, final_norm: from the backbone.
        input_norm, attention, mlp: from a block. Attention reads the norm of the residual that enters the block.
        heads: from attention, the projection that takes all heads side by side.
        neurons: from the MLP, the projection that takes its neurons.
        mlp_norm: from a block, the norm through which the MLP reads.
        attention_after, mlp_after: from a block, norms behind the two; empty where there are none.
        masks_by_type: whether the backbone takes one ready-made attention mask per type of layer (full or sliding).
    """

    backbone: str = "model"
    blocks: str = "layers"
    final_norm: str = "norm"
    input_norm: str = "input_layernorm"
    attention: str = "self_attn"
    mlp: str = "mlp"
    heads: str = "o_proj"
    neurons: str = "down_proj"
    mlp_norm: str = "post_attention_layernorm"
    attention_after: str = ""
    mlp_after: str = ""
    masks_by_type: bool = False


GEMMA = Architecture(
    mlp_norm="pre_feedforward_layernorm",
    attention_after="post_attention_layernorm",
    mlp_after="post_feedforward_layernorm",
    masks_by_type=True,
)
ARCHITECTURES: Mapping[str, Architecture] = {
    "GPT2LMHeadModel": Architecture(
        "transformer", "h", "ln_f", "ln_1", "attn", heads="c_proj", neurons="c_proj", mlp_norm="ln_2"
    ),
    "GPTNeoXForCausalLM": Architecture(
        "gpt_neox",
        final_norm="final_layer_norm",
        attention="attention",
        heads="dense",
        neurons="dense_4h_to_h",
    ),
    "LlamaForCausalLM": Architecture(),
    "MistralForCausalLM": Architecture(),
    "Qwen2ForCausalLM": Architecture(masks_by_type=True),
    "Qwen3ForCausalLM": Architecture(masks_by_type=True),
    "Gemma2ForCausalLM": GEMMA,
    "Gemma3ForCausalLM": GEMMA,
    "Gemma3ForConditionalGeneration": GEMMA._replace(backbone="model.language_model"),
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
