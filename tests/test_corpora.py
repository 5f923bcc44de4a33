"""Readers on small files in the released formats; splits, limits and refusals. All sentences here are made up."""

import json
import random
from collections import Counter
from pathlib import Path

import datasets
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interp import UserError, load_corpus
from interp.errors import InterpWarning
from interp.texts.corpora import CORPORA, known_corpora
from interp.texts.emotions import EKMAN, EMPATHETIC_TO_EKMAN, GOEMOTIONS_TO_EKMAN, LABEL_SETS

SHARED = Path(__file__).parents[2] / "shared" / "data"
pytestmark = pytest.mark.filterwarnings("ignore::interp.errors.InterpWarning")  # rows that are left out


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def read(name: str, path: Path, split: str = "all", **options) -> dict[str, str]:
    return {e.text: e.gold for e in load_corpus(name, split=split, path=path, **options)}


@pytest.fixture
def goemotions(tmp_path) -> Path:
    write(tmp_path / "labels.txt", "anger\ndisgust\nfear\njoy\nneutral\nsadness\nsurprise\n")
    write(tmp_path / "train.tsv", "who took it\t0\tt1\nwow and ugh\t6,1\tt2\nwhat, really\t6,4\tt3\n")
    write(tmp_path / "dev.tsv", "".join(f"it is good {i}\t3\td{i}\n" for i in range(50)))
    write(tmp_path / "test.tsv", "so be it\t4\te1\ni miss you\t5\te2\n")
    return tmp_path


def test_goemotions_counts_rows_with_exactly_one_of_the_runs_labels(goemotions):
    assert read("goemotions", goemotions, "train") == {"who took it": "anger", "what, really": "surprise"}
    assert read("goemotions", goemotions, "train", labels=("anger", "neutral")) == {
        "who took it": "anger",
        "what, really": "neutral",
    }
    assert read("goemotions", goemotions, "test") == {"i miss you": "sadness"}


def test_goemotions_fine_labels_can_be_mapped(tmp_path):
    write(tmp_path / "labels.txt", "annoyance\ngrief\ndisapproval\n")
    write(tmp_path / "test.tsv", "stop that, no\t0,2\tx\ngone\t1\ty\nboth\t0,1\tz\n")
    found = read("goemotions", tmp_path, mapping={"annoyance": "anger", "disapproval": "anger", "grief": "sadness"})
    assert found == {"stop that, no": "anger", "gone": "sadness"}


def test_goemotions_original_rows_agree_once_mapped_to_ekman(tmp_path):
    write(tmp_path / "labels.txt", "\n".join(GOEMOTIONS_TO_EKMAN))
    number = {label: i for i, label in enumerate(GOEMOTIONS_TO_EKMAN)}
    pairs = [("love", "joy"), ("joy", "fear"), ("relief", "neutral"), ("grief", "remorse")]
    body = "".join(f"{a} {b}\t{number[a]},{number[b]}\tx{a}\n" for a, b in pairs)
    write(tmp_path / "train.tsv", body)
    found = read("goemotions", tmp_path, mapping=GOEMOTIONS_TO_EKMAN)
    assert found == {"love joy": "joy", "relief neutral": "joy", "grief remorse": "sadness"}
    with_neutral = read("goemotions", tmp_path, mapping=GOEMOTIONS_TO_EKMAN, labels=(*EKMAN, "neutral"))
    assert set(with_neutral) == {"love joy", "grief remorse"}


def test_fine_labels_are_kept_where_they_are_asked_for_by_their_own_names(tmp_path):
    path = write(tmp_path / "valid.csv", "text,emotion\nI shouted,angry\nI hid,afraid\nI had it,trusting\n")
    assert read("empatheticdialogues", path) == {"I shouted": "anger", "I hid": "fear"}
    own = {"I shouted": "angry", "I hid": "afraid", "I had it": "trusting"}
    assert read("empatheticdialogues", path, labels=LABEL_SETS["empathetic32"]) == own
    assert read("empatheticdialogues", path, labels=("angry", "fear")) == {"I shouted": "angry", "I hid": "fear"}


