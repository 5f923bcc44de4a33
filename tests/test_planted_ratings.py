"""Whole runs with ratings: a planted chain is found and does what it should; ratings without a chain do nothing."""

import json
import re
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pandas as pd
import pytest
import yaml
from planted import BOUNDARIES, CUES, FILLERS, LABELS, N_BACKGROUND, Planted, build_planted
from worlds import contents, start

import interp.files.folder as folder_module
from interp import UserError
from interp.report import write_report
from interp.run import pipeline, tables
from interp.run.config import (
    Config,
    CorporaConfig,
    CorpusConfig,
    FluencyConfig,
    RatingsConfig,
    SaesConfig,
    TracingConfig,
)

N = 240
SCALES = ["glad", "cross", "dull", "odd"]
DULL = [w for i, w in enumerate(FILLERS) if i % N_BACKGROUND == 1]
"""Words that bring one background feature, which no answer word reads."""


def rated_table(planted: Planted, path: Path, *, shuffled: bool) -> Path:
    """Texts rated by their words.

    `glad`: cues of joy less those of sadness; `cross`: of anger less those of fear; `dull`: words that no answer reads;
    `odd`: nothing.
    """
    texts = planted.texts(N, seed=9)
    rng = np.random.default_rng(3)
    words = [t.split() for t in texts["text"]]

    def count(which: tuple[str, ...] | list[str]) -> np.ndarray:
        return np.array([sum(w in which for w in own) for own in words], float)

    glad = count(CUES["joy"]) - count(CUES["sadness"])
    cross = count(CUES["anger"]) - count(CUES["fear"])
    ratings = np.stack([glad, cross, count(DULL), rng.normal(size=N)], 1) + 0.3 * rng.normal(size=(N, 4))
    if shuffled:
        ratings = ratings[rng.permutation(N)]
    texts[SCALES] = ratings.round(4)
    texts.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Planted:
    return build_planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def run(planted) -> Path:
    """A run up to the causal effects, with the planted ratings and the same ones shuffled."""
    folder = planted.folder
    parts = [planted.texts(n, seed).assign(split=split) for split, n, seed in (("discover", 150, 1), ("fit", 40, 2))]
    pd.concat([*parts, planted.texts(20, 3).assign(split="test")]).to_csv(folder / "texts.csv", index=False)
    (folder / "plain.txt").write_text("\n<|endoftext|>\n".join(planted.texts(5, 4)["text"]))
    source = {"name": "local", "path": str(folder / "texts.csv")}
    ratings = [
        RatingsConfig(
            "local",
            path=str(rated_table(planted, folder / f"{name}.csv", shuffled=name == "null")),
            columns=SCALES,
            label_column="label",
        )
        for name in ("chain", "null")
    ]
    config = Config(
        name="ratings",
        model=str(folder / "model"),
        saes=SaesConfig(str(folder / "saes"), force=True),
        labels=list(LABELS),
        corpora=CorporaConfig(
            CorpusConfig(split="discover", **source),
            CorpusConfig(split="fit", **source),
            [CorpusConfig(split="test", **source)],
            ratings=ratings,
        ),
        fluency=FluencyConfig(str(folder / "plain.txt")),
        tracing=TracingConfig(candidates=12),
        resamples=200,
        out=str(folder / "runs"),
    )
    return pipeline.run(config, command="trace").folder


def of(run: Path, name: str, corpus: str = "chain") -> pd.DataFrame:
    table = tables.read(run / f"{name}.parquet")
    return table[table["corpus"] == f"local ({corpus}.csv)"]


def names_of(planted: Planted, table: pd.DataFrame) -> set[str]:
    known = {(f.layer, f.index): f.name for f in planted.features}
    return {known.get((r.layer, r.feature), "unnamed") for r in table.itertuples()}


