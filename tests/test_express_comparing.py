"""Comparing: paired differences, human preferences, and a page that stands alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from express_files import command, write_answers, write_lexicon

from interp import UserError
from interp.surveys.express.answers import read_answers
from interp.surveys.express.comparing import compare, load_entries, paired
from interp.surveys.express.human import agreement, describe, read_preferences, similarity
from interp.surveys.express.lexicon import Lexicon, load_lexicon
from interp.surveys.express.page import write_comparison
from interp.surveys.express.scoring import score

DATA = Path(__file__).parents[2] / "shared" / "data" / "express"
GOLD = ["happy", "angry", "scared", "happy"] * 10
OPTIONS = {"resamples": 200, "seed": 0}


@pytest.fixture
def lexicon(tmp_path) -> Lexicon:
    return load_lexicon(write_lexicon(tmp_path / "lexicon.csv"))


def answers_file(path: Path, words: list[str], first_id: int = 0) -> Path:
    rows = [([gold], str([word])) for gold, word in zip(GOLD, words, strict=True)]
    return write_answers(path, rows, index=range(first_id, first_id + len(rows)))


def test_differences_are_paired(tmp_path, lexicon):
    """Both miss the same half; one also misses a quarter: the difference has the spread of that quarter alone."""
    half = [gold if i % 2 else "numb" for i, gold in enumerate(GOLD)]
    quarter = [word if i % 4 != 1 else "numb" for i, word in enumerate(half)]
    paths = [answers_file(tmp_path / "a.csv", half), answers_file(tmp_path / "b.csv", quarter)]
    first, other = load_entries(paths, lexicon, **OPTIONS)
    found = paired(first, other, lexicon, resamples=2000, seed=0).set_index("name").loc["AccL"]
    assert found["value"] == pytest.approx(-0.25) and found["n"] == 40
    spread = 1.96 * np.sqrt(0.25 * 0.75 / 40)
    assert found["ci_low"] == pytest.approx(-0.25 - spread, abs=0.03)
    same = paired(first, first, lexicon, **OPTIONS).set_index("name").loc["AccL"]
    assert (same["value"], same["ci_low"], same["ci_high"]) == (0, 0, 0)


def test_only_shared_segments_are_paired(tmp_path, lexicon):
    paths = [answers_file(tmp_path / "a.csv", GOLD), answers_file(tmp_path / "b.csv", GOLD, first_id=31)]
    first, other = load_entries(paths, lexicon, **OPTIONS)
    assert set(paired(first, other, lexicon, **OPTIONS)["n"]) == {3}  # of nine shared ids, those with equal gold words
    apart = load_entries([answers_file(tmp_path / "c.csv", GOLD, first_id=99)], lexicon, **OPTIONS)[0]
    assert paired(first, apart, lexicon, **OPTIONS).empty


def preferences_file(path: Path) -> Path:
    rows = [
        (1, 0, "['happy']", "['scared']", "option 1", "SD", 3.0),
        (2, 0, "['happy']", "['scared']", "option1", "SD", 3.0),
        (1, 1, "['scared']", "['angry']", "option 2", "SD", 2.0),
        (2, 1, "['scared']", "['angry']", "option 1", "LLM", None),
        (1, 2, "['happy']", "['glad']", "Both", "both", 12.0),
        (2, 2, "['happy']", "['glad']", "both", "both", 12.0),
        (1, 3, "['happy']", "['glad']", "option 9", "SD", 1.0),
        (1, 4, "happy", "['glad']", "option 1", "SD", 1.0),
    ]
    names = ["coder", "index", "option1", "option2", "your_choice", "choice", "code"]
    pd.DataFrame(rows, columns=names).to_csv(path, index=False)
    return path


def test_human_preferences_by_hand(tmp_path, lexicon):
    preferences = read_preferences(preferences_file(tmp_path / "human.csv"))
    assert preferences.problems.rows == {
        "has a choice that is none of option 1, option 2, both, neither": [8],
        "has options that are not two lists of as many words": [9],
    }
    found = describe(preferences, lexicon, **OPTIONS)
    assert found["judgements"] == 6 and found["segments"] == 3
    assert found["choices"]["SD"]["value"] == pytest.approx(3 / 6)
    assert found["choices"]["LLM"]["value"] == pytest.approx(1 / 6)
    assert found["option_similarity"]["both"]["value"] == pytest.approx(1)  # 'happy' and 'glad' have equal vectors
    assert found["codes"]["3"] == {"n": 2, "SD": 2, "LLM": 0, "both": 0, "neither": 0}
    # Observed agreement 2/3; by chance (1/2)^2 + (1/6)^2 + (1/3)^2 = 14/36.
    assert found["fleiss_kappa"]["value"] == pytest.approx((2 / 3 - 14 / 36) / (1 - 14 / 36))
    answers = {"0": ("glad",), "1": ("angry",), "2": ("happy",), "9": ("happy",)}
    agreed = agreement(preferences, answers, lexicon, **OPTIONS)
    # Both judgements of 0 and one of the two of 1; 2 has no preference.
    assert agreed["judgements"] == 4 and agreed["equally_near"] == 0
    assert agreed["nearer_to_preferred"]["value"] == pytest.approx(3 / 4)
    assert agreement(preferences, {"0": ("numb",)}, lexicon, **OPTIONS) == {"judgements": 2, "equally_near": 2}
    assert similarity(lexicon, ("numb", "happy"), ("numb", "scared")) == 0.5  # the same word, though without vector


@pytest.mark.shared
def test_the_authors_preferences():
    preferences = read_preferences(DATA / "human-evaluation.csv")
    lexicon = load_lexicon(DATA / "lexicon-decomposition.csv")
    found = describe(preferences, lexicon, resamples=100, seed=0)
    assert found["judgements"] == 641 and found["segments"] == 214 and not preferences.problems
    assert found["choices"]["LLM"]["value"] == pytest.approx(302 / 641)
    assert found["choices"]["SD"]["value"] == pytest.approx(278 / 641)
    assert found["codes"]["3"]["n"] == 159 and sum(c["n"] for c in found["codes"].values()) == 641
    options = found["option_similarity"]
    assert options["both"]["value"] > max(options["SD"]["value"], options["LLM"]["value"])


def test_page_and_tables(tmp_path, lexicon):
    paths = [answers_file(tmp_path / "one.csv", GOLD), answers_file(tmp_path / "two.csv", ["glad"] * len(GOLD))]
    entries = load_entries(paths, lexicon, **OPTIONS)
    preferences = read_preferences(preferences_file(tmp_path / "human.csv"))
    made = compare(entries, lexicon, preferences=preferences, **OPTIONS)
    page = write_comparison(made, tmp_path / "out", **OPTIONS)
    html = page.read_text()
    assert "one" in html and "minus one" in html and "Fleiss" in html
    assert 'src="http' not in html and "NaN" not in html.split("<h1>")[1].split("Scores side by side")[0]
    table = pd.read_csv(tmp_path / "out" / "comparison.csv").set_index(["entry", "section", "name"])
    assert table.loc[("two", "scores", "AccL"), "value"] == 0
    assert table.loc[("two", "scores", "AccV"), "value"] == pytest.approx(0.5)  # 'glad' for 'happy'
    differences = pd.read_csv(tmp_path / "out" / "differences.csv").set_index(["entry", "name"])
    assert differences.loc[("two", "AccV"), "value"] == pytest.approx(-0.5)
    assert made.entries[1].scores.confusion.loc["anger", "joy"] == 10
    write_comparison(made, tmp_path / "again", **OPTIONS)
    assert (tmp_path / "again" / "comparison.html").read_bytes() == page.read_bytes()


def test_entries_that_are_refused(tmp_path, lexicon):
    path = answers_file(tmp_path / "a.csv", GOLD)
    with pytest.raises(UserError, match="Two entries are called 'a'"):
        load_entries([path, path], lexicon, **OPTIONS)
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match=r"holds no answers\.csv"):
        load_entries([tmp_path / "run"], lexicon, **OPTIONS)
    with pytest.raises(UserError, match="Nothing to compare"):
        load_entries([], lexicon, **OPTIONS)


def test_compare_command(tmp_path, lexicon, capsys):
    paths = [answers_file(tmp_path / "one.csv", GOLD), answers_file(tmp_path / "two.csv", ["glad"] * len(GOLD))]
    out, _ = command(capsys, "express", "compare", *paths, "--out", tmp_path / "out", "--resamples", "0")
    assert Path(out.strip()).is_file()


def test_scores_without_intervals(tmp_path, lexicon):
    scores = score(read_answers(answers_file(tmp_path / "a.csv", GOLD)), lexicon, resamples=0)
    assert scores["AccL"] == 1 and scores.as_dict()["scores"]["AccL"]["ci_low"] is None
