"""Faulty and unusual tables: read, or refused in one line, alike by corpora, EXPRESS and questionnaires."""

import csv
import gzip
import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp import UserError, load_corpus, records
from interp.errors import InterpWarning
from interp.surveys.express.answers import read_answers
from interp.surveys.express.masking import load_words
from interp.surveys.express.segments import load_segments
from interp.surveys.reliability.questionnaires import load_questionnaire
from interp.texts.corpus_names import corpus_names
from interp.texts.delimited import Splitter
from interp.texts.emotions import EKMAN

TEXTS = ("I was glad, truly.", "I was cross.", "I ran; he did not.")
SHARED = Path(__file__).parents[2] / "shared" / "data"


def rows(texts=TEXTS) -> list[dict[str, str]]:
    """Rows that all three families can read."""
    fixed = {"label": "joy", "number_of_labels": "1", "labels": "['happy']", "output": "['glad']"}
    return [{"text": t, "segment": f"{t} <mask>", "statement": t, **fixed} for t in texts]


def of_corpus(path: Path) -> list[str]:
    return [e.text for e in load_corpus("local", path=path)]


def of_express(path: Path) -> list[str]:
    return [s.text.removesuffix(" <mask>") for s in load_segments(path)[0]]


def of_answers(path: Path) -> list[int]:
    return read_answers(path).rows


def of_questionnaire(path: Path) -> list[str]:
    return [item.statement for item in load_questionnaire(path).items]


FAMILIES: dict[str, Callable[[Path], list]] = {
    "corpus": of_corpus,
    "express": of_express,
    "questionnaire": of_questionnaire,
}


def table(texts=TEXTS) -> pd.DataFrame:
    return pd.DataFrame(rows(texts))


def text_of(texts=TEXTS, **options) -> str:
    return table(texts).to_csv(index=False, **options)


def lines_of(texts=TEXTS) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows(texts))


def saved(folder: Path, *, parts: bool = False) -> Path:
    whole = datasets.Dataset.from_list(rows())
    (datasets.DatasetDict({"train": whole}) if parts else whole).save_to_disk(str(folder))
    return folder


def parquet_folder(folder: Path) -> Path:
    (folder / "data").mkdir(parents=True)
    table().to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    return folder


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def tsv_with_marks(texts) -> str:
    """Quotation marks are text: nothing is quoted."""
    header = "\t".join(rows()[0])
    return "\n".join([header, *("\t".join(r.values()) for r in rows(texts))]) + "\n"


