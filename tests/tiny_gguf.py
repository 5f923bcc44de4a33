"""GGUF files and wheels of tiny Llama models, as llama.cpp and the package index would have them."""

import hashlib
import json
import zipfile
from pathlib import Path

import gguf
import numpy as np
import transformers as tf
from gguf.quants import quantize

from interp.models.sources import PackagedModel, Terms
from interp.models.wheels import Wheel

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tensors_of(hf: tf.PreTrainedModel) -> dict[str, np.ndarray]:
    """Weights of a Llama model under llama.cpp's names, queries and keys in its order of rotary dimensions."""
    out = {}
    for name, weight in hf.state_dict().items():
        if name == "lm_head.weight":  # tied
            continue
        array = weight.numpy().astype(np.float32)
        stem = name.removesuffix(".weight")
        if stem.startswith("model.layers."):
            _, _, layer, rest = stem.split(".", 3)
            key = f"blk.{layer}.{NAMES[rest]}.weight"
            heads = {"attn_q": hf.config.num_attention_heads, "attn_k": hf.config.num_key_value_heads}
            if count := heads.get(NAMES[rest]):
                array = array.reshape(count, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        else:
            key = f"{NAMES[stem]}.weight"
        out[key] = array
    return out


def write_gguf(
    path: Path,
    hf: tf.PreTrainedModel,
    tokenizer: tf.PreTrainedTokenizerBase,
    *,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    only: slice = slice(None),
    template: str | None = None,
    split: tuple[int, int] | None = None,
) -> Path:
    """A model with its tokenizer; `only` some of its tensors where it is one file of a `split` (number, count)."""
    writer = gguf.GGUFWriter(path, "llama")
    config = hf.config
    writer.add_type("model")
    writer.add_name("tiny")
    writer.add_license("apache-2.0")
    quantised = kind != gguf.GGMLQuantizationType.F32
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind.name}"] if quantised else gguf.LlamaFileType.ALL_F32)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config.vocab_size)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    words = sorted(model["vocab"], key=model["vocab"].get)
    words += [f"<unused{k}>" for k in range(config.vocab_size - len(words))]
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types([control if word.startswith("<|") else normal for word in words])
    writer.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(1)
    writer.add_add_bos_token(True)
    if template:
        writer.add_chat_template(template)
    if split:
        writer.add_uint16("split.no", split[0])
        writer.add_uint16("split.count", split[1])
    for name, array in list(tensors_of(hf).items())[only]:
        if quantised and array.ndim == 2:
            writer.add_tensor(name, quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def packed(folder: Path, content: bytes, *, parts: int = 1, terms: str | None = None) -> PackagedModel:
    """Wheels in `folder` that hold a file in parts, and the entry of the registry that names them."""
    step = -(-len(content) // parts)
    wheels = []
    for k in range(parts):
        project, member = f"tiny-model-part{k}", f"tiny_model_part{k}/data/tiny.gguf.part{k:02}"
        path = folder / f"tiny_model_part{k}-1.0.0-py3-none-any.whl"
        info = f"tiny_model_part{k}-1.0.0.dist-info"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, content[k * step : (k + 1) * step])
            archive.writestr(f"tiny_model_part{k}/__init__.py", "raise SystemExit('code of a wheel has run')")
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0.0\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        wheels.append(Wheel(project, "1.0.0", member, digest, path.stat().st_size))
    return PackagedModel(
        original="acme/tiny",
        parameters=50_000,
        layers=4,
        quantisation="F32",
        licence="Apache-2.0",
        file="tiny.gguf",
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        wheels=tuple(wheels),
        terms=Terms(terms, "Tiny Terms of Use", "https://example.org/terms") if terms else None,
    )
