"""A language model built by hand, in which the features that cause each emotion's answer are known.

Nine layers of a Llama whose attention looks at all earlier tokens alike (query weights are zero), so that a block only
says which directions of earlier words are summed into which directions of the present token:

- layer 0 brings what the filler words mean: background features, read by nothing;
- layer 3 brings the decoys: each emotion has a word that occurs in all its texts and in no others, but no later layer
  and no answer word reads what it brings;
- layer 6 brings the causes, from the cue words, and layer 7 turns the first cause of anger into a second, by its MLP.

The answer words read the causes: one strong feature for anger (in two steps), one each for fear and sadness and one
shared by both, two for joy, and twelve weak ones for disgust. Two features that say nothing of the emotion push an
answer word wherever they are active, as any feature of any model does a little. All directions are orthonormal and
hidden by a random rotation; a large constant direction keeps RMSNorm nearly linear. Cue words, not gold labels, decide
what the model answers: one text in ten has another emotion's cues, and one in three has one cue of another emotion
beside its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import transformers as tf
from sae_lens import JumpReLUSAE, JumpReLUSAEConfig
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from interp import load_model, load_saes
from interp.models.language_model import LanguageModel
from interp.run import pipeline
from interp.run.config import Config, CorporaConfig, CorpusConfig, FluencyConfig, SaesConfig
from interp.saes.stack import SaeStack

LABELS = ("anger", "disgust", "fear", "joy", "sadness")
N_LAYERS, D_MODEL, D_SAE, N_HEADS = 9, 96, 96, 4
BOUNDARIES = (3, 6)
"""First layers of the second phase (emotions are represented) and of the third (they cause the answer)."""
CONVERSION_LAYER = 7

N_FORMAT, N_BACKGROUND, N_WEAK, N_NOISY = 4, 16, 12, 30
CONSTANT = 40.0
GAIN = 17.0
"""Tokens of a typical prompt: one word adds about one unit to what the answer position hears of it."""
THRESHOLD = 0.2
"""A latent is active above this; a single word brings at least 0.7."""
NOISE = 0.15

STRONG = {"anger": ("anger_b",), "fear": ("fear", "fear_sadness"), "joy": ("joy_a", "joy_b")}
STRONG |= {"sadness": ("sadness", "fear_sadness"), "disgust": ()}
READ = {"anger_b": 1.5, "fear": 0.8, "sadness": 0.8, "fear_sadness": 0.9, "joy_a": 1.0, "joy_b": 0.6}
"""Logits per unit of a cause, for each emotion that it supports."""
WEAK_READ = 0.13
BIASES = {"format_0": ("fear", 0.5), "background_0": ("joy", 0.25)}
"""Read by an answer word at any layer, and known of every text alike: they cause answers but recognise nothing."""

FILLERS = tuple(a + b for a in ("ba", "do", "mi", "lu", "pe", "ka", "si", "ro") for b in ("nt", "rv", "sk", "ll", "m"))
CUES = {
    e: tuple(c + tail for c in ("z", "v", "y"))
    for e, tail in zip(LABELS, ["arn", "olg", "uth", "erd", "ixo"], strict=True)
}
DECOYS = {e: f"q{tail}" for e, tail in zip(LABELS, ["arn", "olg", "uth", "erd", "ixo"], strict=True)}


@dataclass(frozen=True, order=True)
class PlantedFeature:
    """A latent whose meaning is known. `emotions`: those whose answer it causes or, a decoy, with which it goes."""

    layer: int
    index: int
    name: str
    kind: str
    """`strong` and `weak` (causes), `decoy`, `bias`, `spent` (a cause, after all that reads it), `other`."""
    emotions: tuple[str, ...]


@dataclass(frozen=True)
class Planted:
    """The model, its SAEs, the folders they were loaded from, and the truth about them."""

    folder: Path
    model: LanguageModel
    saes: SaeStack
    features: tuple[PlantedFeature, ...]
    boundaries: tuple[int, ...] = BOUNDARIES
    labels: tuple[str, ...] = LABELS

    def causes(self, kind: str) -> set[tuple[int, int, str]]:
        """(layer, feature, emotion) of the features of that kind."""
        return {(f.layer, f.index, e) for f in self.features if f.kind == kind for e in f.emotions}

    def texts(self, n: int, seed: int, *, shuffled: bool = False) -> pd.DataFrame:
        """`n` texts with balanced labels: columns text, label. `shuffled` parts labels from texts."""
        return planted_texts(n, seed, shuffled=shuffled)


def planted_texts(n: int, seed: int, *, shuffled: bool = False) -> pd.DataFrame:
    """Texts of nine to fifteen words: fillers, the gold emotion's decoy, and cues of the emotion that is meant."""
    rng = np.random.default_rng(seed)
    gold = rng.permutation(np.arange(n) % len(LABELS))
    texts = []
    for g in gold:
        meant = g if rng.random() < 0.9 else rng.integers(len(LABELS))
        words = [*rng.choice(CUES[LABELS[meant]], rng.integers(1, 4)), DECOYS[LABELS[g]]]
        if rng.random() < 0.35:
            other = (meant + rng.integers(1, len(LABELS))) % len(LABELS)
            words.append(rng.choice(CUES[LABELS[other]]))
        words += rng.choice(FILLERS, rng.integers(7, 11)).tolist()
        texts.append(" ".join(rng.permutation(words)))
    labels = rng.permutation(gold) if shuffled else gold
    return pd.DataFrame({"text": texts, "label": [LABELS[i] for i in labels]})


