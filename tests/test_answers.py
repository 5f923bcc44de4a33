"""Answers that first tokens do not tell apart are scored whole: against the whole model, one word at a time."""

import sys

import pytest
import torch
from tiny_models import PROMPTS
from whole_words import WORDS, word_log_probs

from interp import capture, load_model
from interp.engine import (
    FeatureEdits,
    ablate_everywhere,
    ablate_jointly,
    answer_gradients,
    answers_under,
    answers_under_each,
    edited_logits,
)
from interp.engine.suffix import rows_that_fit
from interp.files.folder import RunFolder
from interp.models.answers import Answers
from interp.run.checking import check
from interp.run.config import Config


@pytest.fixture(scope="module")
def tiny():
    return load_model("tiny")


def last_only(change):
    def edit(x):
        x = x.clone()
        x[:, -1] += change
        return x

    return edit


def test_the_words_need_it(llama):
    answers = Answers.of(llama, WORDS)
    assert answers.whole and sum(len(t) > 2 for t in answers.tokens) >= 2 and any(len(t) == 1 for t in answers.tokens)
    plain = Answers.of(llama, [" anger", " joy", " fear"])
    assert not plain.whole and plain.offsets.tolist() == [0]


@pytest.mark.parametrize("tokens_per_batch", [40, 8192])
def test_whole_words_equal_the_whole_model(any_model, tokens_per_batch):
    captured = capture(any_model, PROMPTS, answers=WORDS, tokens_per_batch=tokens_per_batch)
    for i, prompt in enumerate(PROMPTS):
        expected = word_log_probs(any_model, prompt)
        torch.testing.assert_close(captured.answer_log_probabilities[i], expected, atol=1e-4, rtol=0)


def test_edits_at_the_answer_position_reach_the_words_continuations(any_model, stack):
    captured = capture(any_model, PROMPTS, answers=WORDS, keep_cache=True)
    example, layer, feature = torch.tensor([[0, 2, 2, 4, 1], [0, 1, 3, 2, 0], [5, 9, 60, 1, 33]])
    change = torch.linspace(-4, 5, 5)
    found = edited_logits(any_model, stack, captured, FeatureEdits(layer, example, feature, change)).log_softmax(-1)
    for row, (e, k, f, c) in enumerate(zip(example.tolist(), layer.tolist(), feature.tolist(), change, strict=True)):
        expected = word_log_probs(any_model, PROMPTS[e], last_only(c * stack.directions(k)[f]), k)
        torch.testing.assert_close(found[row], expected, atol=1e-4, rtol=0)


def test_joint_ablation_and_ablation_everywhere(any_model, stack):
    layer = 1
    captured = capture(any_model, PROMPTS, answers=WORDS, keep_cache=True, everywhere=[layer])
    features = stack.encode(layer, captured.residuals[layer]).sum(0).topk(4).indices.tolist()
    joint = ablate_jointly(any_model, stack, captured, {layer: features}).log_softmax(-1)
    feature = torch.tensor(features[:1]).expand(5)
    spread = ablate_everywhere(any_model, stack, captured, layer=layer, example=torch.arange(5), feature=feature)

    def without(x, chosen):
        return stack.encode(layer, x)[..., chosen] @ stack.directions(layer)[chosen]

    for i, prompt in enumerate(PROMPTS):

        def at_last(x):
            return last_only(-without(x[:, -1], features))(x)

        def at_all(x):
            change = without(x, features[:1])
            change[:, 0] = 0
            return x - change

        for found, edit in ((joint[i], at_last), (spread[i].log_softmax(-1), at_all)):
            torch.testing.assert_close(found, word_log_probs(any_model, prompt, edit, layer), atol=1e-4, rtol=0)


def test_gradients_reach_the_words_continuations(llama, stack):
    captured = capture(llama, PROMPTS, answers=WORDS, keep_cache=True)
    gradients = answer_gradients(llama, captured, torch.arange(5))
    step = 0.01 * torch.randn(5, llama.d_model, generator=torch.Generator().manual_seed(0))
    for i, prompt in enumerate(PROMPTS):
        up, down = (word_log_probs(llama, prompt, last_only(s * step[i]), 1)[i] for s in (1, -1))
        assert (up - down).item() / 2 == pytest.approx((gradients[1, i] * step[i]).sum().item(), abs=2e-4)


def test_the_logit_lens_at_the_last_layer_is_the_answer(any_model):
    captured = capture(any_model, PROMPTS, answers=WORDS, keep_cache=True)
    found = captured.read_out(any_model, any_model.n_layers - 1)
    torch.testing.assert_close(found, captured.answer_logits, atol=1e-4, rtol=0)


NESTED = [
    " sad",
    " sadness",
    " sadness found",
    " sadness found again",
    " sadness lost",
    " joy",
    " joyful streets",
    " a",
]
"""One a beginning of another, several times; beginnings that some share."""


def test_tokens_that_words_begin_with_stand_once(llama):
    answers = Answers.of(llama, NESTED)
    chains = list(answers.continuations.values())
    assert answers.n_continued == len({c[: k + 1] for c in chains for k in range(len(c))}) < sum(map(len, chains))
    assert answers.ids.tolist() == [beginning[-1] for beginning in answers.nodes]
    columns = dict(enumerate(answers.nodes, start=1))
    for query, beginning in columns.items():
        assert answers.offsets[query] == len(beginning)
        seen = {columns[key] for key in answers.seen[query].nonzero().flatten().tolist() if key}
        assert seen == {beginning[: k + 1] for k in range(len(beginning))}
    assert answers.seen[:, 0].all() and answers.seen[0].sum() == 1
    paths = [tuple(answers.ids[column - 1].item() for column in path.columns) for path in answers.paths]
    assert paths == [path.ids for path in answers.paths]
    assert {column for path in answers.paths for column in path.columns} == set(columns)