READ = {
    "CSV": lambda f: put(f / "a.csv", text_of()),
    "upper case": lambda f: put(f / "A.CSV", text_of()),
    "semicolons": lambda f: put(f / "a.csv", text_of(sep=";")),
    "TSV": lambda f: put(f / "a.tsv", text_of(sep="\t")),
    "tabs in a .csv": lambda f: put(f / "a.csv", text_of(sep="\t")),
    "all quoted": lambda f: put(f / "a.tsv", text_of(sep="\t", quoting=csv.QUOTE_ALL)),
    "byte order mark": lambda f: put(f / "a.csv", b"\xef\xbb\xbf" + text_of().encode()),
    "UTF-16 from Excel": lambda f: put(f / "a.csv", text_of(sep="\t").encode("utf-16")),
    "UTF-16, big end first": lambda f: put(f / "a.csv", b"\xfe\xff" + text_of().encode("utf-16-be")),
    "line ends of Windows": lambda f: put(f / "a.csv", text_of(lineterminator="\r\n")),
    "blank lines, empty columns": lambda f: put(f / "a.csv", "\n" + text_of().replace("\n", ",,\n\n")),
    "gzip": lambda f: put(f / "a.csv.gz", gzip.compress(text_of().encode())),
    "JSONL": lambda f: put(f / "a.jsonl", lines_of()),
    "JSONL in gzip": lambda f: put(f / "a.jsonl.gz", gzip.compress(lines_of().encode())),
    "a JSON array": lambda f: put(f / "a.json", json.dumps(rows(), indent=1)),
    "a JSON of columns": lambda f: put(f / "a.json", table().to_json()),
    "JSON lines as .json": lambda f: put(f / "a.json", lines_of()),
    "Parquet": lambda f: table().to_parquet(f / "a.PARQUET") or f / "a.PARQUET",
    "a saved dataset": lambda f: saved(f / "d"),
    "a saved dataset of parts": lambda f: saved(f / "d", parts=True),
    "a folder of Parquet": lambda f: parquet_folder(f / "d"),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", READ)
def test_16_every_kind_of_table_is_read_alike(tmp_path, case, family):
    path = READ[case](tmp_path)
    if family == "questionnaire" and path.suffix == ".json":
        assert [r.cells["statement"] for r in records.read(path)] == list(TEXTS)  # a .json there holds ready prompts
    assert FAMILIES[family](path) == list(TEXTS)


def nested(depth: int) -> str:
    return '{"text": ' + "[" * depth + "]" * depth + "}\n"


def absurd_parquet(folder: Path) -> Path:
    table().to_parquet(folder / "a.parquet")
    whole = (folder / "a.parquet").read_bytes()
    return put(folder / "a.parquet", whole[:-8] + b"\xff\xff\xff\x7f" + whole[-4:])


REFUSED = {
    "doubled column": (lambda f: put(f / "a.csv", "text,segment,statement,x,x\n"), "two columns are called 'x'"),
    "doubled key": (lambda f: put(f / "a.jsonl", '{"x": 1, "x": 2}\n'), "two columns are called 'x'"),
    "doubled in Parquet": (lambda f: doubled_parquet(f), "two columns are called 'x'"),
    "no file": (lambda f: f / "gone.csv", "No file"),
    "a device": (lambda f: Path("/dev/zero"), "no ordinary file"),
    "a link to a device": (lambda f: linked(f / "a.csv", "/dev/zero"), "no ordinary file"),
    "another ending": (lambda f: put(f / "a.xlsx", "PK"), "is no table this tool reads"),
    "empty": (lambda f: put(f / "a.csv", ""), "is empty"),
    "blank": (lambda f: put(f / "a.tsv", "\n \n"), "is empty"),
    "no Parquet": (lambda f: put(f / "a.parquet", "PAR1"), "could not be read as PARQUET"),
    "absurd Parquet": (absurd_parquet, "could not be read as PARQUET"),
    "broken gzip": (lambda f: put(f / "a.csv.gz", gzip.compress(text_of().encode())[:-20]), "could not be read"),
    "no gzip": (lambda f: put(f / "a.csv.gz", text_of()), "could not be read"),
    "nested 100,000 deep": (lambda f: put(f / "a.json", nested(100_000)), "not JSON: nested too deeply"),
    "5,000 digits": (lambda f: put(f / "a.json", '[{"text": ' + "9" * 5000 + "}]"), "is not JSON"),
    "a JSON value": (lambda f: put(f / "a.json", "3"), "must hold records"),
    "an empty folder": (lambda f: f, "could not be read"),
    "a broken saved dataset": (lambda f: put(f / "d" / "dataset_info.json", "{").parent, "could not be read"),
    "a missing column": (lambda f: put(f / "a.csv", "texts,segments,statements\na,b,c\n"), "has no column"),
    "a header in Latin-1": (lambda f: put(f / "a.csv", "text,caf\xe9\n".encode("latin-1")), "is not UTF-8"),
    "a thousand columns": (lambda f: put(f / "a.csv", ",".join(f"c{i}" for i in range(1000)) + "\n"), "has no column"),
}


def doubled_parquet(folder: Path) -> Path:
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["x", "x"]), folder / "a.parquet")
    return folder / "a.parquet"


def linked(path: Path, target: str) -> Path:
    path.symlink_to(target)
    return path


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_table_is_refused_in_one_line_by_all(tmp_path, case, family):
    make, expected = REFUSED[case]
    with pytest.raises(UserError) as error:
        FAMILIES[family](make(tmp_path))
    message = str(error.value)
    assert expected in message
    assert "\n" not in message
    assert len(message) < 600


@pytest.mark.parametrize("family", FAMILIES)
def test_a_line_without_end_is_refused_and_not_read_whole(tmp_path, family, monkeypatch):
    monkeypatch.setattr(records._lines, "__kwdefaults__", {"longest": 1000})
    bomb = put(tmp_path / "a.csv.gz", gzip.compress(text_of().encode() + b"0" * 10_000_000))
    with pytest.raises(UserError, match="longer than 1,000 characters"):
        FAMILIES[family](bomb)