def test_the_planted_ratings_are_known_where_the_chain_begins(run):
    found = of(run, "ratings").set_index("rating")
    assert found["known"].to_dict() == {"glad": True, "cross": True, "dull": True, "odd": False}
    assert found.loc["glad", "layer"] >= BOUNDARIES[1]
    probes = of(run, "rating_probes")
    own = probes[(probes["method"] == "residuals") & (probes["rating"] == "glad")].set_index("layer")["value"]
    decoys = own[own.index >= BOUNDARIES[0]].head(3).max()  # the emotion's decoy word goes with its cues
    assert own[own.index < BOUNDARIES[0]].max() < 0.1
    assert own.max() > max(0.7, decoys + 0.1)
    dull = probes[(probes["method"] == "residuals") & (probes["rating"] == "dull")]["value"]
    assert dull.min() > 0.5


def test_the_planted_features_are_found_and_operated_on(planted, run):
    features = of(run, "rating_features")
    chosen = features[features["operated"]]
    glad = names_of(planted, chosen[chosen["rating"] == "glad"])
    assert glad <= {"joy_a", "joy_b", "sadness", "fear_sadness", "decoy_joy", "decoy_sadness"}
    assert {"joy_a", "sadness"} & glad
    dull = names_of(planted, chosen[chosen["rating"] == "dull"])
    assert "background_1" in dull
    assert dull <= {"background_1", "unnamed"}  # features of the noise in words tell these words from others
    assert not (chosen["rating"] == "odd").any()
    summary = of(run, "ratings")
    assert summary["n_features_shuffled"].sum() <= 1


def test_answers_move_as_people_say_where_there_is_a_chain(run):
    effects = of(run, "rating_effects").set_index(["rating", "method", "emotion"])
    for method in ("features", "features one by one", "direction"):
        assert effects.loc[("glad", method, "joy"), "ci_low"] > 0.05, method
        assert effects.loc[("glad", method, "sadness"), "ci_high"] < -0.05, method
    assert effects.loc[("glad", "features", "joy"), "human_low"] > 0
    assert effects.loc[("glad", "features", "sadness"), "human_high"] < 0
    for emotion in ("joy", "sadness"):
        controls = effects.loc[("glad", "control features", emotion), "effect"]
        assert abs(controls) < 0.3 * abs(effects.loc[("glad", "features", emotion), "effect"])


def test_what_no_answer_reads_moves_no_answer(run):
    effects = of(run, "rating_effects")
    dull = effects[(effects["rating"] == "dull") & (effects["method"] == "features")]
    assert len(dull) == len(LABELS)
    assert dull["effect"].abs().max() < 0.02


def test_the_dose_is_followed(run):
    doses = of(run, "rating_doses")
    for method in ("features", "direction"):
        joy = doses[(doses["rating"] == "glad") & (doses["method"] == method) & (doses["emotion"] == "joy")]
        joy = joy.sort_values("dose")
        assert joy["dose"].tolist() == [-2, -1, 0, 1, 2]
        assert (np.diff(joy["effect"]) > 0).all(), method
        assert joy["answered"].iloc[-1] > joy["answered_before"].iloc[-1] > joy["answered"].iloc[0]


def test_signs_agree(run):
    found = of(run, "rating_agreement").set_index("method")
    for method in ("direction", "features"):
        assert found.loc[method, "agreement"] >= 0.8
        assert found.loc[method, "p"] <= 0.15


def test_emotions_lie_where_their_cues_put_them(run):
    positions, summary = of(run, "rating_positions"), of(run, "ratings").set_index("rating")
    own = positions[
        (positions["rating"] == "glad")
        & positions["feature"].isna()
        & (positions["layer"] == summary.loc["glad", "layer"])
    ].set_index("emotion")
    assert own["value"].idxmax() == "joy"
    assert own["value"].idxmin() == "sadness"
    assert own.loc["joy", "ci_low"] > 0 > own.loc["sadness", "ci_high"]
    causal = positions[(positions["rating"] == "glad") & positions["feature"].notna() & (positions["layer"] >= 6)]
    mean = causal.groupby("emotion")["value"].mean()
    assert mean["joy"] > 0 > mean["sadness"]


def test_shuffled_ratings_give_nothing(run):
    found = of(run, "ratings", "null")
    assert not found["known"].any()
    assert found["n_features"].sum() <= 1
    assert not len(of(run, "rating_agreement", "null"))
    features = of(run, "rating_features", "null")
    assert features["operated"].sum() <= 1


