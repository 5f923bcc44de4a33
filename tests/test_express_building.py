"""Segments: the corpus that ships, others' files, and building one's own from raw posts."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest
from express_files import command

from interp import UserError
from interp.surveys.express import building
from interp.surveys.express.building import build, count_words, cut
from interp.surveys.express.lexicon import load_lexicon
from interp.surveys.express.masking import Masker, load_words, mask
from interp.surveys.express.segments import Segment, as_record, load_segments

DATA = Path(__file__).parents[2] / "shared" / "data" / "express"


@pytest.fixture(scope="module")
def masker() -> Masker:
    return Masker(load_words(None))


# ------------------------------------------------------------------------------------ segments


def fill(segment: Segment, words: tuple[str, ...]) -> str:
    """The text with its masks replaced by `words`, in order."""
    parts = segment.text.split("<mask>")
    return "".join(part + word for part, word in zip(parts, (*words, ""), strict=True))


def test_the_segments_that_ship():
    found, problems = load_segments()
    assert len(found) >= 80 and not problems
    assert {len(s.labels) for s in found} == {1, 2, 3, 4}
    lexicon = load_lexicon()
    assert len(lexicon.words) >= 120
    gold = [word for s in found for word in s.labels]
    assert set(gold) <= set(lexicon.words) and len(set(gold)) > 100
    assert set(lexicon.vectors.ravel()) == {0, 1}
    assert len({s.text for s in found}) == len(found)


def test_segments_survive_a_file(tmp_path):
    found, _ = load_segments()
    pd.DataFrame([as_record(s) for s in found]).to_csv(tmp_path / "s.csv", index=False)
    again, problems = load_segments(tmp_path / "s.csv")
    assert again == found and not problems


def test_segments_that_cannot_be_used_are_named(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text(
        "index,segment,number_of_labels,labels\n"
        "1,I am <mask>.,1,['happy']\n"
        "2,I am glad.,1,['glad']\n"
        "3,I am <mask> and <mask>.,1,['glad']\n"
        "1,I am <mask>.,1,['happy']\n"
    )
    found, problems = load_segments(path)
    assert [s.id for s in found] == ["1"]
    assert problems.rows == {
        "has a segment without <mask>": [3],
        "has not as many masks as labels": [4],
        "has the id of an earlier row": [5],
    }
    path.write_text("index,text\n1,x\n")
    with pytest.raises(UserError, match="no column 'segment'"):
        load_segments(path)
    path.write_text("segment,number_of_labels,labels\nI am glad.,1,['glad']\n")
    with pytest.raises(UserError, match=r"no usable segment: 1 row: has a segment without <mask> \(row 2\)"):
        load_segments(path)


def test_the_hub_corpus_through_datasets(monkeypatch):
    """A local stand-in with the release's columns, labels as a list."""
    import datasets

    table = datasets.Dataset.from_list(
        [
            {"index": 5, "original_index": 9, "segment": "I am <mask>.", "number_of_labels": 1, "labels": ["happy"]},
            {"index": 6, "original_index": 9, "segment": "No mask.", "number_of_labels": 1, "labels": ["happy"]},
        ]
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda name: datasets.DatasetDict({"train": table}))
    found, problems = load_segments("hub")
    assert [(s.id, s.post, s.labels) for s in found] == [("5", "9", ("happy",))] and len(problems) == 1
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name: datasets.DatasetDict({"train": table.remove_columns("labels")})
    )
    with pytest.raises(UserError, match="no column 'labels' any more"):
        load_segments("hub")

    def fails(name):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(UserError, match="Could not fetch"):
        load_segments("hub")


@pytest.mark.shared
def test_the_authors_rows_are_segments():
    found, problems = load_segments(DATA / "gpt_4o_first_800_rows.csv")
    assert len(found) == 800 and not problems and len({s.post for s in found}) == 448


