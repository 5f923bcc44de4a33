"""Streams: what one pass over all texts at once would count, at constant memory and disk, killed and resumed."""

import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
import torch
from scipy.stats import kstest
from worlds import shell

from interp import UserError
from interp.analysis.tally import FeatureTally
from interp.engine.capture import capture
from interp.run.streaming import TallyOptions, random_keys, stream_features
from interp.texts.prompts import build_prompts
from interp.texts.streams import StreamedText, StreamSource

LABELS = ["anger", "fear", "joy"]
WORDS = ["the", "a", "dog", "cat", "rain", "street", "letter", "morning", "friend", "lost", "found"]
SMALL = TallyOptions(shard=16, checkpoint=2, kept=3)


def texts(n: int = 70) -> Iterator[StreamedText]:
    rng = np.random.default_rng(0)
    for i in range(n):
        words = " ".join(rng.choice(WORDS, rng.integers(2, 9)))
        yield StreamedText("" if i % 17 == 5 else words, ["Anger", "joy", "other", ""][i % 4])


def contents(folder) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix in (".parquet", ".npz", ".json")}


@pytest.fixture(scope="module")
def streamed(models_by_family, tmp_path_factory):
    from tiny_models import build_sae

    from interp.saes.stack import SaeStack

    model = models_by_family["llama"]
    saes = SaeStack({layer: build_sae(seed=layer) for layer in (1, 3)}, "test", "test:saes")
    folder = tmp_path_factory.mktemp("streamed")
    return model, saes, folder, stream_features(model, saes, texts, LABELS, folder, options=SMALL)


def test_a_stream_counts_what_all_texts_at_once_give(streamed):
    model, saes, folder, found = streamed
    every = list(texts())
    rows = np.array([i for i, one in enumerate(every) if one.text])
    gold = np.array([{"Anger": 0, "joy": 2}.get(every[i].label, -1) for i in rows])
    captured = capture(model, build_prompts([every[i].text for i in rows], LABELS), answers=LABELS)
    assert found.n == len(rows) == 66
    for layer in saes.layers:
        acts = saes.encode(layer, captured.residuals[layer]).double().numpy()
        table = found.features[found.features["layer"] == layer].set_index("feature")
        assert table.index.tolist() == np.flatnonzero((acts > 0).any(0)).tolist()
        own = acts[:, table.index]
        assert table["fired"].to_numpy() == pytest.approx((own > 0).sum(0))
        assert table["mean"].to_numpy() == pytest.approx(own.mean(0), rel=1e-4)
        assert table["sd"].to_numpy() == pytest.approx(own.std(0), rel=1e-3, abs=1e-5)
        assert table["max"].to_numpy() == pytest.approx(own.max(0), rel=1e-4)
        for label, i in (("anger", 0), ("joy", 2)):
            assert table[f"rate_{label}"].to_numpy() == pytest.approx((own[gold == i] > 0).mean(0))
            assert table[f"mean_{label}"].to_numpy() == pytest.approx(own[gold == i].mean(0), rel=1e-4, abs=1e-7)
        assert table["rate_fear"].isna().all()
        kept = found.texts[(found.texts["layer"] == layer) & (found.texts["kind"] == "top")]
        for feature, part in kept.groupby("feature"):
            fired = int((acts[:, feature] > 0).sum())
            best = np.sort(acts[:, feature])[::-1][: min(3, fired)]
            assert part["activation"].to_numpy() == pytest.approx(best, rel=1e-4)
            at = np.searchsorted(rows, part["row"])
            assert acts[at, feature] == pytest.approx(part["activation"].to_numpy(), rel=1e-4)
        drawn = found.texts[(found.texts["layer"] == layer) & (found.texts["kind"] == "random")]
        for feature, part in drawn.groupby("feature"):
            firing = rows[acts[:, feature] > 0]
            wanted = firing[np.argsort(random_keys(firing, 0))][:3]
            assert part["row"].tolist() == wanted.tolist()
    predicted = captured.answer_logits.argmax(-1).numpy()
    cells = found.answers.set_index(["label", "answered"])["n"]
    for label, i in (("anger", 0), ("joy", 2), ("", -1)):
        assert [cells[label, name] for name in LABELS] == np.bincount(predicted[gold == i], minlength=3).tolist()
    assert pd.read_parquet(folder / "features.parquet").equals(found.features)
    assert pq.read_schema(folder / "features.parquet").field("rate_joy").metadata[b"unit"] == b"share"


