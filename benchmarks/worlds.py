"""Random models of real shapes, with SAEs and prompts, to be timed."""

import atexit
import shutil
import tempfile
from dataclasses import dataclass

import torch
import transformers as tf
from sae_lens import TopKSAE, TopKSAEConfig
from tokenizers import Tokenizer, models, pre_tokenizers

from interp.models.language_model import LanguageModel
from interp.saes.stack import SaeStack
from interp.texts.prompts import Prompt

SHAPE = {
    "hidden_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 768,
    "max_position_embeddings": 2048,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 1,
}


def number_tokenizer(vocabulary: int) -> tf.PreTrainedTokenizerBase:
    """Texts are token ids written as numbers: random models have no words."""
    raw = Tokenizer(
        models.WordLevel({"<s>": 0, "<unk>": 1, **{str(k): k for k in range(2, vocabulary)}}, unk_token="<unk>")
    )
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    folder = tempfile.mkdtemp(prefix="interp-bench-")  # TransformerBridge reads it again, later
    atexit.register(shutil.rmtree, folder)
    tf.PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="<s>", pad_token="<s>", unk_token="<unk>", padding_side="left"
    ).save_pretrained(folder)
    return tf.AutoTokenizer.from_pretrained(folder)


@dataclass(frozen=True)
class World:
    name: str
    model: LanguageModel
    saes: SaeStack
    prompts: list[Prompt | str]
    answers: list[str]


def random_world(
    kind: str, *, vocabulary: int, n_layers: int = 12, d_sae: int = 16_384, length: int = 83, n_prompts: int = 4
) -> World:
    """`kind`: qwen2, gpt2 or gemma2. Prompts of 0.85 to 1 times `length` tokens."""
    torch.manual_seed(0)
    if kind == "gpt2":
        sizes = {"n_embd": 256, "n_layer": n_layers, "n_head": 4, "n_positions": 2048, "n_inner": 1024}
        config = tf.GPT2Config(vocab_size=vocabulary, bos_token_id=0, eos_token_id=0, **sizes)
    elif kind == "gemma2":
        extra = {"head_dim": 64, "query_pre_attn_scalar": 64, "sliding_window": 64}
        config = tf.Gemma2Config(vocab_size=vocabulary, num_hidden_layers=n_layers, **SHAPE, **extra)
    else:
        config = tf.Qwen2Config(vocab_size=vocabulary, num_hidden_layers=n_layers, **SHAPE)
    hf = tf.AutoModelForCausalLM.from_config(config)
    model = LanguageModel(hf, number_tokenizer(vocabulary), f"{kind}, {vocabulary // 1000}k vocabulary", "random")
    generator = torch.Generator().manual_seed(0)
    lengths = torch.linspace(0.85 * length, length, n_prompts).long().tolist()
    prompts: list[Prompt | str] = [
        " ".join(map(str, torch.randint(2, vocabulary, (n,), generator=generator).tolist())) for n in lengths
    ]
    return World(model.name, model, random_saes(n_layers, 256, d_sae), prompts, [str(k) for k in range(10, 16)])


def random_saes(n_layers: int, d_in: int, d_sae: int) -> SaeStack:
    saes = {}
    for layer in range(n_layers):
        torch.manual_seed(layer)
        sae = TopKSAE(TopKSAEConfig(d_in=d_in, d_sae=d_sae, k=64, dtype="float32", device="cpu"))
        with torch.no_grad():
            sae.W_dec.copy_(torch.nn.functional.normalize(torch.randn(d_sae, d_in), dim=-1))
            sae.W_enc.copy_(sae.W_dec.T)
        saes[layer] = sae.requires_grad_(False)
    return SaeStack(saes, "random", "random")
