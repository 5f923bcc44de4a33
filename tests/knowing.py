"""Worlds for couplings: models that know an emotion without saying it, that lean to one answer, or that know nothing.

A Llama whose two blocks add nothing, so that a prompt of one word is that word's embedding: a large constant, what is
*known* of its emotion, what is *said* of it, a *leaning* that is the same in every text, and noise. The label words
read what is said alone; four words near each of them read what is known too, as words for an emotion do in real models.
A sparse autoencoder has one latent for each of these directions, and others for noise.
"""

from dataclasses import dataclass

import numpy as np
import torch
import transformers as tf
from sae_lens import StandardSAE, StandardSAEConfig
from tokenizers import Tokenizer, models, pre_tokenizers

from interp.engine.capture import capture
from interp.models.language_model import LanguageModel
from interp.saes.stack import SaeStack
from interp.statistics import Bootstrap
from interp.steering.choosing import Budget, Choice, Price, choose
from interp.steering.coupled import Few
from interp.steering.evidence import KIN
from interp.steering.fit import FitData
from interp.steering.trials import Ground, all_trials, possible_methods

LABELS = ["anger", "fear", "joy", "sadness"]
D, LAYER, CONSTANT = 48, 1, 30.0
N_NOISE = 24
PER_LABEL = 60
"""Texts of each label; the first `PER_LABEL // 2` of each may be learnt from, the others are answered."""


@dataclass(frozen=True)
class World:
    model: LanguageModel
    saes: SaeStack
    texts: list[str]
    gold: np.ndarray
    running: torch.Tensor
    """Residuals of running text."""
    learnt: np.ndarray
    """Places of the texts that may be learnt from, labelled or not."""
    asked: np.ndarray

    def few(self) -> Few:
        captured = capture(self.model, [self.texts[i] for i in self.learnt], answers=LABELS)
        sample = capture(self.model, [self.texts[i] for i in self.learnt[::5]], answers=LABELS, keep_cache=True)
        return Few(
            self.model,
            self.saes,
            LABELS,
            captured.answer_logits.double().numpy(),
            lambda layer: captured.residuals[layer],
            [sample],
            np.arange(len(self.learnt))[::5],
            lambda layer: self.running,
        )

    def ground(self, labels_each: int, seed: int, gold: np.ndarray | None = None) -> Ground:
        """What methods are made from, with so many labels of each emotion.

        Args:
            gold: other labels than the true ones, of `learnt`.
        """
        few, told = self.few(), self.gold[self.learnt] if gold is None else gold
        order = np.random.default_rng(seed).permutation(len(told))
        rows = np.sort(np.concatenate([order[told[order] == label][:labels_each] for label in range(len(LABELS))]))
        texts = [self.texts[self.learnt[i]] for i in rows]
        captured = capture(self.model, texts, answers=LABELS, keep_cache=True)
        groups = list(range(len(rows)))
        data = FitData(self.model, self.saes, LABELS, [(captured, torch.from_numpy(told[rows]))], groups)
        return Ground(data, [], few, rows)


def chosen(ground: Ground, seed: int = 0) -> Choice:
    """As stage `steer` chooses, at no price."""
    trials = all_trials(ground, possible_methods(ground), seed)
    boot = Bootstrap(ground.data.groups, 300, seed)
    budget = Budget(harm=0.03, perplexity=1.05)
    return choose(ground.data, trials, budget, boot, seed, make=lambda t: t.make(ground.data), price=lambda *_: Price())


def build_world(*, known: float = 0.0, said: float = 0.0, leaning: float = 0.0, noise: float = 1.0) -> World:
    """
    Args:
        known, said: how strongly a text's emotion is in its residual, and in what the label words read.
        leaning: how strongly every text says joy.
        noise: of what is said.
    """
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(D, D, generator=generator))[0].T
    knows, says, rest = basis[1:5], basis[5:9], basis[9 : 9 + N_NOISE]
    gold = np.arange(PER_LABEL * len(LABELS)) % len(LABELS)
    words = [f"text{i}" for i in range(len(gold))]
    kin = [f"{label}{i}" for label in LABELS for i in range(KIN)]
    vocabulary = {word: i for i, word in enumerate(["<s>", "<pad>", *LABELS, *kin, *words])}
    emotion = torch.from_numpy(gold)
    drawn = torch.randn(len(gold), 8 + N_NOISE, generator=generator)
    embedded = CONSTANT * basis[0] + known * knows[emotion] + said * says[emotion] + leaning * says[LABELS.index("joy")]
    embedded = embedded + 0.5 * drawn[:, :4] @ knows + noise * drawn[:, 4:8] @ says + drawn[:, 8:] @ rest
    return World(
        _model(vocabulary, embedded, knows, says),
        SaeStack({LAYER: _sae(torch.cat([knows, says, rest]), CONSTANT * basis[0])}, "planted", "planted"),
        words,
        gold,
        CONSTANT * basis[0] + 6.0 * rest[0] + torch.randn(200, N_NOISE, generator=generator) @ rest,
        learnt=np.flatnonzero(np.arange(len(gold)) < len(gold) // 2),
        asked=np.flatnonzero(np.arange(len(gold)) >= len(gold) // 2),
    )


@torch.no_grad()
def _model(
    vocabulary: dict[str, int], embedded: torch.Tensor, knows: torch.Tensor, says: torch.Tensor
) -> LanguageModel:
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = tf.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", bos_token="<s>")
    config = tf.LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=D,
        num_hidden_layers=LAYER + 1,
        num_attention_heads=4,
        intermediate_size=4,
        max_position_embeddings=32,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
        tie_word_embeddings=False,
    )
    model = tf.LlamaForCausalLM(config)
    for name, weight in model.named_parameters():
        weight.fill_(CONSTANT / D**0.5 if "norm" in name else 0.0)
    model.model.embed_tokens.weight[-len(embedded) :] = embedded
    other = torch.randn(len(vocabulary), D, generator=torch.Generator().manual_seed(3))
    model.lm_head.weight.copy_(0.05 * other)
    first, last = 2 + len(LABELS), 2 + len(LABELS) * (1 + KIN)
    model.lm_head.weight[2:first] = says
    model.lm_head.weight[first:last] += (0.6 * says + 0.8 * knows).repeat_interleave(KIN, 0)
    return LanguageModel(model, tokenizer, "planted", "planted")


@torch.no_grad()
def _sae(directions: torch.Tensor, centre: torch.Tensor) -> StandardSAE:
    """A latent for each direction and one for its opposite."""
    both = torch.cat([directions, -directions])
    sae = StandardSAE(StandardSAEConfig(d_in=D, d_sae=len(both), dtype="float32", device="cpu"))
    sae.W_dec.copy_(both)
    sae.W_enc.copy_(both.T)
    sae.b_enc.zero_()
    sae.b_dec.copy_(centre)
    return sae