@pytest.mark.parametrize("stopped_after", [1, 33, 64])
def test_a_killed_stream_goes_on_and_ends_with_the_same_bytes(streamed, tmp_path, stopped_after):
    model, saes, folder, _ = streamed

    def failing() -> Iterator[StreamedText]:
        yield from islice(texts(), stopped_after)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream_features(model, saes, failing, LABELS, tmp_path / "s", options=SMALL)
    captured: list[int] = []
    stream_features(model, saes, texts, LABELS, tmp_path / "s", options=SMALL, advance=captured.append)
    assert captured[0] == {1: 16, 33: 48, 64: 70}[stopped_after]
    assert contents(tmp_path / "s") == contents(folder)
    before = contents(tmp_path / "s")
    stream_features(model, saes, texts, LABELS, tmp_path / "s", options=SMALL)  # nothing is counted twice
    assert contents(tmp_path / "s") == before


def test_a_longer_stream_goes_on_from_a_shorter_one(streamed, tmp_path):
    model, saes, _, found = streamed
    stream_features(model, saes, texts, LABELS, tmp_path / "s", options=replace(SMALL, limit=32))
    longer = stream_features(model, saes, texts, LABELS, tmp_path / "s", options=SMALL)
    pd.testing.assert_frame_equal(longer.features, found.features, rtol=1e-4, atol=1e-6)
    with pytest.raises(UserError, match="belongs to a stream with another model, SAEs, labels or settings"):
        stream_features(model, saes, texts, LABELS, tmp_path / "s", options=replace(SMALL, seed=1))
    with pytest.raises(UserError, match="belongs to a stream"):
        stream_features(model, saes, texts, ["anger", "joy"], tmp_path / "s", options=SMALL)


def test_memory_and_disk_do_not_grow_with_the_texts(streamed, tmp_path):
    """Ten times as many texts: what Python and numpy allocate, what the process holds, and what lies on disk."""
    model, saes, _, _ = streamed
    options = TallyOptions(shard=64, checkpoint=4, kept=3)
    stream_features(model, saes, lambda: texts(256), LABELS, tmp_path / "warm", options=options)
    peaks, held, sizes = [], [], []
    for n in (256, 2560):
        tracemalloc.start()
        before = psutil.Process().memory_info().rss
        stream_features(model, saes, lambda n=n: texts(n), LABELS, tmp_path / str(n), options=options)
        peaks.append(tracemalloc.get_traced_memory()[1])
        held.append(psutil.Process().memory_info().rss - before)
        tracemalloc.stop()
        sizes.append(sum(p.stat().st_size for p in (tmp_path / str(n)).iterdir()))
    assert peaks[1] < 1.25 * peaks[0], peaks
    assert held[1] < 20e6, held
    assert sizes[1] < 1.5 * sizes[0], sizes


def test_parts_add_up_whatever_their_size():
    generator = torch.Generator().manual_seed(0)
    acts = (torch.randn(90, 5, generator=generator)).clamp_min(0)
    labels, rows = torch.randint(-1, 2, (90,), generator=generator), torch.arange(90)
    keys = torch.from_numpy(random_keys(rows.numpy(), 3))

    def counted(size: int) -> FeatureTally:
        tally = FeatureTally.empty(2, 5, kept=4)
        for k in range(0, 90, size):
            part = slice(k, k + size)
            tally.add(acts[part], labels[part], rows[part], keys[part])
        return tally

    one = counted(90)
    for size in (1, 7, 30):
        other = counted(size)
        for name, values in one.arrays().items():
            assert values == pytest.approx(other.arrays()[name], rel=1e-12), name
    again = FeatureTally.of(one.arrays())
    assert all((again.arrays()[name] == values).all() for name, values in one.arrays().items())


