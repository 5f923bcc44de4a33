"""Texts with several emotions: scores by hand and by scikit-learn, intervals that cover, one emotion as before."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, label_ranking_average_precision_score
from worlds import start

from interp import UserError
from interp.evaluation.several import (
    first_answers,
    gold_sets,
    ranking_precision,
    set_scores,
    set_scores_by_method,
)
from interp.run import tables
from interp.statistics import Bootstrap, accuracy, confusion_draws, macro_f1

LABELS = ["anger", "fear", "joy", "love"]


def world(seed: int, n: int = 200, several: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    gold = np.zeros((n, 4), bool)
    gold[np.arange(n), rng.integers(0, 4, n)] = True
    gold |= (rng.random((n, 4)) < 0.5) & (rng.random(n) < several)[:, None]
    return gold, rng.normal(size=(n, 4)) + 1.2 * gold


def test_cells_become_sets_and_other_words_are_refused():
    found = gold_sets(["joy", "anger + love", "fear"], LABELS)
    assert found.tolist() == [[False, False, True, False], [True, False, False, True], [False, True, False, False]]
    with pytest.raises(ValueError, match="none of the labels"):
        gold_sets(["joy + hunger"], LABELS)


def test_scores_are_those_of_scikit_learn():
    gold, logits = world(0)
    scores = set_scores(gold, logits, Bootstrap(range(len(gold)), 0))
    given = first_answers(logits, gold.sum(1))
    assert (given.sum(1) == gold.sum(1)).all()
    assert scores["set_ranking"].value == pytest.approx(label_ranking_average_precision_score(gold, logits))
    assert scores["set_micro_f1"].value == pytest.approx(f1_score(gold, given, average="micro"))
    assert scores["set_macro_f1"].value == pytest.approx(f1_score(gold, given, average="macro"), rel=1e-5)
    assert scores["set_hit"].value == pytest.approx(gold[np.arange(200), logits.argmax(1)].mean())


def test_equal_scores_share_the_worst_rank():
    gold = np.array([[True, True, False, False]])
    logits = np.array([[1.0, 1.0, 1.0, 0.0]])
    assert ranking_precision(gold, logits)[0] == pytest.approx(label_ranking_average_precision_score(gold, logits))


def test_with_one_emotion_a_text_they_are_accuracy_and_macro_f1():
    gold, logits = world(1, several=0.0)
    assert (gold.sum(1) == 1).all()
    scores = set_scores(gold, logits, Bootstrap(range(len(gold)), 0))
    confusion = confusion_draws(gold.argmax(1), logits.argmax(1), 4, np.ones((1, len(gold)), np.float32))
    assert scores["set_hit"].value == pytest.approx(accuracy(confusion)[0])
    assert scores["set_micro_f1"].value == pytest.approx(accuracy(confusion)[0])
    assert scores["set_macro_f1"].value == pytest.approx(macro_f1(confusion)[0])


def test_intervals_cover_the_truth_as_often_as_they_say():
    gold, logits = world(2, 200_000)
    truth = {name: e.value for name, e in set_scores(gold, logits, Bootstrap(range(len(gold)), 0)).items()}
    covered = dict.fromkeys(truth, 0)
    for seed in range(150):
        rows = np.random.default_rng(seed).integers(0, len(gold), 150)
        for name, e in set_scores(gold[rows], logits[rows], Bootstrap(range(150), 300, seed)).items():
            covered[name] += e.ci_low <= truth[name] <= e.ci_high
    for name, times in covered.items():
        assert 0.88 <= times / 150 <= 0.995, name


def test_changes_are_paired_and_of_a_method_that_changes_nothing_zero():
    gold, logits = world(3)
    better = logits + 2.0 * gold
    scores = set_scores_by_method(
        gold, {"unsteered": logits, "same": logits, "better": better}, Bootstrap(range(len(gold)), 300)
    )
    assert not any(name.endswith("_gain") for name in scores["unsteered"])
    for name in ("set_hit_gain", "set_ranking_gain", "set_micro_f1_gain", "set_macro_f1_gain"):
        assert scores["same"][name][:3] == (0, 0, 0)
        assert scores["better"][name].ci_low > 0
    gain = scores["better"]["set_ranking"].value - scores["unsteered"]["set_ranking"].value
    assert scores["better"]["set_ranking_gain"].value == pytest.approx(gain, rel=1e-5)


@pytest.mark.filterwarnings("ignore::interp.errors.InterpWarning")
def test_a_run_whose_test_texts_all_have_several_emotions_is_refused(world, tmp_path):
    pd.DataFrame({"words": ["the dog", "a letter"], "feeling": ["['joy', 'fear']"] * 2, "split": "test"}).to_csv(
        tmp_path / "several.csv", index=False
    )
    flags = {"corpora.test.0.path": str(tmp_path / "several.csv"), "corpora.test.0.several": "true"}
    with pytest.raises(UserError, match="holds only texts with several emotions"):
        start(world, tmp_path / "runs", **flags)


def test_a_run_scores_texts_with_several_emotions_as_sets_and_the_others_as_before(world, finished, tmp_path):
    known = pd.read_csv(world / "corpus.csv")
    rows = known[known["split"] == "test"].reset_index(drop=True)
    cells = [
        f"['{label}', 'joy']" if i % 3 == 0 and label != "joy" else label for i, label in enumerate(rows["feeling"])
    ]
    rows.assign(feeling=cells, words=rows["words"] + " now").to_csv(tmp_path / "several.csv", index=False)
    more = {"name": "local", "path": str(tmp_path / "several.csv"), "text_column": "words", "label_column": "feeling"}
    flags = {f"corpora.test.1.{key}": value for key, value in {**more, "several": "true"}.items()}
    run = start(world, tmp_path / "runs", **flags).folder
    examples = tables.read(run / "examples.parquet")
    several = examples[examples["role"] == "several"]
    n_several = sum(cell.startswith("[") for cell in cells)
    assert len(several) == n_several > 0
    assert set(several["gold"]) <= {"anger + joy", "fear + joy"}

    scores = tables.read(run / "evaluation.parquet")
    its = scores[scores["corpus"] == "local (several.csv)"]
    unsteered = its[its["method"] == "unsteered"].set_index("metric")
    assert unsteered.loc["accuracy", "n"] == len(rows) - n_several
    assert unsteered.loc["set_hit", "n"] == len(rows)
    assert (its["metric"] == "set_ranking_gain").any()
    own = examples[examples["corpus"] == "local (several.csv)"]
    log_probs = own[["logp_anger", "logp_fear", "logp_joy"]].to_numpy()
    gold = gold_sets(own["gold"].tolist(), ["anger", "fear", "joy"])
    assert unsteered.loc["set_ranking", "value"] == pytest.approx(
        label_ranking_average_precision_score(gold, log_probs), abs=1e-5
    )
    # The corpus whose texts have one emotion each is scored as if the other were not there.
    before = tables.read(finished / "evaluation.parquet")
    told = ["split", "method", "metric", "value", "n"]  # intervals have a seed that goes by the corpus' name
    alone = scores.loc[scores["corpus"] == "local (corpus.csv)", told].reset_index(drop=True)
    expected = before.loc[before["corpus"] == "local", told].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, expected, check_exact=False, rtol=1e-4, atol=1e-6)
    page = (run / "report.html").read_text()
    assert "Texts with several emotions" in page
    assert "ranking precision" in page
    assert 'id="figure-trees"' in page
    assert "Texts with several emotions" not in (finished / "report.html").read_text()
