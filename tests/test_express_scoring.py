"""EXPRESS scores against hand-computed numbers, and every refusal of the scoring side."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from express_files import command, write_answers, write_lexicon
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import shell

from interp import UserError
from interp.statistics import Bootstrap
from interp.surveys.express.answers import AnswerSheet, read_answers
from interp.surveys.express.inflection import inflections, stem
from interp.surveys.express.lexicon import DIMENSIONS, Lexicon, load_lexicon
from interp.surveys.express.parsing import LONGEST_WORD, format_answer, parse_answer, parse_labels
from interp.surveys.express.plutchik import BASIC, DYADS, INTENSITIES, WHEEL, wheel_distance
from interp.surveys.express.scoring import HEADLINE, Scores, score
from interp.texts.problems import Problems

DATA = Path(__file__).parents[2] / "shared" / "data" / "express"


@pytest.fixture
def lexicon(tmp_path) -> Lexicon:
    return load_lexicon(write_lexicon(tmp_path / "lexicon.csv"))


@pytest.fixture
def twelve(tmp_path, lexicon) -> Scores:
    return score(read_answers(write_answers(tmp_path / "answers.csv")), lexicon, resamples=200)


def value(scores: Scores, section: str, name: str) -> float:
    return scores.section(section).loc[name, "value"]


# ------------------------------------------------------------------------------------ the five scores


def test_five_scores_by_hand(twelve):
    assert twelve["VRate"] == pytest.approx(8 / 12)
    assert twelve["AccL"] == pytest.approx(5 / 14)
    assert twelve["AccV"] == pytest.approx(8 / 14)
    assert twelve["F1V"] == pytest.approx(6.8 / 10)  # 'furious' for 'angry' gives 2 * 2 / (2 + 3)
    assert twelve["AccV-2"] == pytest.approx(9.5 / 10)


def test_two_unknown_words_are_no_match(twelve):
    """Rows 8 and 10 hold a pair without any dimension each: equal vectors that say nothing."""
    section = "without_all_zero_pairs"
    assert value(twelve, section, "AccV") == pytest.approx(6 / 12)
    assert value(twelve, section, "F1V") == pytest.approx(6.8 / 8)
    assert value(twelve, section, "AccV-2") == pytest.approx(7.5 / 8)
    assert value(twelve, section, "share_all_zero") == pytest.approx(2 / 10)
    assert value(twelve, section, "share_of_AccV_all_zero") == pytest.approx(2 / 8)


def test_companions_by_hand(twelve):
    assert value(twelve, "coverage/gold", "in_lexicon") == pytest.approx(9 / 10)
    assert value(twelve, "coverage/predicted", "in_lexicon") == pytest.approx(8 / 10)
    assert value(twelve, "coverage/gold", "all_zero_in_lexicon") == pytest.approx(1 / 10)
    assert value(twelve, "dimensions/joy", "precision") == pytest.approx(2 / 3)
    assert value(twelve, "dimensions/joy", "recall") == 1
    assert value(twelve, "dimensions/fear", "recall") == pytest.approx(2 / 3)
    assert value(twelve, "dimensions/fear", "f1") == pytest.approx(2 * 2 / (3 + 2))
    assert value(twelve, "dimensions/disgust", "precision") == 0
    assert np.isnan(value(twelve, "dimensions/disgust", "recall"))
    assert value(twelve, "sentiment", "agreement") == pytest.approx(7 / 8)
    assert value(twelve, "sentiment", "both_lean") == pytest.approx(8 / 10)
    cosine = (6 + 2 / np.sqrt(2 * 3) + 0) / 8
    assert value(twelve, "similarity", "cosine") == pytest.approx(cosine)
    assert value(twelve, "similarity", "jaccard") == pytest.approx((6 + 2 / 3) / 8)
    # 'furious' is a tie of anger and disgust; joy and fear stand two apart on the wheel.
    assert value(twelve, "similarity", "wheel_distance") == pytest.approx(2 / 7)
    assert twelve.confusion.loc["fear", "joy"] == 1
    assert twelve.confusion.loc["none", "none"] == 2
    assert value(twelve, "by_masks/1", "VRate") == pytest.approx(6 / 10)
    assert value(twelve, "by_masks/2", "AccL") == pytest.approx(2 / 4)


def test_labels_table(twelve):
    table = twelve.labels.set_index("label")
    assert table.loc["happy", "n"] == 5
    assert table.loc["happy", "AccL"] == pytest.approx(1 / 5)
    assert table.loc["happy", "AccV"] == pytest.approx(2 / 5)
    assert table.loc["happy", "F1V"] == 1  # both valid rows
    assert table.loc["scared", "most_frequent_answer"] == "scared"
    assert table.loc["angry", "F1V"] == pytest.approx((0.8 + 1 + 1) / 3)


def test_facts_name_rows_and_reasons(twelve):
    invalid = twelve.facts["rows"]["invalid_answers"]
    assert invalid["too many words"] == {"n": 1, "rows": [5]}
    assert invalid["marked INVALID OUTPUT"]["rows"] == [7]
    assert invalid["no words"]["rows"] == [10]
    assert invalid["bracket not closed"]["rows"] == [12]
    assert twelve.facts["unknown_words"]["gold"] == {"zorply": 1}
    assert twelve.facts["unknown_words"]["predicted"] == {"blixed": 2}


def test_json_has_the_keys(twelve):
    found = json.loads(json.dumps(twelve.as_dict(), allow_nan=False))
    assert all(isinstance(found[name], float) for name in HEADLINE)
    assert found["scores"]["F1V"].keys() == {"value", "ci_low", "ci_high", "n"}
    assert found["scores"]["F1V"]["n"] == 10
    assert found["scores"]["VRate"]["n"] == 12
    assert found["dimensions"]["disgust"]["recall"]["value"] is None


def test_formatted_output_counts_where_both_columns_are_there(tmp_path, lexicon):
    path = write_answers(tmp_path / "a.csv", [(["happy"], "I think it is joy.")], output_formatted=["['happy']"])
    assert score(read_answers(path), lexicon, resamples=0)["AccL"] == 1


def test_missing_answer_is_invalid(tmp_path, lexicon):
    scores = score(
        read_answers(write_answers(tmp_path / "a.csv", [(["happy"], None), (["happy"], "[happy]")])), lexicon
    )
    assert scores["VRate"] == 0.5
    assert scores.facts["rows"]["invalid_answers"] == {"no answer": {"n": 1, "rows": [2]}}


def test_all_answers_invalid_gives_no_number(tmp_path, lexicon):
    scores = score(read_answers(write_answers(tmp_path / "a.csv", [(["happy"], "[]")])), lexicon)
    assert scores["VRate"] == 0
    assert scores["AccL"] == 0
    assert scores.as_dict()["F1V"] is None


def test_intervals_resample_posts(tmp_path, lexicon):
    """Sixty rows of one post are one observation: no spread; as sixty posts they have the binomial spread."""
    rows = [(["happy"], "['happy']" if i % 2 else "['scared']") for i in range(60)]
    together = read_answers(write_answers(tmp_path / "a.csv", rows, original_index=[7] * 60))
    apart = read_answers(write_answers(tmp_path / "b.csv", rows, original_index=range(60)))
    one, many = (score(a, lexicon, resamples=2000).section("scores").loc["AccL"] for a in (together, apart))
    assert (one["ci_low"], one["ci_high"]) == (0.5, 0.5)
    assert many["ci_low"] == pytest.approx(0.5 - 1.96 * np.sqrt(0.25 / 60), abs=0.02)


def test_resampler_is_a_weighted_ratio():
    rng = np.random.default_rng(0)
    top, bottom = rng.random((6, 2)), rng.random((6, 2)) + 1
    bootstrap = Bootstrap(["a", "a", "b", "c", "c", "c"], 50, seed=3)
    draws = bootstrap.ratio_draws(top, bottom)
    for weights, draw in zip(bootstrap.group_weights, draws, strict=True):
        w = weights[[0, 0, 1, 2, 2, 2]]
        np.testing.assert_allclose(draw, (w @ top) / (w @ bottom), rtol=1e-6)
    assert len(set(bootstrap.group_weights.sum(1))) == 1


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "gpt_4o_first_800_rows.csv",
            (1.0, 0.3767772511848341, 0.44470774091627174, 0.7331562066159223, 0.853396524486572),
        ),
        (
            "gpt_4o_first_800_rows_perturbed.csv",
            (0.83375, 0.29462875197472355, 0.3499210110584518, 0.7235904549658131, 0.8469914040114613),
        ),
    ],
)
def test_the_authors_scores(name, expected):
    scores = score(read_answers(DATA / name), load_lexicon(DATA / "lexicon-decomposition.csv"), resamples=0)
    assert tuple(scores[s] for s in HEADLINE) == pytest.approx(expected, abs=1e-9)


# ------------------------------------------------------------------------------------ parsing


@pytest.mark.parametrize(
    ("answer", "n", "words", "reason"),
    [
        ("['happy', 'sad']", 2, ("happy", "sad"), None),
        ('["Happy"]', 1, ("happy",), None),
        ("The words are ['fed up'].", 1, ("fed up",), None),
        ("[‘happy’, “sad”]", 2, ("happy", "sad"), None),
        ("happy", 1, ("happy",), None),
        ("['happy',]", 1, ("happy",), None),
        ("['happy', 'sad']", 1, ("happy", "sad"), "too many words"),
        ("['happy']", 2, ("happy",), "too few words"),
        ("I cannot answer that", 1, (), "no bracketed list"),
        ("['happy'", 1, (), "bracket not closed"),
        ("[['happy'], ['sad']]", 1, (), "brackets or quotation marks inside a word"),
        ("['hap\"py']", 1, (), "brackets or quotation marks inside a word"),
        ("   ", 1, (), "no answer"),
        ("'INVALID OUTPUT'", 1, (), "marked INVALID OUTPUT"),
    ],
)
def test_strict_parsing(answer, n, words, reason):
    assert parse_answer(answer, n) == (words, reason)


@pytest.mark.parametrize(
    ("answer", "n", "words"),
    [
        ("First I thought [happy], but the answer is ['sad']", 1, ("sad",)),
        ("1. happy\n2. sad", 2, ("happy", "sad")),
        ("Emotions: happy, sad", 2, ("happy", "sad")),
        ("['happy', 'sad', 'glad']", 2, ("happy", "sad")),
        ("['happy', 'sad", 2, ("happy", "sad")),
    ],
)
def test_lenient_parsing_reads_what_strict_refuses(answer, n, words):
    assert parse_answer(answer, n, strict=False) == (words, None)
    assert parse_answer(answer, n) != (words, None)


def test_lenient_parsing_does_not_make_words_of_sentences():
    assert parse_answer("As a language model I cannot say what they feel.", 1, strict=False).reason is not None


def test_answers_written_are_answers_read():
    words = ("fed up", "can't", "happy")
    assert parse_answer(format_answer(words), 3).words == words
    assert parse_labels("['Fed  up', 'x']") == ("fed up", "x")
    assert parse_labels("happy") is None
    assert parse_labels("[1]") is None
    assert parse_labels("['']") is None


WORDS_OF_ANSWERS = st.lists(
    st.from_regex(r"[a-zé]+([ '-][a-z]+){0,2}", fullmatch=True).filter(lambda word: len(word) <= LONGEST_WORD),
    min_size=1,
    max_size=5,
)


@settings(max_examples=100, deadline=None)
@given(WORDS_OF_ANSWERS)
def test_what_is_formatted_is_parsed_as_it_was(words):
    answer = format_answer(words)
    for strict in (True, False):
        assert parse_answer(answer, len(words), strict=strict) == (tuple(words), None)
    assert parse_labels(answer) == tuple(words)
    assert parse_answer(answer, len(words) + 1).reason == "too few words"


@settings(max_examples=200, deadline=None)
@given(st.text() | st.text(alphabet="[]',\"’;:.-1 \naB"), st.integers(1, 4), st.booleans())
def test_any_text_is_parsed_or_refused_with_a_reason(text, n_words, strict):
    words, reason = parse_answer(text, n_words, strict=strict)
    assert (reason is None) <= (len(words) == n_words)
    assert all(word and word == word.strip() for word in words)
    labels = parse_labels(text)
    assert labels is None or all(labels)


# ------------------------------------------------------------------------------------ lexicon


def test_fallbacks_say_how_they_found_a_word(lexicon):
    words = ["happy", "happiness", "scares", "scaring", "furiously", "angrily", "gladly", "blixed"]
    found = lexicon.lookup(words, fallbacks=True)
    assert list(found.found) == [
        *("exact", "family", "inflection", "inflection", "family", "family", "family", "unknown")
    ]
    assert found.vectors[1, DIMENSIONS.index("joy")] == 1
    assert (found.vectors[-1] == 0).all()
    assert list(lexicon.lookup(words).found) == ["exact", *["unknown"] * 7]


def test_opposites_are_no_family():
    assert stem("hopeless") != stem("hopeful") == stem("hope")
    assert stem("careless") != stem("caring")
    assert "frustrate" in inflections("frustrated")
    assert "frustrated" in inflections("frustrate")
    assert "worried" in inflections("worry")
    assert "worry" in inflections("worries")
    assert "heart-broken" not in list(inflections("heart-broken"))
    assert "heartbroken" in inflections("heart-broken")


def test_neighbours_come_last(lexicon):
    asked = []

    def near(words):
        asked.extend(words)
        return ["scared" if w == "blixed" else None for w in words]

    found = lexicon.lookup(["happy", "blixed", "zorply"], fallbacks=True, neighbours=near)
    assert asked == ["blixed", "zorply"]
    assert list(found.found) == ["exact", "neighbour", "unknown"]
    assert found.vectors[1, DIMENSIONS.index("fear")] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="trust"), "no column 'trust'"),
        (lambda t: t.assign(joy=[1, 1.5, 0, 0, 0, 0]), "row 3: joy is '1.5'; expected a number from 0 to 1"),
        (lambda t: t.assign(fear=["", *"00000"]), "row 2: fear is ''"),
        (lambda t: t.assign(fear=["nan", *"00000"]), "row 2: fear is 'nan'"),
        (lambda t: t.assign(word=["angry", *t["word"][1:]]), "row 4: 'angry' is listed before with other values"),
        (lambda t: t.head(0), "lists no words"),
    ],
)
def test_lexicons_that_are_refused(tmp_path, change, message):
    path = write_lexicon(tmp_path / "lexicon.csv")
    change(pd.read_csv(path, keep_default_na=False)).to_csv(path, index=False)
    with pytest.raises(UserError, match=message):
        load_lexicon(path)


def test_lexicon_that_is_not_utf8(tmp_path):
    path = write_lexicon(tmp_path / "lexicon.csv")
    path.write_bytes(path.read_bytes().replace(b"glad", b"gl\xe4d"))
    with pytest.raises(UserError, match=r"is not UTF-8 \(row 3\)"):
        load_lexicon(path)


# ------------------------------------------------------------------------------------ Plutchik


def test_the_wheel():
    assert len({w for levels in INTENSITIES.values() for w in levels}) == 24
    assert len(DYADS) == 24
    assert sorted(WHEEL) == sorted(BASIC) == sorted(INTENSITIES)
    steps = wheel_distance(*np.array([[BASIC.index(part) for part in pair] for pair in DYADS.values()]).T)
    assert steps.tolist() == [1] * 8 + [2] * 8 + [3] * 8  # primary, secondary and tertiary dyads
    assert len({frozenset(pair) for pair in DYADS.values()}) == 24
    for one, other in (("joy", "sadness"), ("fear", "anger"), ("trust", "disgust")):
        assert wheel_distance(np.array(BASIC.index(one)), np.array(BASIC.index(other))) == 4
    emotions = np.arange(8)
    apart = wheel_distance(emotions[:, None], emotions)
    assert (apart == apart.T).all()
    assert apart.max() == 4
    assert (np.diag(apart) == 0).all()


def test_wheel_as_a_lexicon(tmp_path):
    wheel = load_lexicon("plutchik")
    assert len(wheel.words) == 48
    ecstasy, joy, serenity = wheel.lookup(["ecstasy", "joy", "serenity"]).vectors[:, DIMENSIONS.index("joy")]
    assert ecstasy > joy > serenity > 0
    scores = score(read_answers(write_answers(tmp_path / "a.csv", [(["rage"], "['annoyance']")])), wheel, resamples=0)
    assert scores["F1V"] == 1
    assert scores["AccV"] == 0
    assert value(scores, "similarity", "jaccard") == pytest.approx(1 / 3)


# ------------------------------------------------------------------------------------ bad input


def test_rows_that_cannot_be_used_are_named(tmp_path, lexicon):
    path = tmp_path / "answers.csv"
    lines = [
        b"index,number_of_labels,labels,segment,output",
        b"1,1,['happy'],I am <mask>.,['happy']",
        b"2,2,['happy'],I am <mask>.,['happy']",
        b"3,1,happy,I am <mask>.,['happy']",
        b"4,1,['happy'],I am glad.,['happy']",
        b"5,1,['happy'],I am <mask> and <mask>.,['happy']",
        b"1,1,['happy'],I am <mask>.,['happy']",
        b"7,1,['happy'],I am <mask> in the caf\xe9.,['happy']",
        b"8,1,['happy']",
        b"9,0,[],Nothing.,[]",
        b"10,x,['happy'],I am <mask>.,['happy']",
        "11,1,['happy'],I am <mask> in the café.,['scared']".encode(),
    ]
    path.write_bytes(b"\r\n".join(lines))
    answers = read_answers(path)
    assert answers.ids == ["1", "11"]
    assert answers.rows == [2, 12]
    assert answers.n_read == 11
    assert answers.problems.rows == {
        "has number_of_labels that is not the number of labels": [3, 11],
        "has labels that are not a list of quoted words": [4],
        "has a segment without <mask>": [5],
        "has not as many masks as labels": [6],
        "has the id of an earlier row": [7],
        "is not UTF-8": [8],
        "has not the 5 cells of the header": [9],
        "has no labels": [10],
    }
    found = score(answers, lexicon, resamples=0).as_dict()["rows"]
    assert found["read"] == 11
    assert found["scored"] == 2
    assert found["skipped"]["is not UTF-8"] == {"n": 1, "rows": [8]}


def test_problem_lines_name_ten_rows_at_most():
    problems = Problems()
    for row in range(2, 20):
        problems.add("is odd", row)
    assert problems.lines() == ["18 rows: is odd (rows 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ...)"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("number_of_labels,labels\n1,['x']\n", "no column 'output_formatted' or 'output'"),
        ("number_of_label,labels,output\n1,['x'],x\n", "did you mean 'number_of_label'"),
        ("number_of_labels,labels,output\n1,x,x\n", "no row that can be scored: 1 row: has labels"),
        ("number_of_labels,labels,output\n", "no row that can be scored"),
    ],
)
def test_answer_files_that_are_refused(tmp_path, content, message):
    path = tmp_path / "answers.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_answers(path)
    with pytest.raises(UserError, match="No file"):
        read_answers(tmp_path / "nowhere.csv")


def test_json_lines_are_read_too(tmp_path, lexicon):
    path = tmp_path / "answers.jsonl"
    good = {"number_of_labels": 1, "labels": "['happy']", "output": "['happy']"}
    path.write_text("\n".join([json.dumps(good), "{broken", json.dumps({"labels": "['x']"}), json.dumps(good)]))
    answers = read_answers(path)
    assert isinstance(answers, AnswerSheet)
    assert answers.rows == [1, 4]
    assert len(answers.problems) == 2


def test_score_command(tmp_path, capsys):
    answers, lexicon = write_answers(tmp_path / "answers.csv"), write_lexicon(tmp_path / "lexicon.csv")
    out, _ = command(capsys, "express", "score", answers, "--lexicon", lexicon, "--json")
    assert json.loads(out)["AccL"] == pytest.approx(5 / 14)
    out, _ = command(capsys, "express", "score", answers, "--lexicon", lexicon)
    assert "0.3571" in out
    assert "1 marked INVALID OUTPUT" in out
    refused = shell("express", "score", str(answers), "--lexicon", str(answers), cwd=tmp_path)
    assert refused.returncode == 2
    assert "no column 'word'" in refused.stderr
    assert "Traceback" not in refused.stderr
