"""Planted truth: in a model built by hand, the whole pipeline finds the features that were put there, and only they."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from planted import BOUNDARIES, LABELS, Planted, build_planted, planted_run

from interp import capture
from interp.models.answers import Answers
from interp.texts.prompts import build_prompts


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Planted:
    return build_planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def finished(planted) -> Path:
    return planted_run(planted, "planted")


@pytest.fixture(scope="module")
def causal(finished) -> set[tuple[int, int, str]]:
    """(layer, feature, emotion) that the run calls causal."""
    table = pd.read_parquet(finished / "effects.parquet")
    table = table[table["causal"] & (table["role"] == "discover")]
    return set(zip(table["layer"], table["feature"], table["emotion"], strict=True))


# ------------------------------------------------------------------------------ the world itself


@pytest.fixture(scope="module")
def brute_force(planted) -> pd.DataFrame:
    """Effect of removing every planted or background feature on every answer, by plain hooked passes.

    Columns layer, feature, kind, name, emotion, inside and outside: the mean drop of the emotion's logit, centred over
    the label set, in its own texts and in the others.
    """
    texts = planted.texts(40, 7)
    gold = np.array([LABELS.index(label) for label in texts["label"]])
    model, prompts = planted.model, build_prompts(list(texts["text"]), LABELS)
    tokens = model.pad(model.encode(prompts))
    answers = Answers.of(model, [f" {label}" for label in LABELS]).first

    @torch.no_grad()
    def logits(edits: dict) -> np.ndarray:
        with model.edited(edits):
            passed = model.hf(
                input_ids=tokens.ids, attention_mask=tokens.mask.long(), position_ids=tokens.positions
            ).logits[:, -1, answers]
        return (passed - passed.mean(1, keepdim=True)).numpy()

    def without(layer: int, index: int):
        sae = planted.saes[layer]

        def edit(x: torch.Tensor) -> torch.Tensor:
            x = x.clone()
            x[:, -1] -= sae.encode(x[:, -1])[:, [index]] * sae.W_dec[index]
            return x

        return {layer: edit}

    clean, lines = logits({}), []
    for f in planted.features:
        drop = clean - logits(without(f.layer, f.index))
        for e, label in enumerate(LABELS):
            means = {"inside": drop[gold == e, e].mean(), "outside": drop[gold != e, e].mean()}
            who = {"layer": f.layer, "feature": f.index, "kind": f.kind, "name": f.name, "emotion": label}
            lines.append(who | means)
    return pd.DataFrame(lines)


def acting(brute_force: pd.DataFrame) -> pd.DataFrame:
    """Features whose removal takes from an emotion's answer where the emotion is, and less where it is not."""
    return brute_force[(brute_force["inside"] > 0.05) & (brute_force["inside"] - brute_force["outside"] > 0.05)]


def test_the_model_answers_well_but_not_always(planted):
    texts = planted.texts(400, 5)
    found = capture(planted.model, build_prompts(list(texts["text"]), LABELS), answers=LABELS)
    right = found.answer_logits.argmax(-1).numpy() == [LABELS.index(label) for label in texts["label"]]
    assert 0.8 < right.mean() < 0.95
    assert all(0.6 < right[texts["label"] == label].mean() < 1 for label in LABELS)


def test_causes_and_only_they_act_where_their_emotion_is(planted, brute_force):
    own = acting(brute_force)
    found = set(zip(own["layer"], own["feature"], own["emotion"], strict=True))
    assert found == planted.causes("strong") | planted.causes("weak")


def test_strong_causes_move_the_answer_and_weak_ones_little(brute_force):
    own = acting(brute_force).set_index("kind")
    assert own.loc["strong", "inside"].min() > 0.5
    assert own.loc["weak", "inside"].min() > 0.05
    assert own.loc["weak", "inside"].max() < 0.3


def test_decoys_and_spent_causes_do_nothing_and_biases_do_the_same_everywhere(brute_force):
    idle = brute_force[brute_force["kind"].isin(["decoy", "spent", "other"])]
    assert idle[["inside", "outside"]].abs().to_numpy().max() < 0.02
    bias = brute_force[(brute_force["name"] == "format_0") & (brute_force["emotion"] == "fear")]
    assert (bias["inside"] > 0.3).all()
    assert (bias["inside"] - bias["outside"]).abs().max() < 0.02


def test_decoys_fire_for_their_emotion_alone(planted):
    texts = planted.texts(100, 6)
    found = capture(planted.model, build_prompts(list(texts["text"]), LABELS), answers=LABELS)
    for layer, feature, emotion in planted.causes("decoy"):
        fires = planted.saes.encode(layer, found.residuals[layer])[:, feature].numpy() > 0
        np.testing.assert_array_equal(fires, texts["label"] == emotion)


# ------------------------------------------------------------------------------ what the tool finds in it


def test_strong_causes_are_found_all_and_alone(planted, causal):
    strong, weak = planted.causes("strong"), planted.causes("weak")
    assert strong <= causal  # recall 1.0
    assert causal <= strong | weak  # precision 1.0


def test_weak_causes_are_found(planted, causal):
    weak = planted.causes("weak")
    assert len(weak & causal) >= 0.9 * len(weak)


def test_a_shared_cause_is_found_for_both_emotions(planted, causal):
    shared = {(f.layer, f.index) for f in planted.features if f.name == "fear_sadness"}
    assert len(shared) == 3
    assert {(layer, feature, e) for layer, feature in shared for e in ("fear", "sadness")} <= causal