BROKEN = {
    "too many cells": (text_of() + "a,b\n", "has not the 7 cells of the header (row 5)"),
    "not UTF-8": (text_of().encode() + text_of(["Caf\xe9."], header=False).encode("latin-1"), "is not UTF-8 (row 5)"),
    "no object": (lines_of() + "3\n", "is not a JSON object (row 4)"),
    "a lost column": (lines_of() + '{"x": 1}\n', "lacks a column (row 4)"),
    "too deep": (lines_of() + nested(100_000), "is not a JSON object (row 4)"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_rows_that_cannot_be_read_are_counted_with_their_reason_by_all(tmp_path, case):
    content, expected = BROKEN[case]
    lines = "{" in str(content)[:3]
    path = put(tmp_path / ("a.jsonl" if lines else "a.csv"), content)
    with pytest.warns(InterpWarning) as told:
        assert of_corpus(path) == list(TEXTS)
    assert any(f"left out 1 row: {expected}" in str(w.message) for w in told)
    segments, problems = load_segments(path)
    assert len(segments) == 3
    assert problems.lines() == [f"1 row: {expected}"]
    assert of_answers(path) == ([1, 2, 3] if lines else [2, 3, 4])
    found = load_questionnaire(path)
    assert len(found.items) == 3
    unread = [p for p in found.problems if p.kind == "unreadable rows"]
    assert [p.row for p in unread] == [4 if lines else 5]
    assert expected.split(" (")[0] in str(unread[0])


# ------------------------------------------------------------------------------------- 8 to 12: the text itself


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("marked", [(3,), (3, 8), (0, 1, 2), (11,)])
def test_8_quotation_marks_in_a_tsv_are_text(tmp_path, family, marked):
    texts = [('"' if i in marked else "") + f"Text number {i} of my day." for i in range(12)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", InterpWarning)
        assert FAMILIES[family](put(tmp_path / "a.tsv", tsv_with_marks(texts))) == texts


def test_8_a_mark_that_closes_nothing_swallows_no_row_of_a_csv(tmp_path):
    path = put(tmp_path / "a.csv", 'text,label\n"so,joy\n"He said ""no"", and left.",anger\n5" of rain,fear\n')
    assert of_corpus(path) == ['"so', 'He said "no", and left.', '5" of rain']
    both = put(tmp_path / "b.csv", 'text,label\n"so it goes,joy\nfive inches",fear\n')
    with pytest.warns(InterpWarning, match="1 row with a quoted cell over several lines"):
        assert of_corpus(both) == ["so it goes,joy\nfive inches"]


def test_8_conversations_of_empatheticdialogues_are_kept(tmp_path):
    header = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags\n"
    opened = {2: '"Watch out!', 5: '"Fine'}
    body = "".join(
        f"hit:{c},{u},joyful,Situation {c}_comma_ told.,0,{opened.get(c, 'Yes.') if u else 'Oh.'},5|5|5_5|5|5,\n"
        for c in range(8)
        for u in range(2)
    )
    found = load_corpus("empatheticdialogues", path=put(tmp_path / "test.csv", header + body))
    assert [e.text for e in found] == [f"Situation {c}, told." for c in range(8)]


CELL = st.text(st.sampled_from('ab"\n\r,;é '), max_size=8)


@given(st.integers(2, 4).flatmap(lambda n: st.lists(st.lists(CELL, min_size=n, max_size=n), min_size=1, max_size=6)))
def test_8_well_formed_tables_come_out_as_from_csv(written):
    for delimiter in ",;\t":
        buffer = io.StringIO(newline="")
        csv.writer(buffer, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(written)
        lines = io.StringIO(buffer.getvalue(), newline="\n")
        assert list(Splitter(lines, delimiter)) == written


@pytest.mark.parametrize("family", FAMILIES)
def test_9_control_characters_are_read_as_windows_1252_and_counted(tmp_path, family):
    path = put(tmp_path / "a.csv", text_of(["It\x92s mine\x85 \x93yes\x94.", "I\x92m here.", "Plain."]))
    with pytest.warns(InterpWarning, match=r"2 rows held Windows-1252 control characters, .* \(rows 2, 3\)") as told:
        assert FAMILIES[family](path) == ["It’s mine… “yes”.", "I’m here.", "Plain."]
    assert len(told) == 1


def test_9_mending_moves_no_row_to_another_split(tmp_path):
    body = "".join(f"{i}\x92s text,joy\n" for i in range(60))
    broken = put(tmp_path / "a.csv", "text,label\n" + body)
    released = {f"{i}\x92s text" for i in range(60)}
    with pytest.warns(InterpWarning):
        found = {e.text for e in load_corpus("local", path=broken, split="discover")}
    from interp.texts.examples import stable_share

    assert found == {t.replace("\x92", "’") for t in released if stable_share(t) < 0.3}


@pytest.mark.parametrize("ids", ["", "reddit", "half"])
def test_10_an_id_that_identifies_nothing_gives_way_to_the_rows_number(tmp_path, ids):
    without = pd.DataFrame({"text": [f"text {i}" for i in range(20)], "label": ["joy", "fear"] * 10})
    without.to_csv(tmp_path / "a.csv", index=False)
    column = [str(i // 2) for i in range(20)] if ids == "half" else [ids] * 20
    without.assign(id=column).to_csv(tmp_path / "b.csv", index=False)
    with pytest.warns(InterpWarning, match="20 rows with an id that is blank or repeated"):
        found = load_corpus("local", path=tmp_path / "b.csv")
    assert found == load_corpus("local", path=tmp_path / "a.csv")
    assert len({e.group for e in found}) == len({e.id for e in found}) == 20
    without.assign(id=[f"r{i}" for i in range(20)]).to_csv(tmp_path / "c.csv", index=False)
    assert load_corpus("local", path=tmp_path / "c.csv")[3].id == "local/r3"


def entry(name="local", split="test", **more) -> dict:
    return {"name": name, "split": split, **more}


def test_11_corpora_of_one_name_are_told_apart():
    corpora = {
        "discover": entry(path="a.csv", split="discover"),
        "fit": entry(path="./a.csv", split="fit"),
        "test": [entry(path="b.csv"), entry(path="a.csv"), entry("vignettes"), entry("goemotions", "validation")],
        "anchors": [entry("goemotions", "train"), entry("goemotions", "train", path="x/dev.tsv")],
    }
    names = corpus_names(corpora)
    assert names.discover == names.fit == "local (a.csv)"
    assert names.test == ["local (b.csv)", "local (a.csv)", "vignettes", "goemotions (hub)"]
    assert names.anchors == ["goemotions (hub)", "goemotions (dev.tsv)"]
    both = {**corpora, "test": [entry("isear"), entry("isear", "train")], "anchors": []}
    assert corpus_names(both).test == ["isear: test", "isear: train"]
    assert corpus_names(both).tested == {"isear: test": "isear", "isear: train": "isear"}
    folders = {**corpora, "test": [entry(path="x/t.csv"), entry(path="y/t.csv")], "anchors": []}
    assert len(set(corpus_names(folders).test)) == 2
    columns = {**corpora, "test": [entry(path="a.csv", text_column=c) for c in "xy"], "anchors": []}
    assert len(set(corpus_names(columns).test)) == 2


@pytest.mark.parametrize("part", ["test", "anchors"])
def test_11_the_same_split_named_twice_is_refused_before_anything_runs(tmp_path, part):
    from interp.run.config import load_config

    for first, second in (("dev", "validation"), ("test", "test")):
        tree = {"corpora": {part: [entry("goemotions", first), entry("goemotions", second)]}}
        with pytest.raises(UserError, match=rf"corpora.{part}: goemotions, split '{second}', is named twice"):
            load_config(put(tmp_path / "c.yaml", json.dumps(tree)))


def test_11_two_tables_stay_two_corpora_in_a_run(tmp_path):
    from interp.run.config import load_config

    for name in "ab":
        put(tmp_path / f"{name}.csv", "text,label\n" + "".join(f"{name} {i},{EKMAN[i % 6]}\n" for i in range(60)))
    a, b = (str(tmp_path / f"{name}.csv") for name in "ab")
    anchors = [entry(path=a, split="test"), entry(path=b, split="test")]
    corpora = {
        "discover": entry("vignettes", "discover"),
        "fit": entry("vignettes", "fit"),
        "test": [entry(path=a, split="all"), entry(path=b, split="all")],
        "anchors": anchors,
    }
    config = load_config(put(tmp_path / "c.yaml", json.dumps({"corpora": corpora})))
    from interp.run.session import Session

    session = Session(config, tmp_path)  # type: ignore[arg-type]
    tested = [e for role, e in session.examples if role == "test"]
    assert {e.corpus for e in tested} == {"local (a.csv)", "local (b.csv)"}
    assert len({e.id for e in tested}) == len({e.group for e in tested}) == 120
    assert all(e.text[0] == e.corpus[7] for e in tested)
    assert len(session.anchors) == 2
    assert all(session.anchors.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_12_lone_surrogates_become_a_replacement_character_with_a_note(tmp_path, family):
    path = put(tmp_path / "a.jsonl", lines_of(["Whole \ud83d\ude00.", "Cut \ud83d.", "Cut \ude00 too."]))
    with pytest.warns(InterpWarning, match=r"2 rows held half of an emoji .* U\+FFFD \(rows 2, 3\)"):
        found = FAMILIES[family](path)
    assert found == ["Whole \U0001f600.", "Cut \ufffd.", "Cut \ufffd too."]


@pytest.mark.parametrize("family", FAMILIES)
def test_12_cells_of_any_length_are_read(tmp_path, family):
    long = ("Word, " * 40_000)[:-2] + "."
    assert len(long) > 131_072
    for name, content in (("a.csv", text_of([long, "Short."])), ("a.tsv", text_of([long, "Short."], sep="\t"))):
        assert FAMILIES[family](put(tmp_path / name, content)) == [long, "Short."]


def test_12_word_lists_are_read_like_every_table(tmp_path):
    for name, content in (
        ("A.CSV", "word\nglad\nsad\n"),
        ("a.tsv", "n\tword\n1\tglad\n2\tsad\n"),
        ("a.txt", "glad\nsad\n"),
    ):
        assert load_words(put(tmp_path / name, content)) == ["glad", "sad"]
    with pytest.raises(UserError, match="nested too deeply"):
        load_words(put(tmp_path / "a.json", "[" * 100_000))


# ------------------------------------------------------------------------------------- 13 to 16: labels and splits


def test_13_a_tables_own_split_names_can_be_chosen(tmp_path):
    for own in ("dev", "val", "valid", "validation", "Dev"):
        body = "".join(f"{s} {i},joy,{s}\n" for s in ("train", own, "test") for i in range(3))
        path = put(tmp_path / f"{own}.csv", "text,label,split\n" + body)
        for asked in (own, "validation", "dev"):
            assert [e.text for e in load_corpus("local", path=path, split=asked)] == [f"{own} {i}" for i in range(3)]
        with pytest.raises(UserError, match="no split 'tests'; did you mean 'test'"):
            load_corpus("local", path=path, split="tests")


def test_14_case_and_blanks_of_labels_are_folded_and_counted(tmp_path):
    labels = ["joy", "Joy", "joy ", "JOY", "anger", " Anger"]
    path = put(tmp_path / "a.csv", "text,label\n" + "".join(f"t{i},{label}\n" for i, label in enumerate(labels)))
    with pytest.warns(InterpWarning, match="4 rows with a label in other case or blanks"):
        assert [e.gold for e in load_corpus("local", path=path)] == ["joy"] * 4 + ["anger"] * 2
    with pytest.warns(InterpWarning):
        mapped = load_corpus("local", path=path, labels=("Happy", "Cross"), mapping={"Joy": "Happy", "anger": "cross"})
    assert [e.gold for e in mapped] == ["Happy"] * 4 + ["Cross"] * 2


def test_14_every_row_that_is_left_out_is_counted_with_its_reason(tmp_path):
    body = "a,joy\nb,bliss\nc,bliss\nd,\"['joy', 'fear']\"\n,joy\ne,\n"
    with pytest.warns(InterpWarning) as told:
        assert of_corpus(put(tmp_path / "a.csv", "text,label\n" + body)) == ["a"]
    assert [str(w.message) for w in told] == [
        "Corpus 'local', split 'all': 2 rows with other labels (bliss 2); 1 row with several labels; 1 row without a"
        " label; 1 row without text: left out."
    ]


def test_14_labels_with_control_codes_reach_no_message(tmp_path):
    path = put(tmp_path / "a.csv", "text,label\na,joy\nb,\x1b[31mred[/red]\n")
    with pytest.warns(InterpWarning) as told:
        of_corpus(path)
    assert "\x1b" not in str(told[0].message)
    with pytest.raises(UserError) as error:
        load_corpus("local", path=path, labels=("calm", "cold"))
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize("mapping", [{0: "anger", 1: "joy"}, {"0": "anger", "1": "joy"}, {0.0: "anger", "1.0": "joy"}])
def test_15_numeric_labels_are_found_whatever_a_missing_one_made_of_them(tmp_path, mapping):
    whole = pd.DataFrame({"text": ["glad", "cross", "none"], "label": [1, 0, None]})
    whole.to_parquet(tmp_path / "a.parquet")
    whole.to_csv(tmp_path / "a.csv", index=False)
    whole.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    put(tmp_path / "b.jsonl", '{"text": "glad", "label": 1}\n{"text": "cross", "label": [0]}\n')
    assert "1.0" in (tmp_path / "a.csv").read_text()
    for path in sorted(tmp_path.iterdir()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = load_corpus("local", path=path, mapping=mapping)
        assert {e.text: e.gold for e in found} == {"glad": "joy", "cross": "anger"}


def test_15_numbers_as_keys_of_a_mapping_in_yaml(tmp_path):
    from interp.run.config import load_config

    text = "corpora:\n  discover: {name: local, path: a.csv, mapping: {0: anger, 1: joy}}\n"
    assert load_config(put(tmp_path / "c.yaml", text)).corpora.discover.mapping == {"0": "anger", "1": "joy"}
    flags = {"corpora.discover.name": "vignettes", "corpora.discover.mapping": "{0: anger, 1: joy}"}
    assert load_config(None, flags).corpora.discover.mapping == {"0": "anger", "1": "joy"}


def test_15_a_list_of_one_label_is_that_label(tmp_path):
    body = (
        '{"text": "glad", "label": ["joy"]}\n{"text": "both", "label": ["joy", "anger"]}\n{"text": "no", "label": []}\n'
    )
    with pytest.warns(InterpWarning, match="1 row with several labels; 1 row without a label"):
        assert of_corpus(put(tmp_path / "a.jsonl", body)) == ["glad"]


def test_16_nested_fields_and_class_labels(tmp_path):
    body = '{"data": {"text": "glad", "by": {"whom": "joy"}}}\n'
    options = {"text_column": "data.text", "label_column": "data.by.whom"}
    assert [e.gold for e in load_corpus("local", path=put(tmp_path / "a.jsonl", body), **options)] == ["joy"]
    with pytest.raises(UserError, match=r"no column 'text'; did you mean 'data\.text'"):
        of_corpus(tmp_path / "a.jsonl")
    names = datasets.ClassLabel(names=["anger", "joy"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    made = datasets.Dataset.from_dict({"text": ["glad", "cross"], "label": [1, 0]}, features)
    made.to_parquet(tmp_path / "b.parquet")
    made.save_to_disk(str(tmp_path / "d"))
    datasets.DatasetDict({"train": made, "dev": made}).save_to_disk(str(tmp_path / "e"))
    for path in (tmp_path / "b.parquet", tmp_path / "d"):
        assert [e.gold for e in load_corpus("local", path=path)] == ["joy", "anger"]
    assert [e.gold for e in load_corpus("local", path=tmp_path / "e", split="validation")] == ["joy", "anger"]
    many = datasets.Features({"text": datasets.Value("string"), "label": datasets.List(names)})
    rows = {"text": ["glad"], "label": [[1]]}
    datasets.Dataset.from_dict(rows, many).to_parquet(tmp_path / "f.parquet")
    assert [e.gold for e in load_corpus("local", path=tmp_path / "f.parquet")] == ["joy"]


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore::interp.errors.InterpWarning")  # rows of other labels
def test_9_the_real_crowd_envent_is_mended_in_183_rows():
    with pytest.warns(InterpWarning, match="183 rows held Windows-1252 control characters"):
        found = load_corpus("crowd-envent", path=SHARED / "crowd-envent")
    assert not any(c in e.text for e in found for c in map(chr, range(0x80, 0xA0)))
