"""What every survey stands on: a log that survives a torn line, draws that nest, options that are flags."""

import json
from dataclasses import fields

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interp.cli import express, reliability
from interp.errors import UserError
from interp.reporting import Reporter, counted, reporting
from interp.surveys.answer_log import appending, read_log
from interp.surveys.draw import drawn
from interp.surveys.express.options import ExpressOptions
from interp.surveys.folder import refuse_other_answers
from interp.surveys.options import SurveyOptions
from interp.surveys.reliability.options import ReliabilityOptions
from interp.texts.problems import Problems

# ------------------------------------------------------------------------------------ the log

ANSWERS = st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=5) | st.integers(), min_size=1), max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(answers=ANSWERS, left=st.floats(0, 1))
def test_a_log_cut_anywhere_holds_the_first_answers_and_goes_on(tmp_path, answers, left):
    log = tmp_path / "below" / "answers.jsonl"
    log.unlink(missing_ok=True)
    with appending(log) as add:
        for answer in answers:
            add(answer)
    whole = log.read_bytes()
    log.write_bytes(whole[: round(left * len(whole))])
    kept = read_log(log, dict)
    assert kept == answers[: len(kept)]
    with appending(log) as add:
        for answer in answers[len(kept) :]:
            add(answer)
    assert log.read_bytes() == whole


def test_a_log_that_is_not_there_is_empty(tmp_path):
    assert read_log(tmp_path / "none.jsonl", dict) == []


@pytest.mark.parametrize("line", ["", "{", "[1]", "3", '{"other": 1}', "[" * 100_000, "\xff"])
def test_a_damaged_line_is_named(tmp_path, line):
    log = tmp_path / "answers.jsonl"
    log.write_bytes(b'{"index": 1}\n' + line.encode("latin-1") + b"\n")
    with pytest.raises(UserError, match=r"line 2 is no answer\); remove the line"):
        read_log(log, lambda answer: answer["index"])


# ------------------------------------------------------------------------------------ draws and folders


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 20), st.integers(0, 3))
def test_draws_keep_order_take_whole_keys_and_nest(items, limit, seed):
    few, more = (drawn(items, n, seed, str) for n in (limit, limit + 1))
    assert few == [item for item in items if item in few]
    assert len(set(few)) == min(limit, len(set(items)))
    assert set(few) <= set(more)
    assert drawn(items, None, seed, str) == items
    with pytest.raises(UserError, match="--limit must be at least 1"):
        drawn(items, 0, seed, str)


def test_answers_of_another_run_are_refused(tmp_path):
    refuse_other_answers(tmp_path, {"a": 1, "limit": 3}, {"a": 1, "limit": 4}, free={"limit"})
    with pytest.raises(UserError, match=r"another run \(model identity: 'x', now None\)"):
        refuse_other_answers(tmp_path, {"model_identity": "x"}, {})


# ------------------------------------------------------------------------------------ options


@pytest.mark.parametrize(("app", "kind"), [(express.app, ExpressOptions), (reliability.app, ReliabilityOptions)])
def test_every_option_is_a_flag_with_its_default_and_its_help(app, kind):
    flags = {a.name: a for a in app["run"].assemble_argument_collection(parse_docstring=True)}
    for field in fields(kind):
        flag = flags[f"--{field.name.replace('_', '-')}"]
        assert flag.required == (kind is ExpressOptions and field.name == "model")
        assert flag.parameter.help or field.name in ("seed", "device", "dtype")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "--limit must be at least 1; got 0."),
        ({"seed": 2**32}, "--seed must be at most 4294967295; got 4294967296."),
        ({"resamples": "many"}, "--resamples must be a valid integer"),
        ({"nonsense": 1}, "--nonsense: unexpected keyword argument"),
    ],
)
def test_what_does_not_fit_is_one_line(options, message):
    with pytest.raises(UserError) as refused:
        SurveyOptions("tiny", **options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


# ------------------------------------------------------------------------------------ news and problems


def test_whoever_listens_is_told_of_each():
    told = []
    with reporting(Reporter(advance=lambda *news: told.append(news))):
        assert list(counted("ab", "asking", "text", total=3, done=1)) == ["a", "b"]
        assert list(counted("ab", "reading", "row")) == ["a", "b"]
        assert list(counted("", "nothing", "row")) == []
    assert told == [
        *(("asking", n, 3, "text") for n in (1, 2, 3)),
        *(("reading", n, total, "row") for n, total in ((1, 0), (2, 0), (2, 2))),
    ]


def test_problems_are_counted_by_kind_and_keep_what_was_found():
    problems, unread = Problems(), Problems()
    problems.add("repeated", 3, "comes after a", question="b", file="q.csv")
    unread.add("is not UTF-8", 2)
    problems.add_unreadable(unread, "q.csv")
    assert problems.counts() == {"repeated": 1, "unreadable rows": 1}
    assert problems.lines() == ["1 row: repeated (row 3)", "1 row: unreadable rows (row 2)"]
    assert [str(p) for p in problems] == ["row 3 (b): comes after a", "row 2: is not UTF-8; the row is left out"]
    assert json.loads(json.dumps([p._asdict() for p in problems]))[0]["what"] == "comes after a"
