"""A steering's certificate: what it says, and what it takes to fail it."""

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest
from worlds import start

from interp.errors import DamagedError, UserError
from interp.files.folder import RunFolder
from interp.run.certifying import FILES, NAME, certify
from interp.run.config import config_of
from interp.run.session import Session
from interp.run.steerings import few, ground

SEALED = 64


@pytest.fixture(scope="module")
def certified(world, tmp_path_factory):
    """A whole run of the small world, with its certificate."""
    out = tmp_path_factory.mktemp("certified")
    return start(world, out, **{"steering.labels": "4", "steering.learning_curve": "2"}).folder


def test_it_says_what_the_run_says(certified):
    told = json.loads((certified / NAME).read_text())
    scores = pd.read_parquet(certified / "evaluation.parquet")
    assert len(told["labels_used"]["examples"]) == 12
    assert told["labels_used"]["unlabelled"] == 12
    own = scores[(scores["metric"] == "macro_f1") & (scores["method"] == "unsteered")].iloc[0]
    assert told["figures"][f"macro_f1 {own.corpus} unsteered"] == pytest.approx(own.value)
    assert set(told["made_worse"]) == set(told["made_better"]) == {own.corpus}
    assert len(told["seal"]) == SEALED
    assert {name.split("/")[0] for name in told["files"]} == set(FILES)


def test_the_curve_of_labels_has_every_method_and_draw(certified):
    """In the same run: none, and up to all labels; a bias and a probe need some."""
    curve = pd.read_parquet(certified / "learning.parquet").set_index(["method", "labels"])
    assert {"coupled", "random_features", "answer_prior", "answer_bias", "probe"} == set(curve.index.levels[0])
    assert sorted(curve.loc["coupled"].index) == [0, 1, 2, 5]
    assert sorted(curve.loc["answer_bias"].index) == [1, 2, 5]
    assert curve.loc[("coupled", 0), "draws"] == 1
    assert curve.loc[("coupled", 5), "draws"] == 2
    for low, middle, high in (("ci_low", "value", "ci_high"), ("draw_low", "value", "draw_high")):
        assert (curve[low] <= curve[middle] + 1e-9).all()
        assert (curve[middle] <= curve[high] + 1e-9).all()
    over = curve.loc[("coupled", 5), "macro_f1"] - curve.loc[("answer_bias", 5), "macro_f1"]
    assert curve.loc[("coupled", 5), "over_bias"] == pytest.approx(over)


def test_it_holds_where_nothing_changed(certified):
    figures = certify(certified)
    assert figures
    assert all(figure.same for figure in figures)


@pytest.mark.parametrize("name", ["steering.json", "predictions.parquet", "steerings"])
def test_a_changed_byte_fails_it(certified, tmp_path, name):
    copy = shutil.copytree(certified, tmp_path / "run")
    path = copy / name if (copy / name).is_file() else next((copy / name).rglob("steering.json"))
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(DamagedError, match=r"not what certificate\.json was made of"):
        certify(copy)


def test_a_figure_that_was_polished_fails_it(certified, tmp_path):
    copy = shutil.copytree(certified, tmp_path / "run")
    told = json.loads((copy / NAME).read_text())
    told["figures"] = {name: value + 0.1 for name, value in told["figures"].items()}
    (copy / NAME).write_text(json.dumps(told))
    with pytest.raises(DamagedError, match="its seal does not fit"):
        certify(copy)


def test_a_figure_that_comes_out_otherwise_is_told(certified, tmp_path):
    """Whoever seals a false figure anew is found out by measuring."""
    from interp.run.certifying import _seal

    copy = shutil.copytree(certified, tmp_path / "run")
    told = json.loads((copy / NAME).read_text())
    name = next(iter(told["figures"]))
    told["figures"][name] += 0.1
    told["seal"] = _seal({k: v for k, v in told.items() if k != "seal"})
    (copy / NAME).write_text(json.dumps(told))
    assert [figure.name for figure in certify(copy) if not figure.same] == [name]


def test_without_one_it_is_said_how_to_get_it(tmp_path, certified):
    with pytest.raises(UserError, match=r"holds no run\.json"):
        certify(tmp_path)
    copy = shutil.copytree(certified, tmp_path / "run")
    (copy / NAME).unlink()
    with pytest.raises(UserError, match="interp run"):
        certify(copy)


def test_a_coupling_keeps_to_the_layers_and_the_examples_it_is_given(certified):
    """`steering.first_layer` holds for couplings too, and places are in the order of the captures."""
    session = Session(config_of(certified), RunFolder(certified))
    made_from = ground(session)
    gold = session.gold(session.role("fit"))
    assert gold[made_from.rows].tolist() == made_from.data.gold.tolist()
    session.config = replace(session.config, steering=replace(session.config.steering, first_layer=3))
    assert few(session).layer == 3