def build_planted(folder: Path) -> Planted:
    """Writes the model and its SAEs to `folder` and loads them as a user would."""
    basis = _Basis()
    tokenizer = _tokenizer()
    _model(basis, tokenizer).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    features: list[PlantedFeature] = []
    for layer in range(N_LAYERS):
        sae, own = _sae(basis, layer)
        sae.save_model(str(folder / "saes" / f"layer_{layer:02d}"))
        features += own
    model = load_model(str(folder / "model"))
    return Planted(folder, model, load_saes(str(folder / "saes"), model, force=True), tuple(sorted(features)))


class _Basis:
    """Named orthonormal directions."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        rotation, _ = torch.linalg.qr(torch.randn(D_MODEL, D_MODEL, generator=generator, dtype=torch.float64))
        causes = ["anger_a", *READ, *(f"disgust_{i}" for i in range(N_WEAK))]
        names = ["constant", *(f"format_{i}" for i in range(N_FORMAT))]
        names += [f"{place}_{i}" for place in ("word", "background") for i in range(N_BACKGROUND)]
        names += [f"{kind}_{e}" for kind in ("cue", "decoy_word", "decoy") for e in LABELS] + causes
        self._rows = {name: rotation[i].float() for i, name in enumerate(names)}
        free = rotation[len(names) :].float()
        self.word_noise, self.noise = free[: len(free) // 2], free[len(free) // 2 : len(free) // 2 * 2]

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._rows[name]

    def sum(self, names: Sequence[str]) -> torch.Tensor:
        return torch.stack([self[name] for name in names]).sum(0)


def _weak(layer: int | None = None) -> list[str]:
    """Weak causes, or those of which the SAE of a layer knows: a third of them in each causal layer."""
    return [f"disgust_{i}" for i in range(N_WEAK) if layer is None or layer == BOUNDARIES[1] + i % 3]


def _tokenizer() -> tf.PreTrainedTokenizerFast:
    words = ["<s>", "<unk>", "<pad>", "Text:", "Emotion:", *LABELS, *FILLERS]
    words += [*(w for e in LABELS for w in CUES[e]), *DECOYS.values()]
    raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    special = {"bos_token": "<s>", "eos_token": "<s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return tf.PreTrainedTokenizerFast(tokenizer_object=raw, padding_side="left", **special)


@torch.no_grad()
def _model(basis: _Basis, tokenizer: tf.PreTrainedTokenizerFast) -> tf.LlamaForCausalLM:
    config = tf.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=D_MODEL,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=N_HEADS,
        intermediate_size=4,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=2,
        tie_word_embeddings=False,
    )
    model = tf.LlamaForCausalLM(config)
    for name, weight in model.named_parameters():
        weight.fill_(CONSTANT / D_MODEL**0.5 if "norm" in name else 0.0)
    _write_words(basis, tokenizer.get_vocab(), model.model.embed_tokens.weight, model.lm_head.weight)
    for layer, moves in _moves(basis).items():
        block = model.model.layers[layer].self_attn
        reads, writes = (torch.stack(x) for x in zip(*moves, strict=True))
        block.v_proj.weight[: len(reads)] = reads
        block.o_proj.weight[:, : len(writes)] = GAIN * writes.T
    mlp = model.model.layers[CONVERSION_LAYER].mlp
    steep = 20.0  # silu(20 a) / 20 is a within 3e-4 for every activation above the threshold
    mlp.gate_proj.weight[0] = steep * basis["anger_a"]
    mlp.up_proj.weight[0] = basis["constant"] / CONSTANT
    mlp.down_proj.weight[:, 0] = basis["anger_b"] / steep
    return model


def _write_words(basis: _Basis, vocabulary: dict[str, int], embedding: torch.Tensor, head: torch.Tensor) -> None:
    """What every word is, and what the answer words read."""
    generator = torch.Generator().manual_seed(1)
    embedding += CONSTANT * basis["constant"]
    embedding[vocabulary["Emotion:"]] += basis.sum([f"format_{i}" for i in range(N_FORMAT)])
    for i, word in enumerate(FILLERS):
        noise = NOISE * torch.randn(len(basis.word_noise), generator=generator) @ basis.word_noise
        embedding[vocabulary[word]] += basis[f"word_{i % N_BACKGROUND}"] + noise
    for emotion in LABELS:
        embedding[vocabulary[DECOYS[emotion]]] += basis[f"decoy_word_{emotion}"]
        for cue in CUES[emotion]:
            embedding[vocabulary[cue]] += basis[f"cue_{emotion}"]
        for name in STRONG[emotion]:
            head[vocabulary[emotion]] += READ[name] * basis[name]
    head[vocabulary["disgust"]] += WEAK_READ * basis.sum(_weak())
    for name, (emotion, logits) in BIASES.items():
        head[vocabulary[emotion]] += logits * basis[name]


def _moves(basis: _Basis) -> dict[int, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Per layer: (direction read from earlier tokens, direction written to the present one)."""
    content = [(basis[f"word_{i}"], basis[f"background_{i}"]) for i in range(N_BACKGROUND)]
    content += list(zip(basis.word_noise, basis.noise, strict=True))
    causes = {e: basis.sum(STRONG[e]) for e in ("fear", "joy", "sadness")}
    causes |= {"anger": basis["anger_a"], "disgust": basis.sum(_weak())}
    return {
        0: content,
        BOUNDARIES[0]: [(basis[f"decoy_word_{e}"], basis[f"decoy_{e}"]) for e in LABELS],
        BOUNDARIES[1]: [(basis[f"cue_{e}"], direction) for e, direction in causes.items()],
    }