@pytest.mark.parametrize(("at_once", "logits"), [(512, 2**25), (3, 400 * 4)])
def test_nested_words_equal_the_whole_model(any_model, stack, monkeypatch, at_once, logits):
    """All continuation tokens in one pass, or in passes and read-outs of a few; behind edits as well."""
    monkeypatch.setattr(sys.modules["interp.engine.prompt_pass"], "CONTINUED_AT_ONCE", at_once)
    monkeypatch.setattr("interp.models.answers.LOGITS_AT_ONCE", logits)
    prompts = PROMPTS[1:4]
    captured = capture(any_model, prompts, answers=NESTED, keep_cache=True)
    vector = torch.randn(any_model.d_model, generator=torch.Generator().manual_seed(0))
    edited = answers_under(any_model, captured, {1: lambda x: x + vector}).log_softmax(-1)
    for i, prompt in enumerate(prompts):
        expected = word_log_probs(any_model, prompt, words=NESTED)
        torch.testing.assert_close(captured.answer_log_probabilities[i], expected, atol=1e-4, rtol=0)
        expected = word_log_probs(any_model, prompt, last_only(vector), 1, words=NESTED)
        torch.testing.assert_close(edited[i], expected, atol=1e-4, rtol=0)


def test_results_do_not_depend_on_how_much_memory_is_free(llama, monkeypatch):
    """Prompts one at a time, and gradients through parts whose logits are computed anew."""
    captured = capture(llama, PROMPTS, answers=NESTED, keep_cache=True)
    edits = {"two": {0: lambda x: 1.1 * x, 2: lambda x: 0.9 * x}, "one": {1: lambda x: 1.2 * x}, "none": {}}
    targets = torch.arange(5)
    plenty = answers_under_each(llama, captured, edits), answer_gradients(llama, captured, targets)
    monkeypatch.setattr("interp.engine.suffix.free_memory", lambda device: 0)
    monkeypatch.setattr("interp.models.answers.LOGITS_AT_ONCE", 400)
    assert rows_that_fit(llama, captured) == 2
    scarce = answers_under_each(llama, captured, edits), answer_gradients(llama, captured, targets)
    for name, found in plenty[0].items():
        torch.testing.assert_close(scarce[0][name], found, atol=1e-4, rtol=0)
    torch.testing.assert_close(scarce[1], plenty[1], atol=1e-4, rtol=1e-3)


def test_three_hundred_labels_are_one_bounded_pass(tiny, monkeypatch):
    """On the bundled model: no more logits together than allowed, no more tokens in a batch than a small pass holds."""
    stems = [f"{a}{b}" for a in ("joy", "sad", "fear", "calm", "hope", "pride") for b in "abcdefghij"]
    labels = [stem + ending for stem in stems for ending in ("", "ness", "ful", "ly lost", "ly found")]
    prompts = [f"Text: The letter number {i} came.\nEmotion:" for i in range(20)]
    most = {"logits": 0, "tokens": 0}
    unembed, backbone = tiny.unembed, tiny.backbone.forward

    def counted(residual, tokens=None):
        if tokens is None:
            most["logits"] = max(most["logits"], residual.shape[:-1].numel() * len(tiny.head_weight))
        return unembed(residual, tokens)

    def passed(*, input_ids, **options):
        most["tokens"] = max(most["tokens"], input_ids.numel())
        return backbone(input_ids=input_ids, **options)

    monkeypatch.setattr(tiny, "unembed", counted)
    monkeypatch.setattr(tiny.backbone, "forward", passed)
    monkeypatch.setattr("interp.models.answers.LOGITS_AT_ONCE", 2**22)
    answers = Answers.after(tiny, prompts[0], labels)
    assert len(labels) == 300 and answers.whole
    found = capture(tiny, prompts, answers=labels, tokens_per_batch=2048).answer_log_probabilities
    assert 0 < most["logits"] <= 2**22 and 0 < most["tokens"] <= 2048
    spelled = [f" {label}" for label in labels]
    for word in (0, 7, 299):
        # differences of whole words' log-probabilities, from full passes
        pair = [spelled[word], spelled[1]]
        expected = word_log_probs(tiny, prompts[3], words=pair, normed=False)
        difference = found[3, word] - found[3, 1]
        assert difference.item() == pytest.approx((expected[0] - expected[1]).item(), abs=2e-4)


def test_check_says_what_labels_cost(tmp_path):
    labels = ["joyful", "joyfulness", "joyful street", "joyful streets"]
    lines = ["text,label", *(f"The letter number {i} came,{labels[i % 4]}" for i in range(16))]
    (tmp_path / "own.csv").write_text("\n".join(lines))
    corpus = {"name": "local", "split": "all", "path": str(tmp_path / "own.csv")}
    roles = {"discover": corpus, "fit": corpus, "test": [corpus]}
    config = Config(name="many", model="tiny", saes={"name": "tiny"}, labels=labels, corpora=roles)
    found = check(config, RunFolder(tmp_path), lambda line: None)
    answers = Answers.after(load_model("tiny"), "Text: A\nEmotion:", labels)
    read = sum(map(len, answers.continuations.values()))
    assert 0 < answers.n_continued < read
    assert f"4 labels take {answers.n_continued} tokens behind every prompt ({read} if none" in found.facts["labels"]
