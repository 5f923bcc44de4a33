"""Questionnaires, prompts and logged probabilities: read, refused, and scored as their authors did."""

import json
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reliability_items import QUICK, items

from interp import UserError
from interp.cli import main as cli
from interp.errors import InterpWarning
from interp.surveys.reliability.logged import read_logged
from interp.surveys.reliability.questionnaires import load_questionnaire
from interp.surveys.reliability.running import questions
from interp.surveys.reliability.scoring import score
from interp.surveys.reliability.variations import FORMATS, expand, one_at_a_time, render, resolve_personas

SHARED = Path(__file__).parents[2] / "shared" / "data" / "model-personas"


# ------------------------------------------------------------------------------------- questionnaires, prompts


def test_the_bundled_questionnaire_is_whole():
    found = load_questionnaire()
    assert len(found.items) == 48
    assert not found.problems
    assert set(Counter(i.axis for i in found.items).values()) == {8}
    for item in found.items:
        texts = {item.statement, *item.negations.values()}
        assert len(texts) == 3
        assert set(item.negations) == {"direct", "paraphrastic"}
        assert "not" not in item.negations["paraphrastic"].lower().split()
    assert sum(i.valence for i in found.items) == 0
    assert len({i.statement for i in found.items}) == 48


def test_the_nine_formats_and_a_persona():
    assert len(FORMATS) == 9
    assert len(set(FORMATS.values())) == 9
    variations = {v.format: v for v in one_at_a_time(["format"])}
    texts = {name: render("It rains.", v) for name, v in variations.items()}
    assert len(set(texts.values())) == 9
    assert texts["baseline"].startswith("Statement: It rains.\nQuestion: ")
    assert texts["baseline"].endswith("\nAnswer:")
    assert texts["separator_double_bar"].count(" || ") == 2
    assert texts["ending_two_spaces"].endswith("Answer:  ")
    assert texts["ending_line_break"].endswith("Answer:\n")
    assert texts["ending_question_mark"].endswith("Answer?")
    assert texts["cue_response"].endswith("\nResponse:")
    people = resolve_personas(["nurse", "You are fond of rain."])
    asked = list(expand(items(1), one_at_a_time(["persona", "order"], people), people))
    assert len(asked) == 2 + 2 * 2
    assert str(asked[-1].prompt).startswith("You are fond of rain.\nStatement:")
    swapped = next(str(a.prompt) for a in asked if a.facts["order"] == "swapped")
    assert "'False' or 'True'" in swapped
    with pytest.raises(UserError, match="did you mean 'nurse'"):
        resolve_personas(["nurs"])
    with pytest.raises(UserError, match="did you mean 'wording'"):
        one_at_a_time(["wordings"])


@pytest.mark.filterwarnings("ignore::interp.errors.InterpWarning")  # one warning a kind
def test_bad_rows_of_a_questionnaire_are_named_and_counted(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(
        "id,instrument,axis,statement,negation_direct,negation_paraphrastic,valence\n"
        "a,X,up,it rains,it does not rain,it is dry,positive\n"
        "b,X,up,it snows,,it is warm,positive\n"
        "a,X,up,it hails,it does not hail,it is calm,positive\n"
        "c,X,up,,no,no,positive\n"
        "d,X,up,it pours,it pours.,it drips,sideways\n"
        "e,X,up,it rains,it does not rain,it is dry,positive\n"
    )
    found = load_questionnaire(path)
    assert [i.question for i in found.items] == ["a", "b", "d"]
    assert found.items[0].statement == "It rains."
    assert found.problems.counts() == {
        "duplicate prompts with different text": 1,
        "repeated statements": 1,
        "rows without a statement": 1,
        "statements without a direct negation": 2,
        "statements without a valence": 1,
    }
    assert {p.kind: p.row for p in found.problems}["duplicate prompts with different text"] == 3
    asked = questions(path)
    table = pd.DataFrame([{**a.facts, "p_agree": 0.9, "p_disagree": 0.1, "top": True} for a in asked.asked])
    assert score(table, **QUICK).skipped == {"negation_direct": 2}
    with pytest.warns(InterpWarning, match=r"mine.csv: statements without a direct negation: 2. row 2 \(b\)"):
        found.problems.warn()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.csv", "text\nhello\n", "no column 'statement'"),
        ("q.csv", "statement\n\n", "no usable statement"),
        ("q.txt", "statement\n", "give a CSV"),
        ("q.json", "{}", "must hold prompts"),
        ("q.json", '[{"text": "x", "prompt_id": "a"}]', "has no 'options'"),
        ("q.json", '[{"text": "x", "prompt_id": "a", "options": ["left", "right"]}]', "left/right are not known"),
    ],
)
def test_files_of_another_shape_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        questions(tmp_path / name)


