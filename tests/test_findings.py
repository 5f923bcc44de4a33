"""A paper's claims from run folders: what was planted is found, its reverse is refused, noise decides nothing."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_runs import make_run
from scipy.sparse import csr_array

from interp.analysis.effects import by_example, concentration
from interp.analysis.entropy import entropy_by_layer, mixture_cut, normalised_entropy
from interp.analysis.features import LayerFeatures, save_features
from interp.analysis.labelled import LabelledExamples
from interp.analysis.phases import find_phases
from interp.cli import main as cli
from interp.findings import CLAIMS, measure
from interp.findings.claims import above, below, order_of
from interp.findings.concentration import concentrated
from interp.findings.layers import read_entropy
from interp.findings.page import as_json, markdown
from interp.findings.reading import Run
from interp.run import tables
from interp.statistics import Bootstrap, Estimate

EMOTIONS = ("anger", "disgust", "fear", "joy", "sadness", "surprise")
EACH, LAYERS, WIDTH = 24, 6, 60
CONTROLS = range(50, 54)


# ---------------------------------------------------------------------------------- entropy


def test_entropy_of_known_distributions():
    means = np.array([[1, 2, 3, 0], [1, 2, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]], float)  # [emotion, feature]
    np.testing.assert_allclose(normalised_entropy(means)[:3], [1.0, 0.5, 0.0])  # four, two, one emotion of four
    assert np.isnan(normalised_entropy(means)[3])


def test_mixture_cut_separates_what_was_planted_and_cuts_nothing_in_one_hump():
    rng = np.random.default_rng(0)
    low, high = rng.normal(0.3, 0.06, 200), rng.normal(0.93, 0.02, 800)
    cut = mixture_cut(np.concatenate([low, high]))
    assert cut.low == pytest.approx(0.3, abs=0.02)
    assert cut.high == pytest.approx(0.93, abs=0.01)
    assert (low < cut.threshold).mean() > 0.99
    assert (high >= cut.threshold).mean() > 0.99
    assert mixture_cut(rng.normal(0.6, 0.05, 1000)).threshold == 0.0
    assert mixture_cut(np.full(100, 0.7)).threshold == 0.0
    assert mixture_cut(np.array([0.1, 0.9, np.nan])).threshold == 0.0


def planted_acts(gold, share_specific, seed):
    """Features of the format, and from the given share on features of one emotion; [example, feature]."""
    rng = np.random.default_rng(seed)
    n_specific = round(share_specific * WIDTH)
    acts = 1 + 0.1 * rng.random((len(gold), WIDTH))
    for f in range(n_specific):
        acts[:, f] = (gold == f % 6) * (rng.random(len(gold)) < 0.8) * (1 + rng.random(len(gold)))
    return csr_array(acts)


def test_specific_features_are_found_where_they_were_planted_and_so_is_the_phase():
    gold = np.repeat(np.arange(6), EACH)
    weights = Bootstrap(range(len(gold)), 60).weights
    planted = [0.0, 0.0, 0.0, 0.4, 0.4, 0.4]
    curve = entropy_by_layer(range(LAYERS), lambda k: planted_acts(gold, planted[k], k), gold, weights)
    np.testing.assert_allclose(curve.specific, planted, atol=0.01)
    np.testing.assert_allclose(curve.format, [1.0, 1.0, 1.0, 0.6, 0.6, 0.6], atol=0.01)
    assert curve.shuffled.max() < 0.01
    phases = find_phases(curve.specific[:, None], curve.draws[:, :, None], curve.layers)
    assert phases.boundaries == [3]


def test_rare_features_look_specific_by_chance_and_shuffled_labels_say_so():
    """Features active in 8 of 144 texts at random: the cut calls them specific, with any labels."""
    rng = np.random.default_rng(0)
    gold = np.repeat(np.arange(6), EACH)
    acts = 1 + 0.1 * rng.random((len(gold), WIDTH))
    for f in range(30):
        acts[:, f] = 0
        acts[rng.choice(len(gold), 8, replace=False), f] = 1
    curve = entropy_by_layer([0], lambda k: csr_array(acts), gold, Bootstrap(range(len(gold)), 60).weights)
    assert curve.specific[0] == pytest.approx(0.5, abs=0.05)
    assert curve.shuffled[0] == pytest.approx(curve.specific[0], abs=0.05)


# ---------------------------------------------------------------------------------- effects by example


def test_effects_by_example_holds_causal_features_on_their_own_emotion():
    measured = pd.DataFrame(
        {"row": [0, 1, 2, 0], "layer": 0, "feature": [5, 5, 5, 6], "effect": [1.0, 2.0, 3.0, 4.0], "flipped": False}
    )
    effects = pd.DataFrame(
        {"emotion": ["joy", "joy", "fear"], "layer": 0, "feature": [5, 6, 5], "role": "discover"}
        | {"causal": [True, False, False]}
    )
    examples = LabelledExamples(["joy", "fear"], np.array([0, 0, 1]), np.arange(3))
    found = by_example(measured, effects, examples)
    assert found.to_dict("list") == {
        **{"row": [0, 1], "emotion": ["joy", "joy"], "layer": [0, 0], "feature": [5, 5], "effect": [1.0, 2.0]}
    }


def test_concentration_of_known_effects():
    weights = Bootstrap(range(40), 200).weights
    equal = concentrated(np.full((40, 4), 0.5), weights)
    assert equal.effective.value == pytest.approx(4)
    assert equal.top[1].value == pytest.approx(0.25)
    assert equal.summed.value == pytest.approx(2.0)
    assert equal.strongest.value == pytest.approx(0.4)
    alone = concentrated(np.ones((40, 1)), weights)
    assert alone.effective.value == pytest.approx(1)
    assert alone.top[1].value == 1.0
    nothing = concentrated(np.zeros((40, 0)), weights)
    assert nothing.strongest.value == 0.0
    assert np.isnan(nothing.effective.value)
    noisy = concentrated(np.random.default_rng(0).normal(0.5, 1, (40, 6)), weights)
    assert noisy.effective.low < noisy.effective.value < noisy.effective.high
    assert noisy.draws["effective"].mean() == pytest.approx(noisy.effective.value)
    assert np.isnan(concentrated(np.full((40, 4), 0.5), None).effective.low)


def test_verdicts():
    assert [above(Estimate(0, *i, 9), 0.0) for i in ((0.1, 1), (-1, 0), (-1, 1), (np.nan, np.nan))] == [
        *("yes", "no", "undecided", "undecided")
    ]
    assert [below(Estimate(0, *i, 9), 1.0) for i in ((0.1, 0.9), (1.1, 2), (0.5, 1.5))] == ["yes", "no", "undecided"]


def test_an_order_is_sure_of_the_first_and_of_who_is_not_and_seldom_of_equals():
    rng = np.random.default_rng(0)
    apart = rng.standard_normal((1000, 6)) + 9 * np.eye(6)[0]
    assert order_of(apart, 0) == (1.0, "yes")
    assert order_of(apart, 1) == (0.0, "no")
    assert order_of(np.zeros((10, 6)), 2) == (pytest.approx(1 / 6), "undecided")
    with_nan = np.column_stack([apart, np.full(1000, np.nan)])
    assert order_of(with_nan, 0).verdict == "yes"
    assert order_of(with_nan, 6).verdict == "undecided"
    called = [order_of(rng.standard_normal(6) + rng.standard_normal((1000, 6)), 0).verdict for _ in range(200)]
    assert called.count("yes") <= 5
    assert called.count("no") <= 15


# ---------------------------------------------------------------------------------- planted runs


def planted_run(folder, effects_of, answers=None, firing=None, name="demo", model="m", corpus="mine"):
    """A run folder whose causal features have effects by example as given.

    Args:
        effects_of: by emotion, [example, feature].
        answers: by emotion, the answers given to its examples; all right if left out.
        firing: by emotion, the share of other emotions' texts on which its causal features are active.
    """
    rng = np.random.default_rng(0)
    make_run(folder, labels=EMOTIONS, layers=LAYERS, name=name, corpus=corpus)
    record = json.loads((folder / "run.json").read_text())
    source = {"name": corpus, "split": "discover"}
    record["config"] |= {"corpora": {"discover": source, "fit": source, "test": [source]}, "resamples": 100}
    record["model"]["name"] = model
    (folder / "run.json").write_text(json.dumps(record))
    gold = np.repeat(EMOTIONS, EACH)
    said = np.concatenate([(answers or {}).get(e, [e] * EACH) for e in EMOTIONS])
    test = pd.read_parquet(folder / "examples.parquet")
    found = pd.DataFrame({"role": "discover", "corpus": corpus, "split": "discover", "gold": gold, "predicted": said})
    table = pd.concat([found.assign(cut=0, text="t"), test], ignore_index=True)
    table.assign(group=[f"g{i}" for i in range(len(table))]).to_parquet(folder / "examples.parquet")
    lines, detail, acts = [], [], [np.zeros((len(table), WIDTH)) for _ in range(LAYERS)]
    for e, emotion in enumerate(EMOTIONS):
        values = effects_of[emotion]
        for j in range(values.shape[1]):
            layer, feature = j % LAYERS, 6 * (j // LAYERS) + e
            own = {"layer": layer, "feature": feature, "emotion": emotion}
            lines.append(own | {"effect": values[:, j].mean(), "control": False, "causal": True})
            detail += [own | {"row": e * EACH + i, "effect": v} for i, v in enumerate(values[:, j])]
            acts[layer][:, feature] = rng.random(len(table)) < (firing or {}).get(emotion, 0.2)
            acts[layer][e * EACH : (e + 1) * EACH, feature] = 1.0
        lines += [
            {"layer": 0, "feature": f, "emotion": emotion, "effect": 0.0, "control": True, "causal": False}
            for f in CONTROLS
        ]
    shared = {"phase": "1", "role": "discover", "n": EACH, "n_active": EACH, "ci_low": 0.01, "ci_high": 1.0}
    effects = pd.DataFrame(lines).assign(**shared, flip_rate=0.0, attribution=0.1)
    effects.to_parquet(folder / "effects.parquet")
    concentration(effects, list(EMOTIONS)).to_parquet(folder / "concentration.parquet")
    pd.DataFrame(detail).to_parquet(folder / "effects_by_example.parquet")
    (folder / "features").mkdir(exist_ok=True)
    for layer, a in enumerate(acts):
        a[:, CONTROLS.start :] = 1.0
        save_features(folder / f"features/layer_{layer:02d}.npz", LayerFeatures(csr_array(a), a[:, 0], a[:, 0]))
    return folder


def effects(rng, mean, noise=0.1):
    """Effects by example of features with the given means."""
    return np.asarray(mean) + noise * rng.standard_normal((EACH, len(mean)))


def weak_disgust():
    rng = np.random.default_rng(1)
    strong = {e: effects(rng, [2.0, 0.6, 0.4]) for e in EMOTIONS}
    return strong | {"disgust": effects(rng, [0.25] * 10)}


def strong_disgust():
    rng = np.random.default_rng(1)
    diffuse = {e: effects(rng, [0.25] * 10) for e in EMOTIONS}
    return diffuse | {"disgust": effects(rng, [2.0, 0.3])}


def equal_emotions():
    rng = np.random.default_rng(1)
    return {e: effects(rng, [0.5, 0.4, 0.3, 0.2], noise=1.0) for e in EMOTIONS}


def verdict(found, claim):
    return [f.verdict for f in found.of(claim)]


@pytest.fixture(scope="module")
def weak(tmp_path_factory):
    return planted_run(tmp_path_factory.mktemp("weak") / "weak", weak_disgust(), firing={"surprise": 0.9})


@pytest.fixture
def copied(weak, tmp_path):
    """The same run, to be spoilt."""
    return Path(shutil.copytree(weak, tmp_path / "r"))


def test_a_run_in_which_disgust_is_weak_and_diffuse_says_yes(weak):
    (found,) = measure([weak])
    assert verdict(found, "disgust_weak") == verdict(found, "disgust_diffuse") == ["yes"]
    assert verdict(found, "surprise_fires_with") == ["yes"]
    assert verdict(found, "unequal") == ["yes"]
    (diffuse,) = found.of("disgust_diffuse")
    assert diffuse.low < diffuse.value < diffuse.high
    assert diffuse.n == EACH
    assert 9 < diffuse.value <= 10
    assert found.emotions[1].most_diffuse == found.emotions[1].weakest == (1.0, "yes")


def test_its_reverse_says_no(tmp_path):
    run = planted_run(tmp_path / "r", strong_disgust(), firing=dict.fromkeys(EMOTIONS, 0.8) | {"surprise": 0.1})
    (found,) = measure([run])
    assert verdict(found, "disgust_weak") == verdict(found, "disgust_diffuse") == ["no"]
    assert verdict(found, "surprise_fires_with") == ["no"]


def test_equal_emotions_and_noise_decide_nothing(tmp_path):
    (found,) = measure([planted_run(tmp_path / "r", equal_emotions())])
    assert verdict(found, "disgust_weak") == verdict(found, "disgust_diffuse") == ["undecided"]
    assert verdict(found, "fear_concentrated") == ["undecided"]


def test_concentrated_fear_and_surprise_say_yes_and_diffuse_ones_no(tmp_path):
    rng = np.random.default_rng(2)
    diffuse = {e: effects(rng, [0.4] * 8) for e in EMOTIONS}
    (found,) = measure([planted_run(tmp_path / "r", diffuse | {"fear": effects(rng, [2.0, 0.1])})])
    assert verdict(found, "fear_concentrated") == ["yes"]
    assert verdict(found, "surprise_concentrated") != ["yes"]
    narrow = {e: effects(rng, [2.0, 0.1]) for e in EMOTIONS}
    (found,) = measure([planted_run(tmp_path / "s", narrow | {"surprise": effects(rng, [0.4] * 8)})])
    assert verdict(found, "surprise_concentrated") == ["no"]


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [(["anger"] * 12, "yes"), (["sadness"] * 12, "no"), (["anger"] * 6 + ["fear"] * 6, "undecided")],
)
def test_disgust_taken_for_another(tmp_path, wrong, expected):
    said = {"disgust": ["disgust"] * (EACH - 12) + wrong}
    (found,) = measure([planted_run(tmp_path / "r", equal_emotions(), answers=said)])
    assert verdict(found, "overshadowed_answers") == [expected]
    assert found.emotions[1].recall.value == 0.5


def write_signals(folder, probe, boundaries, support=1.0, spread=0.01):
    """Signals of layers with draws, and phases that begin at the boundaries."""
    rng, lines, draws = np.random.default_rng(0), [], {}
    values = {"probe_features": probe, "probe_shuffled": [0.17] * LAYERS, "joint_ablation": probe}
    values["format_share"] = np.linspace(0.8, 0.1, LAYERS)
    for name, curve in values.items():
        for layer, v in enumerate(curve):
            lines.append({"layer": layer, "signal": name, "value": v, "ci_low": v, "ci_high": v, "n": 9})
            draws[f"{name}/{layer}"] = v + spread * rng.standard_normal(200)
    pd.DataFrame(lines).to_parquet(folder / "signals.parquet")
    np.savez_compressed(folder / "signals_draws.npz", **draws)
    ends = [*boundaries, LAYERS]
    spans = [{"phase": i, "first": a, "last": b - 1} for i, (a, b) in enumerate(zip([0, *ends], ends, strict=False), 1)]
    phases = {"n_phases": len(spans), "phases": spans, "boundaries": boundaries, "support": support, "n": 9}
    phases |= {"intervals": [[b, b] for b in boundaries], "verdict": ""}
    (folder / "phases.json").write_text(json.dumps(phases))


@pytest.mark.parametrize(
    ("early", "boundaries", "support", "three", "only"),
    [
        (0.17, [2, 4], 1.0, "yes", "yes"),
        (0.6, [4], 0.99, "no", "no"),
        (0.6, [4], 0.6, "undecided", "no"),
        (0.6, [], 1.0, "no", "undecided"),
    ],
)
def test_phases_and_what_lies_before_the_last(copied, tmp_path, early, boundaries, support, three, only):
    write_signals(copied, [early] * 4 + [0.9] * 2, boundaries, support)
    (found,) = measure([copied])
    assert verdict(found, "phases") == [three]
    assert verdict(found, "only_last_probe") == [only]
    assert verdict(found, "format") == ["yes"]


def test_entropy_is_read_from_a_run(weak):
    found = read_entropy(Run.open(weak))
    assert found is not None
    assert found.n == 6 * EACH
    assert found.curve.layers == list(range(LAYERS))
    assert found.curve.cut.threshold > 0
    assert (found.curve.specific > found.curve.shuffled).all()


# ---------------------------------------------------------------------------------- steering


def test_steering_rows_follow_their_intervals(weak):
    (found,) = measure([weak])
    assert verdict(found, "gain") == ["yes"]
    assert verdict(found, "language") == ["yes"]
    assert verdict(found, "generalises") == verdict(found, "few_labels") == ["not measured"]
    assert found.of("accuracy")[0].value == 0.5
    assert verdict(found, "accuracy") == ["no claim"]


def test_a_gain_is_compared_with_that_of_random_features(copied, tmp_path):
    examples = pd.read_parquet(copied / "examples.parquet")
    gold = examples.loc[examples["role"] == "test", "gold"].to_numpy()
    wrong = np.roll(EMOTIONS, 1)[[EMOTIONS.index(g) for g in gold]]
    half = np.where(np.arange(len(gold)) % 2, gold, wrong)
    answers = {"unsteered": wrong, "steered": gold, "random_features": half}
    parts = [pd.DataFrame({"corpus": "mine", "method": m, "gold": gold, "predicted": p}) for m, p in answers.items()]
    pd.concat(parts).to_parquet(copied / "predictions.parquet")
    (found,) = measure([copied])
    (beyond,) = found.of("beyond_random")
    assert beyond.verdict == "yes"
    assert "% of the gain" in beyond.shown
    swapped = pd.concat(parts).replace({"method": {"steered": "random_features", "random_features": "steered"}})
    swapped.to_parquet(copied / "predictions.parquet")
    assert verdict(measure([copied])[0], "beyond_random") == ["no"]


# ---------------------------------------------------------------------------------- page and command


def command(capsys, *arguments):
    """Output and exit code of `interp findings ...`."""
    sys.argv = ["interp", "findings", *map(str, arguments)]
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
    said = capsys.readouterr()
    return said.out, said.err, code


def test_runs_are_sorted_and_the_same_files_give_the_same_bytes(weak, tmp_path, capsys):
    other = planted_run(tmp_path / "b", equal_emotions(), model="/far/away/a-model", corpus="isear")
    for name, folders in (("one", (weak, other)), ("two", (other, weak))):
        _, _, code = command(capsys, *folders, "--out", tmp_path / f"{name}.md", "--figures", tmp_path / name)
        assert code == 0
    page = (tmp_path / "one.md").read_text()
    assert page.replace("one/", "two/") == (tmp_path / "two.md").read_text()
    assert page.index("a-model on isear") < page.index("m on mine")
    assert "/far/away" not in page
    assert all(c.words in page for c in CLAIMS)
    for file in ("a-model-on-isear.html", "m-on-mine.html"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
        assert f"](one/{file})" in page


def test_every_row_of_every_table_has_as_many_cells_as_its_head(weak, tmp_path):
    for block in markdown(measure([weak]), tmp_path, {}).split("\n\n"):
        if block.startswith("|"):
            assert len({line.replace("\\|", "").count("|") for line in block.splitlines()}) == 1


def test_a_picture_beside_the_page_is_shown(weak, tmp_path, capsys):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "m-on-mine.png").write_bytes(b"png")
    command(capsys, weak, "--out", tmp_path / "f.md", "--figures", tmp_path / "plots")
    assert "(plots/m-on-mine.png)" in (tmp_path / "f.md").read_text()


def test_json_has_every_claim_and_no_nan(weak, tmp_path, capsys):
    out, _, code = command(capsys, weak, "--out", tmp_path / "f.md", "--json")
    found = json.loads(out, parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))
    assert code == 0
    assert {f["claim"] for f in found["runs"][0]["findings"]} == {c.key for c in CLAIMS}
    assert len(found["runs"][0]["entropy"]["layers"]) == LAYERS
    assert as_json(measure([weak]))["runs"] == found["runs"]


def test_a_run_that_was_only_traced_says_what_was_not_measured(copied, tmp_path, capsys):
    for name in ("evaluation", "predictions", "dose", "side_effects"):
        (copied / f"{name}.parquet").unlink()
    (copied / "steering.json").unlink()
    _, _, code = command(capsys, copied, "--out", tmp_path / "f.md")
    (found,) = measure([copied])
    assert code == 0
    assert verdict(found, "gain") == verdict(found, "language") == ["not measured"]
    assert verdict(found, "disgust_diffuse") == ["yes"]
    assert "were not evaluated" in (tmp_path / "f.md").read_text()


def test_a_run_without_effects_by_example_has_values_and_no_intervals(copied, tmp_path):
    (copied / "effects_by_example.parquet").unlink()
    (found,) = measure([copied])
    (diffuse,) = found.of("disgust_diffuse")
    assert 9 < diffuse.value <= 10
    assert np.isnan(diffuse.low)
    assert diffuse.verdict == "undecided"
    assert diffuse.source == "effects.parquet"


def test_bare_runs_say_not_measured(copied, tmp_path):
    for file in copied.rglob("*"):
        if file.is_file() and file.name != "run.json":
            file.unlink()
    (found,) = measure([copied])
    assert {f.verdict for f in found.findings} == {"not measured"}
    assert "not measured" in markdown([found], tmp_path, {})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: (r / "run.json").unlink(), "no run folder"),
        (lambda r: (r / "run.json").write_text("{"), "run.json is damaged"),
        (lambda r: (r / "run.json").write_text('{"config": {}}'), "run.json is damaged"),
        (lambda r: (r / "effects.parquet").write_bytes(b"PAR1 no more"), "effects.parquet is damaged"),
        (lambda r: (r / "phases.json").write_text("[1,"), "phases.json is damaged"),
        (lambda r: (r / "features/layer_01.npz").write_bytes(b"PK\3\4"), "layer_01.npz is damaged"),
        (lambda r: (r / "evaluation.parquet").write_bytes(b""), "evaluation.parquet is damaged"),
    ],
)
def test_damaged_runs_are_refused_in_one_line(copied, tmp_path, capsys, spoil, said):
    spoil(copied)
    out, err, code = command(capsys, copied, "--out", tmp_path / "f.md")
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert not out
    assert not (tmp_path / "f.md").exists()


def test_mistakes_of_the_command_line_are_said_in_one_line(weak, tmp_path, capsys):
    for arguments, said in (
        ((weak, weak / ".." / weak.name), "named twice"),
        ((), "at least one run folder"),
        ((tmp_path / "nowhere",), "no run folder"),
        ((weak, "--out", tmp_path), "is a folder"),
    ):
        _, err, code = command(capsys, *arguments, *(() if "--out" in arguments else ("--out", tmp_path / "f.md")))
        assert code == 2
        assert said in err
        assert len(err.strip().splitlines()) == 1


# ------------------------------------------------------------------------------------- steering side by side


def with_curve(folder: Path, corpora: tuple[str, ...]) -> Path:
    """A made run in which a coupling has a curve, and was scored on several corpora."""
    run = planted_run(folder, equal_emotions())
    scores = tables.read(run / "evaluation.parquet")
    (own,) = {c for c in scores["corpus"] if c != "plain text"}
    names = (own, *corpora)
    parts = [scores[scores["corpus"] == own].assign(corpus=c) for c in names]
    steered = [p[p["method"] == "steered"].assign(method="coupled") for p in parts]
    plain = scores[scores["corpus"] == "plain text"]
    tables.write(run / "evaluation.parquet", pd.concat([*parts, *steered, plain], ignore_index=True))
    line = {"corpus": own, "ci_low": 0.1, "ci_high": 0.3, "draw_low": 0.0, "draw_high": 0.4, "draws": 20, "n": 40}
    over = {"over_bias": 0.05, "over_bias_low": -0.01, "over_bias_high": 0.11}
    lines = [
        {**line, "method": m, "labels": n, "macro_f1": f1, "value": gain, **(over if m == "coupled" and n else {})}
        for m, n, f1, gain in [
            ("coupled", 0, 0.5, 0.1),
            ("coupled", 5, 0.6, 0.2),
            ("random_features", 5, 0.45, 0.05),
            ("answer_prior", 0, 0.42, 0.02),
            ("answer_bias", 5, 0.55, 0.15),
        ]
    ]
    tables.write(run / "learning.parquet", pd.DataFrame(lines))
    return run


def test_five_labels_and_what_carries_over_stand_side_by_side(tmp_path):
    found = measure([with_curve(tmp_path / "a", ("other", "third"))])
    page = markdown(found, tmp_path, {})
    row = next(line for line in page.splitlines() if "| 20 |" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:8] == ["50.0", "42.0", "55.0", "60.0", "45.0", "-"]
    assert cells[8:] == ["+20.0 [+10.0, +30.0]", "+5.0 [-1.0, +11.0]", "25%"]
    carried = page.split("## What carries over")[1].split("##")[0]
    assert "| other | third |" in carried
    assert carried.count("+50.0 [+40.0, +60.0]") == 3


def test_runs_without_a_curve_or_other_corpora_have_neither(tmp_path):
    page = markdown(measure([planted_run(tmp_path / "r", equal_emotions())]), tmp_path, {})
    assert "labels an emotion\n" not in page
    assert "What carries over" not in page