def test_published_label_sets_are_those_of_the_releases():
    assert {name: len(labels) for name, labels in LABEL_SETS.items()} == {
        "ekman6": 6,
        "plutchik8": 8,
        "goemotions27": 27,
        "goemotions28": 28,
        "empathetic32": 32,
    }
    assert all(len(set(labels)) == len(labels) for labels in LABEL_SETS.values())
    assert set(LABEL_SETS["goemotions28"]) - set(LABEL_SETS["goemotions27"]) == {"neutral"}
    assert set(LABEL_SETS["empathetic32"]) >= set(EMPATHETIC_TO_EKMAN)


@pytest.mark.shared
def test_the_released_files_have_the_labels_of_the_published_sets():
    def found(name: str, folder: str, labels: str, **options) -> list:
        return load_corpus(name, split="all", path=SHARED / folder, labels=LABEL_SETS[labels], **options)

    fine = found("goemotions", "goemotions/original", "goemotions28", several=True)
    assert {e.gold for e in fine if not e.several} == set(LABEL_SETS["goemotions28"])
    assert len(fine) == 43_410 + 5_426 + 5_427
    assert {label for e in fine for label in e.several} == set(LABEL_SETS["goemotions28"])
    assert 8_000 < sum(bool(e.several) for e in fine) < 10_000
    situations = found("empatheticdialogues", "empatheticdialogues", "empathetic32")
    assert {e.gold for e in situations} == set(LABEL_SETS["empathetic32"])
    assert len(situations) == 2_761


def test_rows_with_several_labels_are_kept_where_they_are_asked_for(tmp_path):
    write(tmp_path / "labels.txt", "love\njoy\nfear\n")
    write(tmp_path / "test.tsv", "both\t1,0\tx\none\t2\ty\nall\t0,1,2\tz\n")
    options = {"labels": ("joy", "love", "fear")}
    assert read("goemotions", tmp_path, **options) == {"one": "fear"}
    found = load_corpus("goemotions", split="all", path=tmp_path, several=True, **options)
    assert {e.text: (e.gold, e.several) for e in found} == {
        "both": ("joy + love", ("joy", "love")),
        "one": ("fear", ()),
        "all": ("joy + love + fear", ("joy", "love", "fear")),
    }
    # Of a text whose other labels are none of the run's, one is left.
    (only,) = load_corpus("goemotions", split="all", path=tmp_path, several=True, labels=("love", "hope"))[:1]
    assert (only.gold, only.several) == ("love", ())
    lines = write(tmp_path / "en-annotated.tsv", "It is you!\t5, 8\nGo.\t1\n")
    many = load_corpus("xed", split="all", path=lines, several=True, labels=LABEL_SETS["plutchik8"])
    assert {e.text: e.gold for e in many} == {"It is you!": "joy + trust", "Go.": "anger"}


def test_only_line_feeds_end_a_line(tmp_path):
    odd = "one\u2028two\u2029three"
    write(tmp_path / "g" / "labels.txt", "anger\njoy\n")
    (tmp_path / "g" / "test.tsv").write_bytes(f"{odd}\t1\tx\r\nfour\t0\ty\r\n".encode())
    assert read("goemotions", tmp_path / "g") == {odd: "joy", "four": "anger"}
    table = write(tmp_path / "t.jsonl", f'{{"text": "{odd}", "label": "joy"}}\n\n{{"text": "b", "label": "fear"}}\n')
    assert read("local", table) == {odd: "joy", "b": "fear"}


def test_discover_and_fit_are_cut_from_the_development_split(goemotions):
    parts = {s: set(read("goemotions", goemotions, s)) for s in ("discover", "fit", "validation", "dev")}
    assert parts["discover"] | parts["fit"] == parts["validation"] == parts["dev"]
    assert not parts["discover"] & parts["fit"]
    assert len(parts["discover"]) > len(parts["fit"]) > 0