# ------------------------------------------------------------------------------------ masking


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I feel so happy today.", ["happy"]),
        ("i was just really tired", ["tired"]),
        ("We were delighted when she came.", ["delighted"]),
        ("It made me furious and ashamed.", ["furious", "ashamed"]),
        ("I felt sad, angry and a bit scared about it.", ["sad", "angry", "scared"]),
        ("I sat down on the stairs and felt lonely.", ["lonely"]),
        ("I'm not angry but I am very disappointed.", ["disappointed"]),
        ("I have been feeling HOPEFUL", ["hopeful"]),
        ("That left me feeling empty.", ["empty"]),
        ("I don't feel happy.", []),
        ("I have never been so scared.", []),
        ("I was no longer angry.", []),
        ("If I lost him I would be sad.", []),
        ("I wish I felt loved.", []),
        ("I'd feel happy there.", []),
        ("Am I sad? Was I angry?", []),
        ("He was sad. She felt angry. The dog made them happy.", []),
        ("I am happier. I was feeling hopeless-ish.", []),
        ("The book was sad and I put it down.", []),
    ],
)
def test_only_real_self_disclosures_are_masked(masker, text, words):
    assert [d.word for d in masker.find(text)] == words


def test_masking_the_filled_segments_finds_gold_words_only(masker):
    """Texts with known disclosures: nothing else may be masked, and most must be found."""
    found, _ = load_segments()
    hits = 0
    for segment in found:
        words = [d.word for d in masker.find(fill(segment, segment.labels))]
        assert set(words) <= set(segment.labels), segment.id
        hits += len(words)
    assert hits > 0.75 * sum(len(s.labels) for s in found)


def test_masks_stand_where_the_words_stood(masker):
    text = "I felt sad, angry and a bit scared."
    assert mask(text, masker.find(text)) == "I felt <mask>, <mask> and a bit <mask>."


def test_word_lists(tmp_path):
    (tmp_path / "a.json").write_text('["glad", "fed up"]')
    (tmp_path / "a.txt").write_text("glad\nfed up\n")
    (tmp_path / "a.csv").write_text("word,joy\nglad,1\nfed up,0\n")
    for name in ("a.json", "a.txt", "a.csv"):
        assert load_words(tmp_path / name) == ["glad", "fed up"]
    assert [d.word for d in Masker(load_words(tmp_path / "a.json")).find("I was fed up.")] == ["fed up"]
    (tmp_path / "b.json").write_text('{"glad": 1}')
    with pytest.raises(UserError, match="is no list of words"):
        load_words(tmp_path / "b.json")
    with pytest.raises(UserError, match="No file"):
        load_words(tmp_path / "c.txt")
    with pytest.raises(UserError, match="is empty"):
        Masker([])


# ------------------------------------------------------------------------------------ cutting


def test_segments_keep_to_the_limit_and_lose_no_mask(masker):
    filler = "The rain went on and on over the roofs. "
    text = filler * 20 + "I felt sad. " + filler * 3 + "I was angry. " + filler * 40 + "It made me happy! " + filler
    made = cut("p", text, masker, most_tokens=60)
    assert [s.labels for s in made] == [("sad", "angry"), ("happy",)]
    for segment in made:
        assert segment.text.count("<mask>") == len(segment.labels)
        assert count_words(segment.text.replace("<mask>", "_")) <= 60
        assert segment.post == "p"
        assert fill(segment, segment.labels) in text
    assert [s.id for s in made] == ["p-0", "p-1"]
    assert count_words(made[0].text) > 40  # room is used for context


def test_no_gold_word_of_another_segment_in_plain_sight(masker):
    text = "I felt sad. " + "It rained. " * 6 + "I was angry. " + "It rained. " * 6 + "I was lonely."
    for segment in cut("p", text, masker, most_tokens=20):
        assert not {"sad", "angry", "lonely"} & set(segment.text.replace(".", "").split())


def test_a_sentence_longer_than_the_limit_is_cut(masker):
    text = "and then we walked " * 100 + "and I felt sad " + "and went on walking " * 100
    (made,) = cut("p", text, masker, most_tokens=64)
    assert made.labels == ("sad",) and count_words(made.text.replace("<mask>", "_")) <= 64


