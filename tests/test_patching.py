"""Patching from prompt to prompt against plain hooks on whole passes."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hooked import named
from tiny_models import LABELS, PROMPTS

from interp import capture
from interp.analysis.labelled import LabelledExamples
from interp.analysis.patching import patching_effects, text_pairs
from interp.engine.patching import Patch, patched_answers, prompt_ends
from interp.errors import UserError
from interp.models.answers import Answers
from interp.report import write_report
from interp.run.patching import PatchingOptions, patch

SOURCES = [2, 3, 4, 0, 1]
"""Whose values go into each prompt."""
PATCHES = [
    Patch("residual", 1, 1),
    Patch("attention", 0, 0),
    Patch("mlp", 3, 3),
    Patch("attention", 1, 3),
    Patch("mlp", 0, 2),
    Patch("residual", 0, 0, (-3,)),
    Patch("attention", 0, 3, (-4, -2)),
    Patch("mlp", 2, 3, (-1, -2, -3)),
    Patch("residual", 2, 3, (-2,)),
]


def place(model, part: str, layer: int):
    return named(model, {"residual": "feature"}.get(part, part), layer)


@torch.no_grad()
def by_hooks(model, target: str, source: str, one: Patch) -> torch.Tensor:
    """Two whole passes: what the source's modules put out, put out by the target's."""
    ids = {name: torch.tensor([model.encode([p])[0].ids]) for name, p in (("target", target), ("source", source))}
    held: dict = {}
    layers = range(one.first, one.last + 1)
    first = lambda o: o[0] if isinstance(o, tuple) else o  # noqa: E731
    handles = [
        place(model, one.part, k).register_forward_hook(lambda m, a, o, k=k: held.update({k: first(o).clone()}))
        for k in layers
    ]
    model.hf(input_ids=ids["source"], attention_mask=torch.ones_like(ids["source"]))
    for handle in handles:
        handle.remove()

    def put(m, a, o, k):
        new = first(o).clone()
        for position in one.positions:
            new[:, position] = held[k][:, position]
        return (new, *o[1:]) if isinstance(o, tuple) else new

    handles = [place(model, one.part, k).register_forward_hook(lambda m, a, o, k=k: put(m, a, o, k)) for k in layers]
    try:
        logits = model.hf(input_ids=ids["target"], attention_mask=torch.ones_like(ids["target"])).logits[0, -1]
    finally:
        for handle in handles:
            handle.remove()
    return logits[Answers.of(model, [f" {x}" for x in LABELS]).first]


def test_patches_equal_plain_hooks(any_model):
    captured = capture(any_model, PROMPTS, answers=LABELS, keep_cache=True)
    encoded = any_model.encode(PROMPTS)
    targets, sources = prompt_ends(any_model, encoded, 4), prompt_ends(any_model, [encoded[i] for i in SOURCES], 4)
    found = patched_answers(any_model, captured, targets, sources, PATCHES)
    for i, source in enumerate(SOURCES):
        for k, one in enumerate(PATCHES):
            expected = by_hooks(any_model, PROMPTS[i], PROMPTS[source], one)
            torch.testing.assert_close(found[i, k], expected, atol=1e-4, rtol=0)


def test_a_prompt_patched_into_itself_is_itself_and_the_last_residual_is_the_sources_answer(any_model):
    captured = capture(any_model, PROMPTS, answers=LABELS, keep_cache=True)
    encoded = any_model.encode(PROMPTS)
    ends = prompt_ends(any_model, encoded, 4)
    for logits in patched_answers(any_model, captured, ends, ends, PATCHES).unbind(1):
        torch.testing.assert_close(logits, captured.answer_logits, atol=1e-4, rtol=0)
    sources = prompt_ends(any_model, [encoded[i] for i in SOURCES], 1)
    last = any_model.n_layers - 1
    found = patched_answers(any_model, captured, ends, sources, [Patch("residual", last, last)])[:, 0]
    torch.testing.assert_close(found, captured.answer_logits[SOURCES], atol=1e-4, rtol=0)


def test_words_scored_whole_are_patched_too(llama):
    from whole_passes import WORDS, word_log_probs

    prompts = PROMPTS[:2]
    captured = capture(llama, prompts, answers=WORDS, keep_cache=True)
    encoded = llama.encode(prompts)
    ends, sources = prompt_ends(llama, encoded, 2), prompt_ends(llama, encoded[::-1], 2)
    found = patched_answers(llama, captured, ends, sources, [Patch("residual", 1, 1, (-2, -1))])[:, 0].log_softmax(-1)
    for i, prompt in enumerate(prompts):

        def put(x, i=i):
            x = x.clone()
            x[:, -2:] = sources.values[1][i]
            return x

        torch.testing.assert_close(found[i], word_log_probs(llama, prompt, put, 1), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Patch("mlp", 3, 4), "layers 0 to 3; got 3 to 4"),
        (Patch("mlp", 2, 1), "got 2 to 1"),
        (Patch("mlp", 1, 1, (0,)), "counted from the prompt's end"),
        (Patch("mlp", 1, 1, ()), "counted from the prompt's end"),
    ],
)
def test_what_is_no_patch_is_refused(llama, wrong, said):
    captured = capture(llama, PROMPTS[:1], answers=LABELS, keep_cache=True)
    ends = prompt_ends(llama, llama.encode(PROMPTS[:1]), 1)
    with pytest.raises(UserError, match=said):
        patched_answers(llama, captured, ends, ends, [wrong])
    with pytest.raises(UserError, match="outside a prompt"):
        prompt_ends(llama, llama.encode(PROMPTS[:1]), 99)
    with pytest.raises(ValueError, match="1 tokens were read, 2 are patched"):
        patched_answers(llama, captured, ends, ends, [Patch("mlp", 1, 1, (-2,))])


# ------------------------------------------------------------------------------------------ pairs and a run


def test_pairs_are_of_two_emotions_near_in_length_and_taken_once():
    gold = np.repeat([0, 1], 6)
    examples = LabelledExamples(["a", "b"], gold, np.array([f"g{i}" for i in range(12)]))
    lengths = np.array([10, 20, 30, 40, 50, 60, 61, 51, 41, 31, 21, 11])
    pairs = text_pairs(examples, lengths, 6, seed=0)
    crossed = [p for p in pairs if not p.control]
    assert len(crossed) == 12
    for p in crossed:
        assert gold[p.target] != gold[p.source]
    for emotion in (0, 1):
        sources = [p.source for p in crossed if gold[p.source] == emotion]
        assert len(set(sources)) == len(sources)
    apart = [abs(lengths[p.target] - lengths[p.source]) for p in crossed]
    assert sorted(apart)[len(apart) // 2] == 1
    assert all(p.target != p.source and gold[p.target] == gold[p.source] for p in pairs if p.control)


def test_texts_of_one_group_are_paired():
    gold, groups = np.array([0, 0, 1, 1]), np.array(["x", "y", "y", "x"])
    pairs = text_pairs(LabelledExamples(["a", "b"], gold, groups), np.array([9, 9, 9, 9]), 2, seed=1)
    assert all(groups[p.target] == groups[p.source] for p in pairs if not p.control)


def test_a_share_of_the_way_is_recovered():
    """Half of the source's logits in the place of the target's: half of the way; a patch that changes nothing: none."""
    rng = np.random.default_rng(0)
    gold = np.repeat([0, 1, 2], 10)
    examples = LabelledExamples(["a", "b", "c"], gold, np.arange(30), resamples=200)
    clean = rng.normal(0, 0.2, (30, 3))
    clean[np.arange(30), gold] += 2
    pairs = text_pairs(examples, np.full(30, 9), 5, seed=0)
    own, theirs = (clean[[getattr(p, end) for p in pairs]] for end in ("target", "source"))
    patched = np.stack([own, (own + theirs) / 2, theirs], axis=1)
    table = patching_effects(pairs, examples, clean, patched, [{"first": k} for k in range(3)])
    whole = table[(table["emotion"] == "all") & ~table["control"]].set_index("first")
    assert whole["recovered"].to_list() == pytest.approx([0, 0.5, 1])
    assert whole["follows"].to_list() == [0, pytest.approx(0.5, abs=0.5), 1]
    assert whole.loc[2, "ci_low"] > 1
    assert whole["n"].eq(30).all()


def test_a_run_is_patched_and_its_report_shows_it(finished, tmp_path):
    folder = Path(shutil.copytree(finished, tmp_path / "runs" / "small"))
    table = patch(folder, PatchingOptions(pairs=2, span=2, positions=(-1, -2)))
    stored = pd.read_parquet(folder / "patching.parquet")
    pd.testing.assert_frame_equal(stored, table[list(stored)], check_dtype=False)
    assert set(zip(table["first"], table["last"], strict=True)) == {(0, 1), (1, 2), (2, 3)}
    assert set(table["position"]) == {-1, -2}
    last = table[(table["part"] == "residual") & (table["last"] == 3) & (table["position"] == -1)]
    crossed = last[(last["emotion"] == "all") & ~last["control"]]
    assert crossed["recovered"].item() == pytest.approx(1, abs=1e-4)  # the source's last residual is its answer
    page = write_report(folder).read_text()
    assert 'id="figure-patching-1"' in page
    again = patch(folder, PatchingOptions(pairs=2, span=2, positions=(-1, -2)))
    pd.testing.assert_frame_equal(again, stored)