def test_crowd_envent_reads_the_masked_text(tmp_path):
    header = "round_number\temotion\ttext_id\tgenerated_text\thidden_emo_text\n"
    body = (
        "1\tfear\t7\tI was afraid of it\tI was ... of it\n1\tno-emotion\t8\tI sat\tI sat\n1\tboredom\t9\tdull\tdull\n"
    )
    path = write(tmp_path / "crowd-enVent-generation.tsv", header + body)
    found = {"I was ... of it": "fear", "I sat": "neutral"}
    assert read("crowd-envent", path, labels=(*EKMAN, "neutral")) == found
    assert read("crowd-envent", tmp_path, labels=(*EKMAN, "neutral")) == found


def test_isear_mends_line_breaks_and_drops_empty_answers(tmp_path):
    rows = [
        "ID|Field1|SIT|",
        '1|joy|When "she" came á home.|',
        "2|fear|[ No response.]|",
        "3|guilt|I lied.|",
        '4|anger|"Ha.|',
    ]
    path = write(tmp_path / "isear.csv", "\n".join(rows) + "\n")
    assert read("isear", path) == {'When "she" came home.': "joy", '"Ha.': "anger"}


MELD = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID\n"


def test_meld_keeps_dialogues_together(tmp_path):
    body = "".join(f'{i},"Line {i}, yes",A,joy,positive,{i // 4},{i % 4}\n' for i in range(200))
    write(tmp_path / "train_sent_emo.csv", MELD + body)
    parts = {s: load_corpus("meld", split=s, path=tmp_path) for s in ("discover", "fit", "test", "train")}
    groups = {s: {e.group for e in p} for s, p in parts.items()}
    assert sum(len(parts[s]) for s in ("discover", "fit", "test")) == 200
    assert sum(len(groups[s]) for s in ("discover", "fit", "test")) == 50
    assert not groups["discover"] & groups["fit"]
    assert not groups["train"] & groups["test"]
    assert groups["train"] == groups["discover"] | groups["fit"]
    for split in ("dev", "test"):
        write(tmp_path / f"{split}_sent_emo.csv", MELD + f"1,Only {split},A,anger,negative,0,0\n")
    assert read("meld", tmp_path, "test") == {"Only test": "anger"}
    assert read("meld", tmp_path, "val") == {"Only dev": "anger"}
    assert len(read("meld", tmp_path, "train")) == 200
    assert read("meld", tmp_path / "test_sent_emo.csv", "test") == {"Only test": "anger"}


def test_tweeteval(tmp_path):
    write(tmp_path / "mapping.txt", "0\tanger\n1\tjoy\n2\toptimism\n3\tsadness\n")
    write(tmp_path / "train_text.txt", "grr #bus\nyay\nsoon\n")
    write(tmp_path / "train_labels.txt", "0\n1\n2\n")
    assert read("tweeteval", tmp_path, "train") == {"grr #bus": "anger", "yay": "joy"}
    assert read("tweeteval", tmp_path, labels=("joy", "optimism")) == {"yay": "joy", "soon": "optimism"}
    write(tmp_path / "val_text.txt", "ho\n")
    write(tmp_path / "val_labels.txt", "3\n")
    for alias in ("dev", "val", "valid", "validation"):
        assert read("tweeteval", tmp_path, alias) == {"ho": "sadness"}


def test_empatheticdialogues_in_both_forms(tmp_path):
    table = write(
        tmp_path / "a" / "valid.csv", 'text,emotion\n"it rained, and rained",devastated\nmy turn,anticipating\n'
    )
    assert read("empatheticdialogues", table, "test") == {"it rained, and rained": "sadness"}
    lines = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance\n"
    lines += "hit:1,1,terrified,A noise_comma_ at night.,1,Oh\nhit:1,2,terrified,A noise_comma_ at night.,2,No\n"
    folder = write(tmp_path / "b" / "train.csv", lines).parent
    assert read("empatheticdialogues", folder) == {"A noise, at night.": "fear"}
    for name in ("valid", "test"):
        write(folder / f"{name}.csv", lines.replace("A noise", name))
    for split, text in (("train", "A noise"), ("validation", "valid"), ("test", "test")):
        assert read("empatheticdialogues", folder, split) == {f"{text}, at night.": "fear"}