# ------------------------------------------------------------------------------------- logged probabilities


def write_logged(folder: Path, cells: list[list[object]], extra: list[dict] = ()) -> tuple[Path, Path]:
    """Four prompts: a plain, a swapped and a negated one of question A, a plain one of B."""
    prompts = [
        {"text": "A?", "prompt_id": "A", "reversed": False, "neg": False},
        {"text": "A swapped?", "prompt_id": "A", "reversed": True, "neg": False},
        {"text": "not A?", "prompt_id": "A", "reversed": False, "neg": "negation_word"},
        {"text": "B?", "prompt_id": "B", "reversed": False, "neg": False},
    ]
    every = [{**p, "options": ["true", "false"], "valence": "positive"} for p in [*prompts, *extra]]
    (folder / "prompts.json").write_text(json.dumps(every))
    columns = ["prompt", "p(True)", "p(False)", "p(true)", "p(maybe)"]
    pd.DataFrame(cells, columns=columns).to_csv(folder / "p.csv", index=False)
    return folder / "p.csv", folder / "prompts.json"


GOOD = [
    ["A?", 0.2, 0.3, 0.4, None],
    ["A swapped?", 0.6, 0.1, 0.0, 0.1],
    ["not A?", 0.1, 0.2, 0.1, 0.5],
    ["B?", 0.1, 0.8, 0.1, None],
]


def test_spellings_are_merged_by_the_largest(tmp_path):
    table, found = read_logged(*write_logged(tmp_path, GOOD))
    assert not found
    assert table["p_agree"].tolist() == [0.4, 0.6, 0.1, 0.1]
    assert table["top"].tolist() == [True, True, False, True]
    result = score(table, **QUICK).as_dict()
    assert (result["agree"], result["order"], result["negation_direct"]) == (0.5, 1, 1)
    assert result["wording"] is None
    assert result["mass"] == pytest.approx((0.7 + 0.9) / 2)
    assert result["measures"]["order"]["n"] == 1
    assert result["skipped"]["negation_paraphrastic"] == 2
    assert json.loads(json.dumps(result, allow_nan=False)) == result


@pytest.mark.parametrize(
    ("row", "kind", "words"),
    [
        (["B?", -0.1, 0.8, 0.1, None], "probabilities out of range", r"p\(True\) is '-0.1'"),
        (["B?", 0.1, 1.2, 0.1, None], "probabilities out of range", r"p\(False\) is '1.2'"),
        (["B?", "many", 0.8, 0.1, None], "probabilities out of range", "'many'"),
        (["B?", 0.7, 0.8, 0.1, None], "probabilities out of range", "add up to more than 1"),
        (["B?", None, None, None, 0.3], "missing probabilities", "no spelling of either option was logged"),
    ],
)
def test_bad_probabilities_are_named_with_their_row_and_left_out(tmp_path, row, kind, words):
    files = write_logged(tmp_path, [*GOOD[:3], row])
    table, found = read_logged(*files)
    assert len(table) == 3
    assert [(p.kind, p.row) for p in found] == [(kind, 4)]
    with pytest.warns(InterpWarning, match=words):
        found.warn()
    result = score(table, problems=found, **QUICK).as_dict()
    assert result["problems"]["counts"] == {kind: 1}
    assert result["problems"]["rows"][0]["row"] == 4


def test_15b_a_spelling_that_was_not_logged_is_less_likely_than_those_that_were(tmp_path):
    """Only the likeliest tokens of a prompt are logged: an option without any spelling counts as zero, and is named."""
    cells = [
        ["A?", None, 0.3, 0.4, None],
        ["A swapped?", 0.6, None, None, 0.1],
        ["not A?", None, 0.2, None, 0.5],
        ["B?", None, None, None, 0.9],
    ]
    table, found = read_logged(*write_logged(tmp_path, cells))
    assert table["p_agree"].tolist() == [0.4, 0.6, 0.0]
    assert table["p_disagree"].tolist() == [0.3, 0.0, 0.2]
    assert table["top"].tolist() == [True, True, False]
    assert found.counts() == {"missing probabilities": 1, "options that were not logged": 2}
    named = {p.row: str(p) for p in found}
    assert "'false' is not among the spellings" in named[2]
    assert "'true' is not among" in named[3]
    assert "the row is left out" in named[4]
    result = score(table, problems=found, **QUICK).as_dict()
    assert (result["order"], result["negation_direct"]) == (1, 1)
    assert result["measures"]["order"]["n"] == 1


