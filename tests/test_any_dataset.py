"""Data sets of the hub and in memory, in the layouts in which they come."""

import datasets
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from interp import UserError, load_corpus
from interp.run.config import load_config

NAMES = ["sadness", "joy", "love", "anger", "fear", "surprise"]
LABELS = ("joy", "sadness", "anger", "love")
TEXTS = [f"text number {i}" for i in range(40)]
GOLD = [NAMES[i % 4] for i in range(40)]


def as_hub(
    text: str = "text", label: str = "label", parts: tuple[str, ...] = ("train", "validation", "test")
) -> DatasetDict:
    """As dair-ai/emotion comes: class labels by number."""
    features = Features({text: Value("string"), label: ClassLabel(names=NAMES)})
    numbers = [NAMES.index(gold) for gold in GOLD]
    size = len(TEXTS) // len(parts)
    places = {part: slice(i * size, (i + 1) * size) for i, part in enumerate(parts)}
    return DatasetDict(
        {
            part: Dataset.from_dict({text: TEXTS[at], label: numbers[at]}, features=features)
            for part, at in places.items()
        }
    )


@pytest.fixture
def hub(monkeypatch):
    """What the hub has, by (repository, config)."""
    there: dict = {}

    def load_dataset(name, config=None):
        if (name, config) not in there:
            raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{name}' doesn't exist on the Hub")
        return there[name, config]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return there


def read(name, **options) -> dict[str, str]:
    return {e.text: e.gold for e in load_corpus(name, labels=LABELS, **options)}


def test_class_labels_are_decoded_and_splits_are_those_of_the_hub(hub):
    hub["dair-ai/emotion", None] = as_hub()
    whole = dict(zip(TEXTS[:39], GOLD, strict=False))
    assert read("hub:dair-ai/emotion") == whole
    assert read("hub:dair-ai/emotion", split="test") == dict(list(whole.items())[26:])
    train = read("hub:dair-ai/emotion", split="train")
    discover, fit = (read("hub:dair-ai/emotion", split=part) for part in ("discover", "fit"))
    assert discover | fit == train
    assert not {*discover} & {*fit}
    (first, *_) = load_corpus("hub:dair-ai/emotion", labels=LABELS, split="test")
    assert first.id == "hub:dair-ai/emotion/test-0"


def test_a_configuration_of_a_data_set_is_named_behind_a_colon(hub):
    hub["a/b", "split"] = as_hub(parts=("train",))
    assert len(read("hub:a/b:split")) == 40
    assert {*read("hub:a/b:split", split="discover")} < {*TEXTS}  # one split is cut as a file without one
    assert len(read("hub:a/b:split", split="test")) > 5


def test_columns_are_found_by_name_and_type_and_it_is_said(hub):
    hub["a/b", None] = as_hub("Sentence", "mood")
    with pytest.warns(match="texts are in column 'Sentence', labels in 'mood'"):
        found = read("hub:a/b")
    assert found == dict(zip(TEXTS[:39], GOLD, strict=False))
    assert read("hub:a/b", text_column="Sentence", label_column="mood") == found
    hub["a/c", None] = DatasetDict(train=Dataset.from_dict({"x": ["y"] * 40, "words": TEXTS, "emotion": GOLD}))
    with pytest.warns(match="texts are in column 'words', labels in 'emotion'"):
        assert len(read("hub:a/c")) == 40


@pytest.mark.parametrize(
    "make",
    [
        lambda: pd.DataFrame({"text": TEXTS, "label": GOLD}),
        lambda: Dataset.from_dict({"text": TEXTS, "label": GOLD}),
        lambda: as_hub(parts=("train",))["train"],
        lambda: as_hub(parts=("train",)),
        lambda: [{"text": t, "label": g} for t, g in zip(TEXTS, GOLD, strict=True)],
        lambda: pd.DataFrame({"text": TEXTS, "label": [[g] for g in GOLD]}),
    ],
)
def test_tables_in_memory_are_corpora(make):
    assert read(make()) == dict(zip(TEXTS, GOLD, strict=True))


def test_a_frame_is_cut_and_limited_as_a_file_is(tmp_path):
    frame = pd.DataFrame({"text": TEXTS, "label": GOLD})
    frame.to_csv(tmp_path / "same.csv", index=False)
    for split in ("discover", "fit", "test"):
        options = {"split": split, "limit": 6}
        assert read(frame, **options) == read("local", path=tmp_path / "same.csv", **options)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("hub:nobody/nothing", {}, "Could not fetch 'nobody/nothing'.*check the name"),
        ("hub:", {}, "names no data set"),
        ("hub:a/b/c", {}, "names no data set"),
        ("hub:a/b", {"path": "x.csv"}, "leave out its path"),
        ("hub:a/b", {"text_column": "wordz"}, "no column 'wordz' .it has: 'text', 'label'"),
        ("hub:a/b", {"split": "dev2"}, "no split 'dev2'"),
        ("dair-ai/emotion", {}, "write hub:dair-ai/emotion"),
        (5, {}, "got int"),
        (pd.DataFrame({"a": [1], "b": [2]}), {}, "no column 'text'"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_line(hub, name, options, words):
    hub["a/b", None] = as_hub()
    with pytest.raises(UserError, match=words) as refused:
        load_corpus(name, labels=LABELS, **options)
    assert "\n" not in str(refused.value)


def test_a_run_may_name_one(hub):
    hub["a/b", None] = as_hub()
    config = load_config(None, {"corpora.test.0.name": "hub:a/b", "labels": "[joy, sadness, anger, love]"})
    assert config.corpora.test[0].name == "hub:a/b"


@pytest.mark.parametrize("layout", ["saved dict", "saved", "parquet", "csv.gz", "json", "semicolon"])
def test_files_of_a_data_set_are_read_as_local(tmp_path, layout):
    parts = as_hub(parts=("train", "test"))
    frame = pd.DataFrame({"text": TEXTS, "label": GOLD})
    if layout == "saved dict":
        parts.save_to_disk(tmp_path / "x")
    elif layout == "saved":
        parts["train"].save_to_disk(tmp_path / "x")
    elif layout == "parquet":
        (tmp_path / "x").mkdir()
        for part, table in parts.items():
            table.to_parquet(tmp_path / f"x/{part}-00000-of-00001.parquet")
    else:
        write = {
            "csv.gz": lambda path: frame.to_csv(path, index=False),
            "json": lambda path: frame.to_json(path, orient="records"),
            "semicolon": lambda path: frame.to_csv(path, index=False, sep=";"),
        }[layout]
        write(tmp_path / f"x.{layout.replace('semicolon', 'csv')}")
    (path,) = tmp_path.iterdir()
    n = 20 if layout == "saved" else 40
    assert read("local", path=path) == dict(zip(TEXTS[:n], GOLD, strict=False))


def test_rows_of_a_frame_without_text_or_label_are_left_out_and_counted():
    frame = pd.DataFrame({"text": [*TEXTS, " ", None, "x"], "label": [*GOLD, "joy", "joy", float("nan")]})
    with pytest.warns(match="2 rows without text"):
        assert read(frame) == dict(zip(TEXTS, GOLD, strict=True))