def test_aipsy_affect_takes_keyword_free_vignettes_and_their_controls(tmp_path):
    rows = [
        '{"id": "B-1", "text": "He broke it.", "emotion": "rage", "stimulus_set": "B_clinical"}',
        '{"id": "N-1", "text": "He moved it.", "emotion": "neutral", "stimulus_set": "neutral", "matched_control_id": "B-1"}',  # noqa: E501
        '{"id": "A-1", "text": "So angry.", "emotion": "rage", "stimulus_set": "A_standard", "has_emotion_keyword": true}',  # noqa: E501
        '{"id": "B-2", "text": "She watched.", "emotion": "vigilance", "stimulus_set": "B_clinical"}',
    ]
    write(tmp_path / "stimuli.jsonl", "\n".join(rows))
    found = load_corpus("aipsy-affect", path=tmp_path, labels=(*EKMAN, "neutral"))
    assert [(e.text, e.gold, e.keyword_free) for e in found] == [
        ("He broke it.", "anger", True),
        ("He moved it.", "neutral", True),
    ]
    assert found[0].group == found[1].group
    words = load_corpus("aipsy-affect-words", path=tmp_path, labels=EKMAN)
    assert [(e.text, e.keyword_free) for e in words] == [("He broke it.", True), ("So angry.", False)]


def test_xed_takes_lines_with_a_single_emotion(tmp_path):
    write(tmp_path / "en-annotated.tsv", 'He left .\t6\r\n"So what\t1, 7\r\nOh !\t7\r\nGo on .\t8, 1\r\nodd line\r\n')
    write(tmp_path / "neu_en.txt", "9\tI fold.\n9\tIt's nine.\n")
    write(tmp_path / "de-projections.tsv", "Er ging .\t6\r\nNa gut .\t8, 2\r\n")
    with pytest.warns(InterpWarning) as told:
        found = read("xed", tmp_path, labels=(*EKMAN, "neutral"))
    assert found == {"He left .": "sadness", "Oh !": "surprise", "I fold.": "neutral", "It's nine.": "neutral"}
    notes = [str(w.message) for w in told]
    assert "2 rows with several labels" in notes[0]
    assert "text and label ids from 1 to 9" in notes[1]
    assert read("xed", tmp_path / "de-projections.tsv") == {"Er ging .": "sadness"}
    (tmp_path / "en-annotated.tsv").unlink()
    (tmp_path / "neu_en.txt").unlink()
    with pytest.raises(UserError, match=r"holds no en-annotated\.tsv; give XED's folder, or the file of one language"):
        read("xed", tmp_path)


def test_emoevent_reads_a_folder_of_one_language(tmp_path):
    header = "id\tevent\ttweet\toffensive\temotion\n"
    for language, part, rows in (
        ("en", "train", 'a\tDay\t"Good books\tNO\tjoy\nb\tDay\tA page\tNO\tothers\n'),
        ("en", "dev", "c\tDay\tOh no\tNO\tsadness\n"),
        ("en", "test", "d\tDay\tWell\tNO\tanger\n"),
        ("es", "train", "e\tDay\tBuen libro\tNO\tjoy\n"),
    ):
        write(tmp_path / "splits" / language / f"{part}.tsv", header + rows)
    english = tmp_path / "splits" / "en"
    assert read("emoevent", english, "train", labels=(*EKMAN, "neutral")) == {'"Good books': "joy", "A page": "neutral"}
    assert read("emoevent", english, "dev") == {"Oh no": "sadness"} == read("emoevent", english, "validation")
    assert [e.id for e in load_corpus("emoevent", path=english, split="test")] == ["emoevent/test-d"]
    assert read("emoevent", tmp_path / "splits" / "es") == {"Buen libro": "joy"}
    with pytest.raises(UserError, match="more than one language; give the folder of one"):
        read("emoevent", tmp_path)