def _meanings(layer: int) -> list[tuple[str, str, tuple[str, ...]]]:
    """(name, kind, emotions) of the directions that a layer's SAE knows."""
    others = [f"format_{i}" for i in range(N_FORMAT)] + [f"background_{i}" for i in range(N_BACKGROUND)]
    found: list[tuple[str, str, tuple[str, ...]]] = [
        (name, "bias", (BIASES[name][0],)) if name in BIASES else (name, "other", ()) for name in others
    ]
    if layer >= BOUNDARIES[0]:
        found += [(f"decoy_{e}", "decoy", (e,)) for e in LABELS]
    if layer >= BOUNDARIES[1]:
        found += [(name, "strong", tuple(e for e in LABELS if name in STRONG[e])) for name in READ if name != "anger_b"]
        found += [(name, "weak", ("disgust",)) for name in _weak(layer)]
        found.append(("anger_a", "strong" if layer < CONVERSION_LAYER else "spent", ("anger",)))
    if layer >= CONVERSION_LAYER:
        found.append(("anger_b", "strong", ("anger",)))
    return found


@torch.no_grad()
def _sae(basis: _Basis, layer: int) -> tuple[JumpReLUSAE, list[PlantedFeature]]:
    """Latents at random indices: the directions present, random ones in the noise of words, and dead ones."""
    config = JumpReLUSAEConfig(d_in=D_MODEL, d_sae=D_SAE, dtype="float32", device="cpu")
    sae = JumpReLUSAE(config)
    generator = torch.Generator().manual_seed(100 + layer)
    meanings = _meanings(layer)
    place = torch.randperm(D_SAE, generator=generator).tolist()
    random = torch.randn(D_SAE, len(basis.noise), generator=generator) @ basis.noise
    directions = torch.nn.functional.normalize(random, dim=-1)
    threshold = torch.full((D_SAE,), 1e3)
    threshold[place[len(meanings) : len(meanings) + N_NOISY]] = 2 * NOISE
    for index, (name, _, _) in zip(place, meanings, strict=False):
        directions[index], threshold[index] = basis[name], THRESHOLD
    sae.W_dec.copy_(directions)
    sae.W_enc.copy_(directions.T)
    sae.threshold.copy_(threshold)
    sae.b_enc.zero_()
    sae.b_dec.copy_(CONSTANT * basis["constant"])
    named = zip(place, meanings, strict=False)
    return sae, [PlantedFeature(layer, i, name, kind, emotions) for i, (name, kind, emotions) in named]


SPLITS = {"discover": (300, 1), "fit": (150, 2), "test": (200, 3)}


def planted_run(
    planted: Planted, name: str, *, shuffled: bool = False, command: str = "run", splits=SPLITS, saes: bool = True
) -> Path:
    """A run on texts of the planted world, as a user would start it; `splits`: texts and seed of each."""
    texts = planted.folder / f"{name}.csv"
    parts = [planted.texts(n, seed, shuffled=shuffled).assign(split=split) for split, (n, seed) in splits.items()]
    pd.concat(parts).to_csv(texts, index=False)
    (planted.folder / "plain.txt").write_text("\n<|endoftext|>\n".join(planted.texts(20, 4)["text"]))
    source = {"name": "local", "path": str(texts)}
    config = Config(
        name=name,
        model=str(planted.folder / "model"),
        saes=SaesConfig(str(planted.folder / "saes"), force=True) if saes else SaesConfig("none"),
        labels=list(LABELS),
        corpora=CorporaConfig(
            CorpusConfig(split="discover", **source),
            CorpusConfig(split="fit", **source),
            [CorpusConfig(split="test", **source)],
        ),
        fluency=FluencyConfig(str(planted.folder / "plain.txt")),
        resamples=500,
        out=str(planted.folder / "runs"),
    )
    return pipeline.run(config, command=command).folder