def test_rows_and_prompts_that_do_not_meet_are_named(tmp_path):
    stray = ["C?", 0.5, 0.1, 0.1, None]
    twice = [{"text": "A other?", "prompt_id": "A"}, {"text": "B?", "prompt_id": "B"}]
    table, found = read_logged(*write_logged(tmp_path, [*GOOD[:3], stray, GOOD[0], ["A?", 0.9, 0, 0, None]], twice))
    assert len(table) == 3
    assert found.counts() == {
        "duplicate prompts with different text": 1,
        "prompts without a row": 1,
        "repeated prompts": 1,
        "repeated rows": 1,
        "rows of one prompt with different probabilities": 1,
        "rows without a prompt": 1,
    }
    assert {p.kind: p.row for p in found}["duplicate prompts with different text"] == 5


def test_other_line_ends_and_reversed_options_are_understood(tmp_path):
    _, prompts = write_logged(tmp_path, GOOD)
    record = {"text": "A?\nAnswer:", "prompt_id": "A", "options": ["False", "True"], "reversed": True}
    prompts.write_text(json.dumps([record]))
    (tmp_path / "p.csv").write_bytes(b'prompt,p(True),p(False)\r\n"A?\r\nAnswer:",0.7,0.2\r\n')
    table, found = read_logged(tmp_path / "p.csv", prompts)
    assert not found
    assert table.loc[0, ["p_agree", "p_disagree", "order"]].tolist() == [0.7, 0.2, "swapped"]


def test_logged_files_of_another_shape_are_refused(tmp_path):
    probabilities, prompts = write_logged(tmp_path, [["C?", 0.1, 0.1, 0.1, None]])
    with pytest.raises(UserError, match="no usable row"):
        read_logged(probabilities, prompts)
    with pytest.raises(UserError, match="No file"):
        read_logged(tmp_path / "none.csv", prompts)
    (tmp_path / "p.csv").write_text("prompt,p(yes)\nA?,0.5\n")
    with pytest.raises(UserError, match="no column for the option 'true'"):
        read_logged(probabilities, prompts)
    (tmp_path / "p.csv").write_text("Prompt,p(True)\nA?,0.5\n")
    with pytest.raises(UserError, match="did you mean 'Prompt'"):
        read_logged(probabilities, prompts)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("small", [0.0880230880, 0.9812409812, 0.9119769120, 0.0634920635, 0.0663780664, 0.9982176768]),
        ("base", [0.8802308802, 0.9740259740, 0.7373737374, 0.4545454545, 0.3333333333, 0.9988184585]),
    ],
)
def test_released_probabilities_give_the_published_shares(model, expected, monkeypatch, capsys):
    files = [str(SHARED / "results" / f"flan-t5-{model}.csv"), str(SHARED / "all_truefalse_short_changeline.json")]
    monkeypatch.setattr("sys.argv", ["interp", "reliability", "score", files[0], "--prompts", files[1], "--json"])
    with warnings.catch_warnings(), pytest.raises(SystemExit) as done:
        cli.main()
    found = json.loads(capsys.readouterr().out)
    assert not done.value.code
    assert list(found)[:6] == ["agree", "order", "wording", "negation_direct", "negation_paraphrastic", "mass"]
    assert list(found.values())[:6] == pytest.approx(expected, abs=1e-9, rel=0)
    for measure, value in list(found.items())[:6]:
        own = found["measures"][measure]
        assert own["n"] == 693
        assert own["interval"][0] < value < own["interval"][1]
        assert "kappa" in own
    assert len(found["by_instrument"]) == 39
    assert len(found["scales"]) == 115


@pytest.mark.shared
def test_the_released_questionnaire_is_read_whole():
    found = load_questionnaire(SHARED / "original_prompts.csv")
    released = json.loads((SHARED / "all_truefalse_short_changeline.json").read_text())
    theirs = {(released["prompt_id"][k], str(released["neg"][k])): released["prompt"][k] for k in released["prompt"]}
    assert len(found.items) == 693
    kinds = {"direct": "negation_word", "paraphrastic": "semantic"}
    same = [i.statement == theirs[i.question, "False"] for i in found.items]
    same += [text == theirs[i.question, kinds[k]] for i in found.items for k, text in i.negations.items()]
    assert np.mean(same) > 0.95  # the authors mended a few by hand