def test_express_takes_single_masks_whose_word_is_made_of_one_emotion_most(tmp_path):
    lines = [
        "index,original_index,segment,number_of_labels,labels",
        "1,7,I felt so <mask> today.,1,['happy']",
        "2,7,I was <mask> and <mask>.,2,\"['happy', 'sad']\"",
        "3,8,It made me <mask>.,1,['abandoned']",  # fear and sadness alike
        "4,9,It left me <mask>.,1,['zzz']",
    ]
    write(tmp_path / "express.csv", "\n".join(lines))
    found = load_corpus("express", split="all", path=tmp_path / "express.csv", labels=EKMAN)
    assert [(e.id, e.group, e.text, e.gold) for e in found] == [
        ("express/1", "express/7", "I felt so ____ today.", "joy")
    ]
    assert {e.gold for e in load_corpus("express-small", split="all", labels=EKMAN)} <= set(EKMAN)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_local_tables(tmp_path, suffix):
    table = pd.DataFrame({"body": ["one, two", "None", "three"], "feel": ["mad", "joy", "odd"]})
    path = tmp_path / f"mine{suffix}"
    {
        ".csv": lambda: table.to_csv(path, index=False),
        ".tsv": lambda: table.to_csv(path, index=False, sep="\t"),
        ".jsonl": lambda: table.to_json(path, orient="records", lines=True),
        ".parquet": lambda: table.to_parquet(path),
    }[suffix]()
    options = {"text_column": "body", "label_column": "feel", "mapping": {"mad": "anger"}}
    assert read("local", path, **options) == {"one, two": "anger", "None": "joy"}


def test_hub_corpora_go_through_datasets(monkeypatch):
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "labels": datasets.List(datasets.ClassLabel(names=["joy", "fear"])),
            "id": datasets.Value("string"),
        }
    )
    rows = {"text": ["hm", "both"], "labels": [[1], [0, 1]], "id": ["a", "b"]}
    fake = datasets.DatasetDict({"test": datasets.Dataset.from_dict(rows, features)})
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *a: asked.append(a) or fake)
    assert [(e.id, e.gold) for e in load_corpus("goemotions", split="test")] == [("goemotions/a", "fear")]
    assert asked == [("google-research-datasets/go_emotions", "simplified")]


def fake_hub(monkeypatch, features=None, **splits) -> None:
    tables = {s: datasets.Dataset.from_list(rows, features=features) for s, rows in splits.items()}
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: datasets.DatasetDict(tables))