def test_short_posts_stay_whole(masker):
    (made,) = cut("p", "  It rained. I felt sad.\nThen it stopped. ", masker)
    assert made.text == "It rained. I felt <mask>.\nThen it stopped."
    assert cut("p", "Nothing here.", masker) == []


# ------------------------------------------------------------------------------------ building


def posts_file(path: Path) -> Path:
    feelings = ["sad", "angry", "happy", "lonely"]
    rows = [(f"t{i}", f'Day {i}, with commas and "quotes". I felt {feelings[i % 4]}.') for i in range(12)]
    rows += [("t3", "I felt sad."), ("", "I felt sad."), ("t20", " "), ("t21", "I felt <mask>."), ("t22", "It rained.")]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        writer.writerows(rows)
    return path


def test_build_writes_the_corpus_format(tmp_path, masker):
    built = build(posts_file(tmp_path / "posts.csv"), tmp_path / "s.csv", masker)
    assert (built.posts, built.posts_used, built.segments, built.masks) == (13, 12, 12, 12)
    assert built.problems.rows == {
        "has the id of an earlier row": [14],
        "has no id": [15],
        "has no text": [16],
        "holds <mask> already": [17],
    }
    found, problems = load_segments(tmp_path / "s.csv")
    assert len(found) == 12 and not problems
    assert found[0].id == "t0-0" and found[0].post == "t0" and '"quotes"' in found[0].text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["posts.csv", "s.csv"]
    with pytest.raises(UserError, match="exists already"):
        build(tmp_path / "posts.csv", tmp_path / "s.csv", masker)


def test_a_killed_build_goes_on_and_ends_with_the_same_bytes(tmp_path, masker, monkeypatch):
    posts = posts_file(tmp_path / "posts.csv")
    build(posts, tmp_path / "whole.csv", masker)
    calls = []

    def dies(*arguments, **options):
        if len(calls) == 5:
            raise KeyboardInterrupt
        calls.append(arguments[0])
        return cut(*arguments, **options)

    monkeypatch.setattr(building, "cut", dies)
    with pytest.raises(KeyboardInterrupt):
        build(posts, tmp_path / "s.csv", masker)
    monkeypatch.undo()
    part = tmp_path / "s.csv.posts.jsonl"
    part.write_bytes(part.read_bytes()[:-7])  # killed in the middle of a line
    built = build(posts, tmp_path / "s.csv", masker)
    assert built.resumed == 4
    assert (tmp_path / "s.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_build_begun_with_other_settings_begins_anew(tmp_path, masker, monkeypatch):
    posts = posts_file(tmp_path / "posts.csv")
    (tmp_path / "s.csv.posts.jsonl").write_text(json.dumps({"fingerprint": "other"}) + "\n[]\n[]\n")
    assert build(posts, tmp_path / "s.csv", masker).resumed == 0


def test_posts_that_are_refused(tmp_path, masker):
    with pytest.raises(UserError, match="No file"):
        build(tmp_path / "nowhere.csv", tmp_path / "s.csv", masker)
    (tmp_path / "posts.csv").write_text("id,body\n1,I felt sad.\n")
    with pytest.raises(UserError, match="no column 'text'"):
        build(tmp_path / "posts.csv", tmp_path / "s.csv", masker)
    assert [p.name for p in tmp_path.iterdir()] == ["posts.csv"]
    assert build(tmp_path / "posts.csv", tmp_path / "s.csv", masker, text_column="body").segments == 1


def test_build_command(tmp_path, capsys):
    posts, out = posts_file(tmp_path / "posts.csv"), tmp_path / "s.csv"
    _, told = command(capsys, "express", "build", posts, "--out", out, "--tokenizer", "tiny")
    assert "skipped: 1 row: has no id (row 15)" in told and "12 segments" in told
    assert len(load_segments(out)[0]) == 12
