"""Texts with ratings: readers, columns, splits, limits and refusals. All sentences here are made up."""

from pathlib import Path

import numpy as np
import pytest

from interp import UserError, load_corpus
from interp.errors import InterpWarning
from interp.run.config import load_config
from interp.run.inputs import Inputs
from interp.texts.corpora import CORPORA
from interp.texts.corpora.crowd_envent import APPRAISALS
from interp.texts.emotions import EKMAN, EMOTION_WORDS, named_emotion
from interp.texts.rated import FEWEST, load_rated

SHARED = Path(__file__).parents[2] / "shared" / "data"
SPLITS = ("train", "dev", "test")


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def emobank(tmp_path) -> Path:
    rows = [
        f'book-{d}_{10 * i}_{10 * i + 9},{SPLITS[d % 3]},{1 + (i % 40) / 10},3.{i % 3},2.{d % 10},"Line {d}, {i}"'
        for d in range(15)
        for i in range(20)
    ]
    return write(tmp_path / "emobank.csv", ["id,split,V,A,D,text", *rows, "head_7,train,3.2,3.1,2.9,None"])


def crowd(path: Path, n: int = 120) -> Path:
    scales = list(APPRAISALS.values())
    emotions = ("joy", "fear", "guilt", "no-emotion")
    lines = ["text_id\temotion\tgenerated_text\thidden_emo_text\t" + "\t".join(scales)]
    for i in range(n):
        ratings = [str(1 + (i * (k + 1) + i // 5) % 5) for k in range(len(scales))]
        lines.append(f"{i}\t{emotions[i % 4]}\tI felt it {i}\tI ... it {i}\t" + "\t".join(ratings))
    return write(path / "crowd-enVent-generation.tsv", lines)


def test_emobank_has_ratings_and_no_emotions(emobank):
    found = load_rated("emobank", path=emobank)
    assert found.scales == ("valence", "arousal", "dominance")
    assert len(found.examples) == len(found.whole) == 301
    first = found.examples[1]
    assert first.text == "Line 0, 1"
    assert first.gold == ""
    assert first.ratings == {"valence": 1.1, "arousal": 3.1, "dominance": 2.0}
    assert first.group == "emobank/book-0"
    none = found.examples[-1]
    assert (none.text, none.group) == ("None", "emobank/head_7")  # a sentence that pandas would take for nothing
    assert len({e.group for e in found.examples}) == 16
    assert {e.text for e in load_rated("emobank", path=emobank, split="test").examples} == {
        f"Line {d}, {i}" for d in range(2, 15, 3) for i in range(20)
    }
    parts = [{e.group for e in load_rated("emobank", path=emobank, split=s).whole} for s in ("train", "validation")]
    assert not parts[0] & parts[1]


def test_a_corpus_of_ratings_is_no_corpus_of_emotions(emobank):
    with pytest.raises(
        UserError, match=r"holds ratings \(valence, arousal, dominance\) and no emotions; name it under"
    ):
        load_corpus("emobank", path=emobank)


@pytest.mark.filterwarnings("ignore::interp.errors.InterpWarning")
def test_crowd_envent_gives_appraisals_beside_emotions(tmp_path):
    path = crowd(tmp_path)
    found = load_rated("crowd-envent", path=path, labels=(*EKMAN, "neutral"))
    assert found.scales == tuple(APPRAISALS)
    assert len(APPRAISALS) == 21
    assert [e.gold for e in found.examples[:4]] == ["joy", "fear", "guilt", "neutral"]  # guilt is no label of the run
    assert found.examples[3].ratings["predictability"] == 1 + (3 * 3) % 5
    assert load_rated("crowd-envent", path=path).examples[3].gold == "no-emotion"
    as_corpus = load_corpus("crowd-envent", path=path, split="all")
    assert {e.gold for e in as_corpus} == {"joy", "fear"}
    assert as_corpus[0].ratings == found.examples[0].ratings
    assert hash(as_corpus[0]) != hash(as_corpus[1])  # examples stay usable as keys


def test_columns_are_chosen_by_name_or_by_the_released_name(tmp_path):
    path = crowd(tmp_path)
    asked = load_rated("crowd-envent", path=path, columns=["predict_event", "effort"])
    assert asked.scales == ("predictability", "effort")
    assert set(asked.examples[0].ratings) == {"predictability", "effort"}
    with pytest.raises(UserError, match="has no rating 'pleasentness'; did you mean 'pleasantness'"):
        load_rated("crowd-envent", path=path, columns=["pleasentness"])


def test_limits_keep_shares_of_emotions_and_the_whole(tmp_path):
    found = load_rated("crowd-envent", path=crowd(tmp_path), limit=60)
    assert len(found.examples) == 60
    assert len(found.whole) == 120
    counts = np.unique([e.gold for e in found.examples], return_counts=True)[1]
    assert set(counts) == {15}


def test_what_is_no_rating_is_left_out_with_a_word(tmp_path):
    path = crowd(tmp_path)
    lines = path.read_text().splitlines()
    for row, bad in ((1, "9"), (2, ""), (3, "often"), (4, "nan")):
        cells = lines[row].split("\t")
        cells[4] = bad
        lines[row] = "\t".join(cells)
    write(path, lines)
    with pytest.warns(InterpWarning, match="4 rows without a rating of suddenness: left out"):
        assert len(load_rated("crowd-envent", path=path).whole) == 116


def table(path: Path, n: int = 80, header: str = "body,mood,calm,split,group") -> Path:
    rows = [f"text {i},{('joy', 'fear')[i % 2]},{i % 7}.5,all,g{i % 9}" for i in range(n)]
    return write(path / "mine.csv", [header, *rows])


def test_a_table_of_ones_own(tmp_path):
    path = table(tmp_path)
    found = load_rated("local", path=path, columns=["calm"], text_column="body")
    assert found.examples[0].ratings == {"calm": 0.5}
    assert {e.gold for e in found.examples} == {""}
    assert len({e.group for e in found.examples}) == 9
    labelled = load_rated("local", path=path, columns=["calm"], text_column="body", label_column="mood")
    assert {e.gold for e in labelled.examples} == {"joy", "fear"}


REFUSED = {
    "unknown corpus": (lambda f: {"name": "emobanc"}, "Unknown corpus 'emobanc'; did you mean 'emobank'?"),
    "no ratings": (
        lambda f: {"name": "isear"},
        "No ratings come with corpus 'isear'; these do: crowd-envent, emobank,",
    ),
    "no path": (lambda f: {"name": "emobank"}, "give `path:`"),
    "local without columns": (lambda f: {"name": "local", "path": table(f)}, "and columns"),
    "missing column": (
        lambda f: {"name": "local", "path": table(f), "columns": ["clam"], "text_column": "body"},
        "has no column 'clam'; did you mean 'calm'?",
    ),
    "missing label column": (
        lambda f: {"name": "local", "path": table(f), "columns": ["calm"], "text_column": "body", "label_column": "m"},
        "has no column 'm'",
    ),
    "words for numbers": (
        lambda f: {"name": "local", "path": table(f), "columns": ["mood"], "text_column": "body"},
        "gives 0 rated texts in split 'all'",
    ),
    "too few": (lambda f: {"name": "crowd-envent", "path": crowd(f, FEWEST - 1)}, f"at least {FEWEST}"),
    "limit too low": (lambda f: {"name": "crowd-envent", "path": crowd(f), "limit": 8}, "gives 8 rated texts"),
    "no such split": (lambda f: {"name": "crowd-envent", "path": crowd(f), "split": "tset"}, "did you mean 'test'"),
    "always the same": (
        lambda f: {
            "name": "local",
            "path": write(f / "c.csv", ["text,x", *(f"t {i},3" for i in range(60))]),
            "columns": ["x"],
        },
        "all 60 texts have the same x",
    ),
    "a single group": (
        lambda f: {
            "name": "local",
            "path": write(f / "c.csv", ["text,x,group", *(f"t {i},{i},a" for i in range(60))]),
            "columns": ["x"],
        },
        "are of 1 groups",
    ),
}


@pytest.mark.filterwarnings("ignore::interp.errors.InterpWarning")
@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_gets_one_clear_line(tmp_path, case):
    make, expected = REFUSED[case]
    with pytest.raises(UserError) as error:
        load_rated(**make(tmp_path))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore::interp.errors.InterpWarning")
def test_a_run_reads_ratings_by_their_names_and_refuses_twins(tmp_path):
    path = str(table(tmp_path))
    entry = f"{{name: local, path: {path}, columns: [calm], text_column: body}}"
    (tmp_path / "other").mkdir()
    other = f"{{name: local, path: {table(tmp_path / 'other')}, columns: [calm], text_column: body}}"
    inputs = Inputs(load_config(None, {"corpora.ratings": f"[{entry}, {other}]"}))
    assert [r.name for r in inputs.rated] == [f"local ({path})", f"local ({tmp_path / 'other' / 'mine.csv'})"]
    assert inputs.rated[0].examples[0].id == f"local ({path})/0"
    with pytest.raises(UserError, match=r"corpora.ratings: local, split 'all', is named twice"):
        load_config(None, {"corpora.ratings": f"[{entry}, {entry}]"})
    with pytest.raises(UserError, match="at least one column"):
        load_config(None, {"corpora.ratings": "[{name: emobank, columns: []}]"})
    assert Inputs(load_config(None)).rated_texts == []


def test_emotions_are_named_by_their_words():
    assert set(EMOTION_WORDS) == set(EKMAN)
    assert named_emotion("He was FURIOUS, of course.", EKMAN) == "anger"
    assert named_emotion("Sad and afraid.", EKMAN) == ""
    assert named_emotion("Unafraid.", EKMAN) == ""
    assert named_emotion("Pride goes before.", ["pride", "joy"]) == "pride"
    words = [word for forms in EMOTION_WORDS.values() for word in forms]
    assert len(words) == len(set(words))


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore::interp.errors.InterpWarning")
def test_real_ratings_are_all_there():
    emobank = load_rated("emobank", path=SHARED / "emobank")
    assert len(emobank.whole) == 10062
    values = np.array([list(e.ratings.values()) for e in emobank.whole])
    np.testing.assert_allclose(values.mean(0), [2.9767, 3.0418, 3.0628], atol=1e-4)
    assert any(e.text == "None" for e in emobank.whole)
    appraisals = load_rated("crowd-envent", path=SHARED / "crowd-envent", labels=(*EKMAN, "neutral"))
    assert len(appraisals.whole) == 6600
    assert {scale.low for scale in CORPORA["crowd-envent"].scales} == {1}
    joy = np.mean([e.ratings["pleasantness"] for e in appraisals.whole if e.gold == "joy"])
    fear = np.mean([e.ratings["pleasantness"] for e in appraisals.whole if e.gold == "fear"])
    assert joy > 4 > 2 > fear