def test_hub_class_labels_and_development_split(monkeypatch):
    names = datasets.ClassLabel(names=["anger", "joy", "optimism", "sadness"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    rows = [{"text": f"day {i}", "label": 3} for i in range(40)]
    fake_hub(monkeypatch, features, train=[{"text": "grr", "label": 0}], validation=rows)
    assert [(e.id, e.gold) for e in load_corpus("tweeteval", split="train")] == [("tweeteval/train-0", "anger")]
    parts = [{e.text for e in load_corpus("tweeteval", split=s)} for s in ("discover", "fit")]
    assert parts[0] | parts[1] == {r["text"] for r in rows}
    assert all(parts)
    assert not parts[0] & parts[1]


def test_hub_dialogues_give_one_situation_each(monkeypatch):
    row = {"conv_id": "hit:1", "context": "proud", "prompt": "I won_comma_ at last."}
    fake_hub(monkeypatch, test=[{**row, "utterance": u} for u in ("Oh", "Yes")])
    found = load_corpus("empatheticdialogues", split="test")
    assert [(e.text, e.gold) for e in found] == [("I won, at last.", "joy")]


def test_hub_vignettes_are_cut_by_pair_like_the_file(monkeypatch):
    clinical, neutral = (
        [{"id": f"{a}{i}", "text": f"{a} {i}", "emotion": e, "matched_control_id": f"{b}{i}"} for i in range(60)]
        for a, b, e in (("B", "N", "terror"), ("N", "B", "neutral"))
    )
    fake_hub(monkeypatch, clinical=clinical, neutral=neutral, moderate=[{**clinical[0], "id": "M", "text": "M"}])
    parts = [
        load_corpus("aipsy-affect", split=s, labels=("fear", "neutral")) for s in ("discover", "fit", "test", "all")
    ]
    assert len(parts[3]) == 120
    assert sum(map(len, parts[:3])) == 120
    assert all(set(Counter(e.group for e in part).values()) == {2} for part in parts)


@pytest.mark.parametrize(
    "error", [ConnectionError("no route"), RuntimeError("Dataset scripts are no longer supported")]
)
def test_no_network_is_one_clear_line(monkeypatch, error):
    def offline(*_):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(UserError, match="check the network, or give `path:`"):
        load_corpus("tweeteval", split="test")
    with pytest.raises(UserError, match="not on the Hugging Face hub"):
        load_corpus("isear")


@pytest.fixture
def table(tmp_path) -> Path:
    rows = [(f"text {i}", ["anger", "joy", "fear"][min(i % 5, 2)]) for i in range(300)]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


def test_splits_are_disjoint_stable_and_independent_of_order(table, tmp_path):
    parts = {s: set(read("local", table, s)) for s in ("discover", "fit", "test", "train", "all")}
    assert parts["discover"] | parts["fit"] | parts["test"] == parts["all"]
    assert len(parts["all"]) == 300
    assert parts["train"] == parts["discover"] | parts["fit"]
    assert not parts["train"] & parts["test"]
    assert 60 <= len(parts["discover"]) <= 120
    pd.read_csv(table).iloc[::-1].to_csv(tmp_path / "r.csv", index=False)
    assert set(read("local", tmp_path / "r.csv", "discover")) == parts["discover"]


SPLITS = ("discover", "fit", "test")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text('ab é,"\n', min_size=1, max_size=6).map(str.strip).filter(bool), min_size=1, max_size=30),
    st.randoms(use_true_random=False),
)
def test_any_text_is_in_one_split_whatever_the_order_of_rows(tmp_path, texts, random):
    def splits(rows: list[str]) -> dict[str, set[str]]:
        lines = [json.dumps({"text": text, "label": "joy"}) for text in rows]
        (tmp_path / "drawn.jsonl").write_text("\n".join(lines))
        parts = {}
        for split in (*SPLITS, "train"):
            try:
                parts[split] = set(read("local", tmp_path / "drawn.jsonl", split))
            except UserError as error:
                assert "no usable rows" in str(error)
                parts[split] = set()
        return parts

    parts = splits(texts)
    assert set().union(*(parts[split] for split in SPLITS)) == set(texts)
    assert sum(len(parts[split]) for split in SPLITS) == len(set().union(*parts.values()))
    assert parts["train"] == parts["discover"] | parts["fit"]
    assert splits(random.sample(texts, len(texts))) == parts