def test_random_texts_are_a_uniform_draw():
    """Over many seeds every firing text is kept equally often; keys are uniform."""
    fires = torch.zeros(40, 1)
    fires[::2] = 1.0
    rows, kept = torch.arange(40), np.zeros(40)
    for seed in range(2000):
        tally = FeatureTally.empty(1, 1, kept=5)
        tally.add(fires, torch.zeros(40, dtype=torch.long), rows, torch.from_numpy(random_keys(rows.numpy(), seed)))
        kept[tally.drawn_row[:, 0].numpy()] += 1
    assert kept[1::2].sum() == 0
    assert kept[::2] == pytest.approx(np.full(20, 2000 * 5 / 20), abs=90)  # four standard deviations
    assert kstest(random_keys(np.arange(20_000), 0), "uniform").pvalue > 0.01


def test_sources_are_read_alike_in_order(tmp_path):
    every = [one for one in texts(40) if one.text]
    table = pd.DataFrame([one._asdict() for one in every])
    table.to_parquet(tmp_path / "one.parquet")
    table.to_json(tmp_path / "one.jsonl", orient="records", lines=True)
    table.to_csv(tmp_path / "one.csv", index=False)
    shards = tmp_path / "shards"
    shards.mkdir()
    for i in range(4):
        table.iloc[i * 10 : (i + 1) * 10].to_parquet(shards / f"part-{i}.parquet")
    for name in ("one.parquet", "one.jsonl", "one.csv", "shards"):
        assert list(StreamSource(str(tmp_path / name), label_column="label").texts()) == every, name
    assert [one.label for one in StreamSource(str(shards)).texts()] == [""] * len(every)


@pytest.mark.parametrize(
    ("name", "columns", "words"),
    [
        ("absent.parquet", {}, "is no file or folder"),
        ("empty", {}, "holds no tables"),
        ("one.csv", {"text_column": "words"}, "words"),
        ("one.csv", {"label_column": "lable"}, "lable"),
        ("broken.parquet", {}, "could not be read"),
    ],
)
def test_bad_sources_are_refused_in_one_line(tmp_path, name, columns, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "one.csv").write_text("text,label\nRain.,joy\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=words) as refused:
        list(StreamSource(str(tmp_path / name), **columns).texts())
    assert "\n" not in str(refused.value)


def test_a_stream_without_a_text_is_refused(streamed, tmp_path):
    model, saes, *_ = streamed
    with pytest.raises(UserError, match="holds no text"):
        stream_features(model, saes, lambda: [StreamedText("", "joy")], LABELS, tmp_path / "s")


def test_the_command_counts_a_folder_of_shards(world, tmp_path):
    shards = tmp_path / "shards"
    shards.mkdir()
    for i in range(2):
        pd.DataFrame({"words": ["the dog", "a cat lost", "rain"], "feeling": ["joy", "fear", "joy"]}).to_parquet(
            shards / f"{i}.parquet"
        )
    words = ("stream", str(world / "small.yaml"), "--source", str(shards), "--text_column", "words")
    done = shell(*words, "--label_column", "feeling", "--out", str(tmp_path / "s"), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["n"] == 6
    table = pd.read_parquet(tmp_path / "s" / "features.parquet")
    assert {"layer", "feature", "fired", "rate_joy", "mean_fear"} <= {*table.columns}
    assert sorted(table["layer"].unique()) == [0, 1, 2, 3]
    bad = shell(*words[:3], str(tmp_path / "none.parquet"), "--out", str(tmp_path / "s"), cwd=tmp_path)
    assert bad.returncode == 2
    assert "is no file or folder" in " ".join(bad.stderr.split())