def test_decoys_are_selective_but_not_causal(planted, finished, causal):
    table = pd.read_parquet(finished / "selectivity.parquet")
    selective = table[table["q"] < 0.05]
    named = set(zip(selective["layer"], selective["feature"], selective["emotion"], strict=True))
    decoys = planted.causes("decoy")
    assert len(decoys) == 30
    assert decoys <= named
    assert not decoys & causal


def test_biases_and_spent_causes_are_not_causal_although_biases_have_effects(planted, finished, causal):
    assert not (planted.causes("bias") | planted.causes("spent")) & causal
    table = pd.read_parquet(finished / "effects.parquet").set_index(["layer", "feature", "emotion"])
    bias = table.loc[sorted(planted.causes("bias"))]
    assert (bias["ci_low"] > 0).all()
    assert (bias["q"] > 0.05).all()


def test_phases_are_where_they_were_put(finished):
    phases = json.loads((finished / "phases.json").read_text())
    assert phases["boundaries"] == list(BOUNDARIES)
    assert all(low <= b <= high for b, (low, high) in zip(BOUNDARIES, phases["intervals"], strict=True))


def test_representation_comes_before_causes(finished):
    table = pd.read_parquet(finished / "signals.parquet").pivot(index="layer", columns="signal", values="value")
    assert (table.loc[:2, "probe_features"] < 0.35).all()
    assert (table.loc[3:, "probe_features"] > 0.9).all()
    assert table.loc[:5, "joint_ablation"].max() < 0.02
    assert table.loc[6:, "joint_ablation"].min() > 0.3


def test_the_diffuse_emotion_is_the_most_diffuse(finished):
    table = pd.read_parquet(finished / "concentration.parquet")
    table = table[table["phase"] == "all"].set_index("emotion")
    assert table["effective_number"].idxmax() == "disgust"
    assert table["share_top_1"].idxmin() == "disgust"
    assert table.loc["disgust", "effective_number"] == pytest.approx(12, abs=0.5)
    assert table.loc["anger", "effective_number"] == pytest.approx(3, abs=0.1)


def test_no_cause_and_no_phase_is_found_where_labels_are_shuffled(planted):
    """The model still has causes for its answers, but none of them goes with a label."""
    found = planted_run(planted, "shuffled", shuffled=True, command="trace")
    assert not pd.read_parquet(found / "effects.parquet")["causal"].any()
    assert json.loads((found / "phases.json").read_text())["n_phases"] == 1


# ------------------------------------------------------------------------------ causes together


def test_inserted_causes_are_followed_and_controls_are_not(finished):
    table = pd.read_parquet(finished / "insertion.parquet")
    causal, control = table[~table["control"]], table[table["control"]]
    assert set(causal["emotion"]) == set(LABELS)
    # the texts keep their own causes: about half of them follow
    assert causal["effect"].min() > 0.5
    assert causal.groupby("emotion")["follows"].mean().min() > 0.4
    assert control["follows"].fillna(0).max() < 0.15


def test_removed_causes_take_the_answer_and_controls_do_not(finished):
    joint = pd.read_parquet(finished / "joint.parquet")
    whole = joint[joint["phase"] == "all"].sort_values("k").groupby(["emotion", "control"])["effect"].last().unstack()
    assert (whole[False] > 0.5).all()
    assert (whole[True].abs() < 0.1).all()
    by_phase = joint[(joint["phase"] != "all") & ~joint["control"]]
    assert set(by_phase["phase"]) == {"3"}  # causes were put into the last phase alone
    moved = pd.read_parquet(finished / "overshadowing.parquet")
    moved = moved.pivot(index="emotion", columns="answer", values="effect")
    assert (np.diag(moved.loc[list(LABELS), list(LABELS)]) < -0.1).all()
    np.testing.assert_allclose(moved.sum(axis=1), 0, atol=1e-6)  # probabilities only move


def test_common_causes_are_counted(finished):
    table = pd.read_parquet(finished / "cofiring.parquet").set_index(["emotion", "features_of"])
    assert table.loc[("fear", "sadness"), "common"] == 3
    assert table.loc[("anger", "joy"), "common"] == 0
    for label in LABELS:
        own = table.loc[(label, label), "share"]
        assert own == table.xs(label, level="features_of")["share"].max()


def test_directions_act_where_causes_are_and_random_ones_nowhere(finished):
    table = pd.read_parquet(finished / "baselines.parquet")
    means = table.groupby(["method", "layer"])["effect"].mean()
    assert means["random direction"].abs().max() < 0.1
    assert means["mean difference direction"].loc[8] > 0.5
    assert set(table["method"]) == {
        "mean difference direction", "probe direction", "random direction",
        "attention, zero", "attention, mean", "mlp, zero", "mlp, mean",
    }  # fmt: skip


def test_the_table_of_reasons_tells_the_diffuse_emotion(finished):
    why = pd.read_parquet(finished / "why.parquet").set_index("emotion")
    assert why["effective_number"].idxmax() == "disgust"
    assert why["share_top_1"].idxmin() == "disgust"
    assert (why["n_selective"] > 0).all()
    assert why["lexical"].isna().all()


def test_selective_features_are_stable_and_told_from_the_nearest_emotion(planted, finished):
    table = pd.read_parquet(finished / "selectivity.parquet").set_index(["layer", "feature", "emotion"])
    decoys = table.loc[sorted(planted.causes("decoy"))]
    assert decoys["stable"].astype(bool).all()
    assert (decoys["auroc_nearest"].astype(float) > 0.9).all()