def test_limits_are_stratified_and_seeded(table):
    whole = Counter(e.gold for e in load_corpus("local", path=table))
    drawn = [load_corpus("local", path=table, limit=50, seed=s) for s in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    for label, n in Counter(e.gold for e in drawn[0]).items():
        assert abs(n - 50 * whole[label] / 300) <= 1


def test_a_balanced_draw_has_as_many_of_every_emotion_or_all_there_are(tmp_path):
    rows = [{"text": f"{label} {i}", "label": label} for label, n in SIZES.items() for i in range(n)]
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    drawn = load_corpus("local", path=tmp_path / "t.csv", limit=33, balanced=True)
    counts = Counter(e.gold for e in drawn)
    assert counts["fear"] == SIZES["fear"]
    assert sorted(counts.values()) == [3, 15, 15]
    share = Counter(e.gold for e in load_corpus("local", path=tmp_path / "t.csv", limit=33))
    assert share["anger"] > 20
    assert {e.id for e in load_corpus("local", path=tmp_path / "t.csv", limit=12, balanced=True)} <= {
        e.id for e in drawn
    }


SIZES = {"anger": 90, "joy": 30, "fear": 3}


def test_a_draw_depends_on_seed_and_text_alone(table, tmp_path):
    pd.read_csv(table).iloc[::-1].to_csv(tmp_path / "r.csv", index=False)
    drawn = read("local", table, limit=51)
    assert read("local", tmp_path / "r.csv", limit=51) == drawn
    random.seed(7)
    assert read("local", table, limit=51) == drawn
    assert read("local", table, limit=20).items() < drawn.items()
    joys = {t for t, gold in read("local", table, labels=("anger", "joy"), limit=60).items() if gold == "joy"}
    assert joys <= (more := set(read("local", table, labels=("joy",), limit=40))) or more <= joys


def test_a_draw_from_equally_frequent_emotions_does_not_depend_on_order(tmp_path):
    rows = [f"text {i},{EKMAN[i % 6]}\n" for i in range(60)]
    a = write(tmp_path / "a.csv", "text,label\n" + "".join(rows))
    b = write(tmp_path / "b.csv", "text,label\n" + "".join(rows[::-1]))
    assert read("local", a, limit=9) == read("local", b, limit=9)


def test_a_local_tables_own_splits_count(tmp_path):
    body = "".join(f"{s} {i},joy,{s}\n" for s in ("train", "dev") for i in range(3))
    path = write(tmp_path / "t.csv", "text,label,split\n" + body)
    assert set(read("local", path, "train")) == {"train 0", "train 1", "train 2"}


def test_rows_without_text_are_counted_and_left_out(tmp_path):
    path = write(tmp_path / "t.csv", 'text,label\nyes,joy\n"  ",joy\n,joy\n')
    with pytest.warns(InterpWarning, match="2 rows without text"):
        assert read("local", path) == {"yes": "joy"}


REFUSED = {
    "unknown corpus": (lambda f: ("goemotion", f), "did you mean 'goemotions'"),
    "missing path": (lambda f: ("isear", f / "gone.csv"), "gone.csv"),
    "wrong suffix": (lambda f: ("local", write(f / "a.xlsx", "x")), "a.xlsx is no table"),
    "missing column": (lambda f: ("local", write(f / "a.csv", "texts,label\na,joy\n")), "did you mean 'texts'"),
    "no usable rows": (lambda f: ("local", write(f / "a.csv", "text,label\na,bliss\n")), "its labels: bliss"),
    "no labels.txt": (lambda f: ("goemotions", write(f / "g" / "test.tsv", "a\t0\tx\n").parent), "lacks labels.txt"),
    "no mapping.txt": (lambda f: ("tweeteval", write(f / "t" / "train_text.txt", "a\n").parent), "lacks mapping.txt"),
    "folder without files": (lambda f: ("meld", f), "holds no _sent_emo.csv"),
    "broken JSONL": (lambda f: ("local", write(f / "a.jsonl", '{"text": "a"\n')), "is not a JSON object (row 1)"),
    "JSONL without objects": (lambda f: ("local", write(f / "a.jsonl", "2\n3\n")), "JSON object (rows 1, 2)"),
    "ragged table": (lambda f: ("local", write(f / "a.csv", "text,label\na,b,c\n")), "2 cells of the header (row 2)"),
    "short row": (lambda f: ("isear", write(f / "i.csv", "Field1|SIT|\njoy\n")), "3 cells of the header (row 2)"),
    "missing MELD column": (lambda f: ("meld", write(f / "m.csv", "Utterances,Emotion\n")), "mean 'Utterances'"),
    "missing key": (lambda f: ("aipsy-affect", write(f / "s.jsonl", '{"id": "B", "texts": "a"}')), "mean 'texts'"),
    "empty released file": (
        lambda f: ("crowd-envent", write(f / "c.tsv", "")),
        "c.tsv is empty; expected a header row",
    ),
    "folder for a file": (lambda f: ("vignettes", f), "could not be read"),
    "empty file": (lambda f: ("local", write(f / "a.csv", "")), "a.csv is empty"),
    "broken parquet": (lambda f: ("local", write(f / "a.parquet", "no")), "could not be read as PARQUET"),
    "broken vignettes": (lambda f: ("aipsy-affect", write(f / "stimuli.jsonl", "{oops\n").parent), "(row 1)"),
    "local without path": (lambda f: ("local", None), "needs a path"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_files_get_one_clear_line(tmp_path, case):
    make, expected = REFUSED[case]
    name, path = make(tmp_path)
    with pytest.raises(UserError) as error:
        load_corpus(name, path=path)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_more_bad_files(tmp_path, goemotions):
    write(goemotions / "train.tsv", "fine\t0\ta\nno label here\n")
    with pytest.raises(UserError, match=r"train.tsv, line 2"):
        load_corpus("goemotions", path=goemotions)
    write(goemotions / "train.tsv", "counted from the end\t-1\ta\n")
    with pytest.raises(UserError, match=r"train.tsv, line 1: .* label ids below 7"):
        load_corpus("goemotions", path=goemotions)
    (goemotions / "train.tsv").write_bytes("café\t3\tx\n".encode("latin-1"))
    with pytest.warns(InterpWarning, match=r"left out 1 row: is not UTF-8 \(row 1\)"):
        load_corpus("goemotions", path=goemotions)
    (tmp_path / "latin.csv").write_bytes("text,label\ncafé,joy\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"no usable rows .* is not UTF-8 \(row 2\)"):
        load_corpus("local", path=tmp_path / "latin.csv")
    write(tmp_path / "tw" / "mapping.txt", "0\tanger\n")
    write(tmp_path / "tw" / "train_text.txt", "a\nb\n")
    write(tmp_path / "tw" / "train_labels.txt", "0\n")
    with pytest.raises(UserError, match="2 texts but 1 labels"):
        load_corpus("tweeteval", path=tmp_path / "tw")
    write(tmp_path / "tw" / "train_labels.txt", "0\n9\n")
    with pytest.raises(UserError, match=r"train_labels.txt, line 2: .*'9'"):
        load_corpus("tweeteval", path=tmp_path / "tw")
    (tmp_path / "tw" / "train_labels.txt").unlink()
    with pytest.raises(UserError, match=r"lacks train_labels.txt"):
        load_corpus("tweeteval", path=tmp_path / "tw")
    with pytest.raises(UserError, match="at least 1; got 0"):
        load_corpus("vignettes", limit=0)
    with pytest.raises(UserError, match="no split 'discovr'; did you mean 'discover'"):
        load_corpus("vignettes", split="discovr")
    lone = write(tmp_path / "e" / "valid.csv", "text,emotion\nso,sad\n")
    with pytest.raises(UserError, match=r"no split 'discover'; known: all, test\."):
        load_corpus("empatheticdialogues", split="discover", path=lone)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "folder", "split", "n"),
    [
        ("goemotions", "goemotions/ekman", "test", 3539),
        ("crowd-envent", "crowd-envent", "all", 3300),
        ("crowd-envent", "crowd-envent", "train", 1636),
        ("crowd-envent", "crowd-envent", "test", 1664),
        ("meld", "meld", "all", 5279),
        ("isear", "isear", "train", 4399),
        ("isear", "isear", "test", 1032),
        ("tweeteval", "tweeteval-emotion", "train", 2963),
        ("empatheticdialogues", "empatheticdialogues", "test", 1625),
        ("aipsy-affect", "aipsy-affect", "all", 72),
        ("aipsy-affect-words", "aipsy-affect", "all", 132),
        ("xed", "xed", "all", 10010),
        ("xed", "xed/de-projections.tsv", "all", 2570),
        ("express", "express/gpt_4o_first_800_rows.csv", "all", 228),
    ],
)
def test_real_corpora_have_the_rows_they_should(name, folder, split, n):
    assert len(load_corpus(name, split=split, path=SHARED / folder)) == n


@pytest.mark.shared
def test_no_real_text_is_in_both_discover_and_fit():
    discover, fit = (set(read("goemotions", SHARED / "goemotions" / "ekman", s)) for s in ("discover", "fit"))
    assert len(discover) > 2000
    assert len(fit) > 1300
    assert not discover & fit


@pytest.mark.shared
def test_real_splits_add_up_to_the_whole():
    parts = [load_corpus("crowd-envent", split=s, path=SHARED / "crowd-envent") for s in ("discover", "fit", "test")]
    assert len({e.id for part in parts for e in part}) == sum(map(len, parts)) == 3300


def test_every_known_corpus_says_what_it_is():
    known = known_corpora()
    assert [one.name for one in known] == list(CORPORA)
    for one in known:
        assert one.description
        assert one.licence
        assert len(one.labels) > 3 or one.ratings
        assert {"test", "all"} <= set(one.splits)
        assert one.source == "bundled" or one.path