def test_directions_are_there_for_whoever_wants_to_steer(run):
    with np.load(run / "rating_directions.npz") as stored:
        shapes = {name: stored[name].shape for name in stored.files}
    assert shapes["0/slopes/8"] == shapes["1/weights/0"] == shapes["0/within/3"] == (4, 96)
    assert len(shapes) == 2 * 3 * 9


def test_the_report_shows_ratings(run):
    page = write_report(run).read_text(encoding="utf-8")
    figures = set(re.findall(r'id="figure-([\w-]+)"', page))
    assert {f"rating-{kind}-0" for kind in ("layers", "beside", "signs", "doses")} <= figures
    assert not any(f.startswith("circumplex") for f in figures)  # neither valence nor arousal
    assert "3 of 4 ratings are read beyond chance" in page
    assert "0 of 4 ratings are read beyond chance" in page
    text = re.sub(r"<script>/\*\*.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)


# ------------------------------------------------------------------------------------------ resuming


@pytest.fixture
def with_ratings(world, finished, tmp_path) -> tuple[Path, str]:
    """A finished run without ratings, in a folder of its own, and ratings to be added to it."""
    corpus = pd.read_csv(world / "corpus.csv").head(70)
    corpus["calm"] = np.arange(len(corpus)) % 5
    corpus["words"] += " indeed"
    corpus.to_csv(tmp_path / "calm.csv", index=False)
    copytree(finished, tmp_path / "runs" / "small")
    entry = {"name": "local", "path": str(tmp_path / "calm.csv"), "text_column": "words", "columns": ["calm"]}
    return tmp_path / "runs", yaml.safe_dump([entry], default_flow_style=True).strip()


def test_ratings_are_added_to_a_finished_run_at_the_cost_of_their_stage(world, with_ratings):
    out, entry = with_ratings
    assert not len(pd.read_parquet(out / "small" / "ratings.parquet"))
    done = start(world, out, **{"corpora.ratings": entry})
    assert done.ran == ["ratings"]
    assert pd.read_parquet(out / "small" / "ratings.parquet")["rating"].tolist() == ["calm"]
    assert start(world, out, **{"corpora.ratings": entry}).ran == []
    again = start(world, out)
    assert again.ran == ["ratings"]
    assert not len(pd.read_parquet(out / "small" / "ratings.parquet"))


def test_a_run_killed_again_and_again_within_the_stage_ends_with_the_same_bytes(
    world, with_ratings, tmp_path, monkeypatch
):
    out, entry = with_ratings
    copytree(out, tmp_path / "whole")
    start(world, tmp_path / "whole", **{"corpora.ratings": entry})
    expected = contents(tmp_path / "whole")

    class Kill(BaseException):
        pass

    original, seen, last = folder_module.writing, set(), ("ratings.parquet", "rating_directions.npz")

    @contextmanager
    def killing(path):
        with original(path) as part:
            yield part
        if path not in seen and ("units" in path.parts or path.name in last):
            seen.add(path)
            raise Kill

    def dying(stage: pipeline.Stage) -> pipeline.Stage:
        def run(session):
            with monkeypatch.context() as patched:
                for module in list(sys.modules.values()):
                    if getattr(module, "writing", None) is original:
                        patched.setattr(module, "writing", killing)
                stage.run(session)

        return replace(stage, run=run) if stage.name == "ratings" else stage

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "STAGES", tuple(map(dying, pipeline.STAGES)))
        for _ in range(20):
            try:
                start(world, out, **{"corpora.ratings": entry})
                break
            except Kill:
                continue
    assert {path.name for path in seen} > {*last}
    assert len({path for path in seen if "units" in path.parts}) >= 2  # passes before and under surgery
    assert contents(out) == expected
    assert not (out / "small" / "units").exists()


def test_bad_ratings_are_refused_before_anything_runs(world, with_ratings):
    out, entry = with_ratings
    before = contents(out)
    with pytest.raises(UserError, match="has no column 'clam'"):
        start(world, out, **{"corpora.ratings": entry.replace("calm]", "clam]")})
    assert contents(out) == before
    assert json.loads((out / "small" / "run.json").read_text())["config"]["corpora"]["ratings"] == []
