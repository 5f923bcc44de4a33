"""Steerings from texts alone: on a planted world, against a difference of means by hand, and what is refused."""

import numpy as np
import pytest
import torch
from knowing import LABELS, LAYER, build_world

from interp import Steering, UserError, capture
from interp.engine.variants import answers_under
from interp.evaluation.recognition import macro_f1_of
from interp.saes.coordinates import Coordinates
from interp.steering import coupled
from interp.steering.coupled import couple
from interp.steering.export import export, loaded
from interp.texts.prompts import build_prompts


@pytest.fixture(scope="module")
def knows():
    return build_world(known=3.0)


@pytest.fixture
def in_its_words(knows, monkeypatch):
    """Running text as the world has it: it knows none of the words of ours."""
    monkeypatch.setattr(coupled, "RunningText", lambda model, layers: lambda layer: knows.running)


def learnt(world, each: int) -> tuple[list[str], list[str], list[str]]:
    """Texts, their labels, and the other texts that may be learnt from."""
    gold = world.gold[world.learnt]
    rows = np.concatenate([np.flatnonzero(gold == label)[:each] for label in range(len(LABELS))])
    rest = np.setdiff1d(np.arange(len(gold)), rows)
    texts = [world.texts[i] for i in world.learnt]
    return [texts[i] for i in rows], [LABELS[gold[i]] for i in rows], [texts[i] for i in rest]


def score(world, steering: Steering | None, saes=None) -> float:
    captured = capture(world.model, [world.texts[i] for i in world.asked], answers=LABELS, keep_cache=True)
    edits = {} if steering is None else steering.edits(saes or Coordinates(world.model.n_layers, world.model.d_model))
    answers = answers_under(world.model, captured, edits).argmax(1).numpy()
    return macro_f1_of(world.gold[world.asked], answers, len(LABELS))


@pytest.mark.parametrize("sparse", [False, True])
def test_a_model_that_knows_is_made_to_say_from_five_texts_a_label(knows, in_its_words, sparse):
    texts, labels, rest = learnt(knows, 5)
    saes = knows.saes if sparse else None
    steering = Steering.from_examples(knows.model, texts, labels, unlabelled=rest, saes=saes, template="{text}")
    assert score(knows, None) < 0.35
    assert score(knows, steering, saes) > (0.9 if sparse else 0.8)
    assert steering.provenance["n_unlabelled"] == len(rest)
    assert steering.positions == "answer"


def test_without_knowledge_nothing_is_made_up(in_its_words):
    ignorant = build_world()
    texts, labels, rest = learnt(ignorant, 5)
    steering = Steering.from_examples(ignorant.model, texts, labels, unlabelled=rest, template="{text}")
    assert score(ignorant, steering) < 0.45


def test_random_directions_as_long_do_not_say_what_the_labels_do(knows):
    ground = knows.ground(5, seed=1)
    few = ground.few
    few = type(few)(**{**vars(few), "saes": Coordinates(knows.model.n_layers, knows.model.d_model), "layers": [LAYER]})
    gold = ground.data.gold.numpy()
    real, control = couple(few, ground.rows, gold), couple(few, ground.rows, gold, control=3)
    assert control.saying.length <= real.saying.length * 1.001
    assert control.steering.method == "random_directions"
    assert score(knows, real.steering) - score(knows, control.steering) > 0.3


def test_what_was_made_without_saes_is_saved_loaded_applied_and_exported(any_model, tmp_path):
    texts = [f"The dog ran down the street {'again ' * i}".strip() for i in range(14)]
    steering = Steering.from_examples(any_model, texts, ["anger", "joy"] * 7)
    steering.save(tmp_path / "own")
    read = Steering.load(tmp_path / "own")
    asked = build_prompts(["A letter came.", texts[5], texts[9]], ["anger", "joy"])  # where the gate is open
    tokens = any_model.pad(any_model.encode(asked))
    options = {"input_ids": tokens.ids, "attention_mask": tokens.mask.long()}
    with torch.no_grad():
        plain = any_model.hf(**options).logits
        with steering.applied(any_model):
            before = any_model.hf(**options).logits
        with read.applied(any_model):
            after = any_model.hf(**options).logits
        assert torch.equal(before, after)
        assert (before - plain).abs().max() > 1e-3
        saes = Coordinates(any_model.n_layers, any_model.d_model)
        portable = loaded(export(read, any_model, saes, "hf", tmp_path / "hf").parent)
        with portable.steered(any_model.hf):
            there = any_model.hf(**options).logits
    assert (there - after).abs().max() < 1e-4


def test_a_difference_is_that_of_the_mean_last_residuals(any_model):
    """Each text alone, without padding."""
    sides = [
        ["A letter came.", "It rained all day in the town."],
        ["The dog ran.", "She opened the door and laughed.", "No."],
    ]
    steering = Steering.from_difference(any_model, *sides, layer=1)

    def mean(texts: list[str]) -> torch.Tensor:
        last = []
        for text in texts:
            with any_model.recorded([1]) as seen, torch.no_grad():
                any_model.run(any_model.pad(any_model.encode([text], chat=False)))
            last.append(seen[1][0, -1].double())
        return torch.stack(last).mean(0)

    assert torch.allclose(steering.vectors[1].double(), mean(sides[0]) - mean(sides[1]), atol=1e-4)
    turned = Steering.from_difference(any_model, *sides[::-1], layer=1)
    assert torch.allclose(turned.vectors[1], -steering.vectors[1], atol=1e-4)
    assert Steering.from_difference(any_model, *sides).layers == [(any_model.n_layers - 1) // 2]
    assert steering.positions == "all"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda m: Steering.from_examples(m, ["a"] * 12, ["x"] * 11), "12 texts and 11 labels"),
        (lambda m: Steering.from_examples(m, ["a"] * 12, ["x"] * 12), "at least two"),
        (lambda m: Steering.from_examples(m, ["a"] * 4, ["x", "y"] * 2), "4 texts are too few, 12"),
        (lambda m: Steering.from_examples(m, ["a", " "] * 6, ["x", "y"] * 6), "Text 1 is"),
        (lambda m: Steering.from_examples(m, "a text", ["x", "y"]), "a list of texts"),
        (lambda m: Steering.from_difference(m, ["a"], []), "both sides"),
        (lambda m: Steering.from_difference(m, ["a"], ["b"], layer=99), "no layer 99"),
        (lambda m: Steering.from_difference(m, ["a"], [None]), "Text 0 is None"),
    ],
)
def test_what_cannot_be_made_is_refused_in_a_line(llama, make, words):
    with pytest.raises(UserError, match=words):
        make(llama)
