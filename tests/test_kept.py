"""Prompts behind a shared beginning, and captures kept for a whole run: what a plain pass finds."""

import pytest
import torch

from interp.engine import ablate_jointly, answers_under, answers_under_each, removal
from interp.engine.capture import capture, shared_prefix
from interp.engine.kept import KeptBatch, KeptCaptures, KeptPrompt, together
from interp.evaluation.ability import ClozeTest, load_cloze
from interp.evaluation.fluency import PlainText
from interp.models.language_model import Encoded
from interp.statistics import Bootstrap
from interp.steering.steering import Steering

TEXTS = [
    "Rain.",
    "The dog ran down the street in the rain.",
    "A letter",
    "Nobody had told us that the road was closed.",
]
FRAME = "My friend lost the cat, and then, late in the evening, found it again behind the garden wall. Text: "
PROMPTS = [f"{FRAME}{text}\nEmotion:" for text in TEXTS]
WHOLE = ["sad", "sadness", "sadly lost"]


@pytest.mark.parametrize("answers", [["anger", "fear", "joy"], WHOLE])
def test_a_shared_prefix_changes_nothing(any_model, answers):
    """Sliding windows of 8 tokens, learned and rotary positions, padding, answers scored whole."""
    options = {"answers": answers, "keep_cache": True, "everywhere": [1, 3]}
    found = capture(any_model, PROMPTS, **options)
    prefix = shared_prefix(any_model, [e.ids for e in any_model.encode(PROMPTS)])
    assert prefix is not None
    assert len(prefix) >= 16
    for i, prompt in enumerate(PROMPTS):
        alone = capture(any_model, [prompt], **options)  # a single prompt shares with nobody
        assert found.residuals[:, i] == pytest.approx(alone.residuals[:, 0], abs=1e-4)
        assert found.answer_logits[i] == pytest.approx(alone.answer_logits[0], abs=1e-4)
        (cache,) = found.caches
        row, (own,) = cache.examples.index(i), alone.caches
        real = cache.mask[row]
        assert int(real.sum()) == own.mask.shape[1]
        assert cache.position[row] == own.position[0]
        for layer in range(any_model.n_layers):
            torch.testing.assert_close(cache.keys[layer][row][:, real], own.keys[layer][0], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(cache.values[layer][row][:, real], own.values[layer][0], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(cache.continued[layer][row], own.continued[layer][0], atol=1e-4, rtol=1e-4)
        for layer in (1, 3):
            torch.testing.assert_close(cache.everywhere[layer][row][real], own.everywhere[layer][0], atol=1e-4, rtol=0)


def test_plain_text_from_the_lowest_steered_layer_on_is_what_whole_passes_give(any_model):
    """Against log-probabilities of whole passes over whole logits, one window at a time."""
    documents = [" ".join(TEXTS), "My friend found the cat behind the wall. " * 3]
    bootstrap = Bootstrap(range(len(documents)), 2)
    vector = torch.randn(any_model.d_model, generator=torch.Generator().manual_seed(0))
    steering = Steering("test", vectors={2: 2 * vector})

    def log_probs(ids, steered):
        tokens = any_model.pad([Encoded(ids, 0)])
        with torch.no_grad(), steered.applied(any_model):
            logits = any_model.hf(input_ids=tokens.ids, attention_mask=tokens.mask.long()).logits[0, :-1]
        return logits.float().log_softmax(-1)

    losses = torch.zeros(3)
    for document in documents:
        tokenizer = any_model.tokenizer
        ids = [tokenizer.bos_token_id, *tokenizer(document, add_special_tokens=False)["input_ids"]]
        assert len(ids) <= 128
        before, after = log_probs(ids, Steering("none")), log_probs(ids, steering)
        target = torch.tensor(ids[1:])[:, None]
        kl = (before.exp() * (before - after)).sum()
        losses += torch.stack([-before.gather(1, target).sum(), -after.gather(1, target).sum(), kl])
    for layers in ([], [0, 1], [2]):
        text = PlainText(any_model, documents, layers=layers)
        n = text.n_tokens - len(documents)
        found = text.under(lambda: steering.applied(any_model, positions="all"), bootstrap, lowest=2)
        assert found.perplexity == pytest.approx(float((losses[0] / n).exp()), rel=1e-4)
        assert found.perplexity_ratio.value == pytest.approx(float(((losses[1] - losses[0]) / n).exp()), rel=1e-4)
        assert found.kl.value == pytest.approx(float(losses[2] / n), rel=1e-3)
        assert found.kl.n == n
    assert all("forward" not in vars(block) for block in any_model.blocks)
    nothing = text.under(lambda: Steering("none").applied(any_model), bootstrap, lowest=any_model.n_layers)
    assert nothing.perplexity_ratio.value == 1
    assert nothing.kl.value == pytest.approx(0, abs=1e-6)


def test_a_text_is_cut_to_its_first_windows(llama):
    documents = ["Rain. " * 200, "A letter came. " * 100]
    whole, short = PlainText(llama, documents), PlainText(llama, documents, limit=130)
    assert short.n_documents == 1
    assert 130 <= short.n_tokens < 130 + 128 < whole.n_tokens


def test_cloze_words_share_their_beginning(any_model):
    """Against whole sequences, one at a time; words of several tokens among them."""
    items = load_cloze()[:6]
    right = ClozeTest(any_model, items, [1])
    vector = torch.randn(any_model.d_model, generator=torch.Generator().manual_seed(1))
    steering = Steering("test", vectors={1: 3 * vector})
    tokenizer = any_model.tokenizer
    for steered, found in (
        (Steering("none"), right.right()),
        (steering, right.right(lambda: steering.applied(any_model, positions="all"), lowest=1)),
    ):
        for item, verdict in zip(items, found, strict=True):
            scores = []
            for word in (item.right, item.wrong):
                start = [0, *tokenizer(item.beginning, add_special_tokens=False)["input_ids"]]
                own = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
                with torch.no_grad(), steered.applied(any_model, positions="all"):
                    logits = any_model.hf(input_ids=torch.tensor([start + own])).logits[0]
                log_probs = logits[len(start) - 1 : -1].log_softmax(-1)
                scores.append(log_probs[range(len(own)), own].mean().item())
            assert verdict == (scores[0] > scores[1])


@pytest.mark.parametrize("room", ["memory", "disk", "none"])
def test_kept_captures_are_put_together_as_if_captured_together(any_model, tmp_path, room):
    """From two batches of other lengths, in another order; the engine then gives what it gives on a plain capture."""
    prefix = shared_prefix(any_model, [e.ids for e in any_model.encode(PROMPTS)])
    options = {"answers": WHOLE, "keep_cache": True, "prefix": prefix}
    n_bytes = {"memory": (2**30, 0), "disk": (0, 2**30), "none": (0, 0)}[room]
    with KeptCaptures(tmp_path, memory=n_bytes[0], disk=n_bytes[1]) as kept:
        places = {}
        for b, members in enumerate(([0, 3], [1, 2])):
            captured = capture(any_model, [PROMPTS[i] for i in members], **options)
            batch = KeptBatch.of(captured, prefix)
            assert batch.behind
            assert batch.keys[0].shape[2] < captured.caches[0].keys[0].shape[2]
            kept.put(f"0 {b}", batch)
            found = kept.get(f"0 {b}")
            assert (found is None) == (room == "none")
            places |= {i: KeptPrompt(found or batch, column) for column, i in enumerate(members)}
        assert any(tmp_path.iterdir()) == (room == "disk")
        chosen = [3, 1, 0]
        joined = together([places[i] for i in chosen], captured.answers, prefix)
        plain = [capture(any_model, [PROMPTS[i]], answers=WHOLE, keep_cache=True) for i in chosen]
        vector = torch.randn(any_model.d_model, generator=torch.Generator().manual_seed(2))
        edits = {"low": {0: lambda x: x + vector}, "two": {1: lambda x: 0.5 * x, 3: lambda x: x - vector}, "none": {}}
        together_found = answers_under_each(any_model, joined, edits)
        for row, one in enumerate(plain):
            assert joined.residuals[:, row] == pytest.approx(one.residuals[:, 0], abs=1e-4)
            alone = {name: answers_under(any_model, one, own) for name, own in edits.items()}
            for name, logits in together_found.items():
                assert logits[row] == pytest.approx(alone[name][0], abs=1e-4), name
        assert joined.n_tokens == [one.n_tokens[0] for one in plain]
    assert not any(tmp_path.iterdir())


def test_variants_that_share_passes_are_those_computed_alone(any_model, stack):
    """More variants than fit into one pass, entering at different layers, features removed on the way up."""
    captured = capture(any_model, PROMPTS, answers=["anger", "fear", "joy"], keep_cache=True)
    layers = ([2], [0, 1], [3], [1, 3])
    sets = {f"{k}": {layer: list(range(k, 64, 4)) for layer in own} for k, own in enumerate(layers)}
    edits = {name: removal(any_model, stack, features) for name, features in sets.items()}
    found = answers_under_each(any_model, captured, edits, rows_in_flight=12)
    moved = 0.0
    for name, features in sets.items():
        alone = ablate_jointly(any_model, stack, captured, features)
        assert found[name] == pytest.approx(alone, abs=1e-5)
        moved = max(moved, (alone - captured.answer_logits).abs().max().item())
    assert moved > 1e-3
