"""What a model's own words say of an emotion, before a label is seen."""

import numpy as np
import torch

from interp.steering.evidence import evidence, evidence_tokens, label_words, standardised

LABELS = ["joy", "fear", "anger"]


def test_every_word_of_the_list_is_there_once_and_no_label_is_empty():
    words = label_words()
    assert {"anger", "disgust", "fear", "joy", "sadness", "surprise", "trust", "anticipation", "neutral"} <= set(words)
    for label, own in words.items():
        assert len(own) >= 7, label
        assert len(set(own)) == len(own), label
        assert all(word.isalpha() and word == word.lower() for word in own), label


def test_columns_are_standardised_and_one_that_never_changes_is_nothing():
    values = np.random.default_rng(0).normal(3.0, 7.0, (50, 3))
    values[:, 2] = 4.0
    found = standardised(values)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(found[:, :2].std(0), 1)
    assert not found[:, 2].any()


def test_kin_are_the_nearest_tokens_that_no_other_label_is_nearer_to(llama):
    head = torch.randn(llama.head_weight.shape, generator=torch.Generator().manual_seed(0))
    (joy, fear), (near_joy, near_both) = (
        (llama.tokenization.continuations("", [f" {w}"])[0].ids[0] for w in LABELS[:2]),
        (5, 6),
    )
    head[near_joy] = head[joy] + 0.1 * head[7]
    head[near_both] = head[joy] + head[fear]
    before = llama.head_weight.data.clone()
    try:
        llama.head_weight.data.copy_(head)
        kin = evidence_tokens(llama, LABELS).kin
    finally:
        llama.head_weight.data.copy_(before)
    assert joy in kin[0].tolist()
    assert near_joy in kin[0].tolist()
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not set(kin[a].tolist()) & set(kin[b].tolist())


def test_a_label_without_words_has_its_kin(llama):
    tokens = evidence_tokens(llama, ["street", *LABELS])
    assert torch.equal(tokens.words[0], tokens.kin[0])
    assert all(len(words) for words in (*tokens.words, *tokens.kin))


def test_what_a_model_says_of_every_text_drops_out(llama):
    """A constant added to every text's own scores, or to what every text's residual says, changes no reading."""
    last = torch.randn(40, llama.d_model, generator=torch.Generator().manual_seed(1))
    own = np.random.default_rng(1).normal(size=(40, 3))
    tokens = evidence_tokens(llama, LABELS)
    first = evidence(llama, own, last, tokens)
    leaning = evidence(llama, own + np.array([5.0, 0.0, -5.0]), last, tokens)
    np.testing.assert_allclose(first.own, leaning.own)
    for reading in first:
        assert reading.shape == (40, 3)
        np.testing.assert_allclose(reading.mean(0), 0, atol=1e-9)


def test_words_are_read_by_the_unembedding(llama):
    last = torch.randn(40, llama.d_model, generator=torch.Generator().manual_seed(1))
    tokens = evidence_tokens(llama, LABELS)
    found = evidence(llama, np.zeros((40, 3)), last, tokens)
    logits = llama.unembed(last).double().numpy()[:, tokens.kin[1].numpy()]
    expected = standardised(standardised(logits).mean(1, keepdims=True))[:, 0]
    np.testing.assert_allclose(found.kin[:, 1], expected, atol=1e-6)
