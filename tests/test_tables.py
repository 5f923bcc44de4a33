"""One schema of a run's files: writers, readers, pages and made-up runs agree with it; runs of the last layout open."""

import importlib.util
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from fake_runs import make_run, store

from interp.errors import InterpWarning, UserError
from interp.findings.measuring import measure
from interp.report import write_report
from interp.report.comparing import compare
from interp.run import pipeline, tables
from interp.run.reading import RunFiles

JOINT = [{"emotion": "joy", "phase": "all", "k": k, "control": False, "n": 9, "effect": 0.5} for k in (1, 2)]


@pytest.fixture
def joint() -> pd.DataFrame:
    return pd.DataFrame(JOINT).assign(ci_low=0.25, ci_high=1)


# ------------------------------------------------------------------------------------------ writing


def test_a_table_is_written_in_the_order_and_types_of_its_schema_with_meanings(joint, tmp_path):
    tables.write(tmp_path / "joint.parquet", joint[joint.columns[::-1]])
    written = tables.read(tmp_path / "joint.parquet")
    assert list(written) == [c.name for c in tables.FILES["joint.parquet"].columns]
    assert written["ci_high"].dtype == float
    pd.testing.assert_frame_equal(written, joint[list(written)], check_dtype=False)
    field = pq.read_schema(tmp_path / "joint.parquet").field("effect")
    assert field.metadata == {b"meaning": b"mean fall of the gold answer's log-probability", b"unit": b"nats"}


@pytest.mark.parametrize("name", [n for n in (*tables.FILES, *tables.BESIDE) if n.endswith(".parquet")])
def test_a_table_has_the_same_types_with_and_without_values(name, tmp_path):
    schema = tables.schema_of(name)
    columns = [c for c in schema.columns if c.name.islower()]
    some = {"int": 1, "float": 0.5, "bool": True, "str": "joy", "any": [0]}
    row = {c.name: some[c.kind] for c in columns}
    gaps = row | {c.name: None for c in columns if c.missing}
    rest = {c.name: some[c.kind] for c in schema.columns if not c.name.islower()}
    written = []
    for i, rows in enumerate([[row], [gaps], [row, gaps], []]):
        (tmp_path / str(i)).mkdir()
        path = tmp_path / str(i) / name
        tables.write(path, pd.DataFrame([r | rest for r in rows]))
        stored = pq.read_schema(path)
        written.append({c.name: stored.field(c.name).type for c in columns})
    assert "null" not in map(str, written[0].values())
    assert all(types == written[0] for types in written)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(columns="ci_low"), "missing ['ci_low']"),
        (lambda t: t.assign(cluster=1), "unknown ['cluster']"),
        (lambda t: t.assign(k="two"), "joint.parquet, k: int expected, str given"),
        (lambda t: t.assign(control=[True, None]), "control: bool expected, bool with missing values given"),
        (lambda t: t.assign(effect="much"), "effect: float expected"),
        (lambda t: t.iloc[:0].drop(columns="n"), "missing ['n']"),
    ],
)
def test_a_table_that_is_not_as_its_schema_says_is_our_mistake_and_is_not_written(joint, tmp_path, change, said):
    with pytest.raises(tables.SchemaError, match=re.escape(said)) as raised:
        tables.write(tmp_path / "joint.parquet", change(joint))
    assert not isinstance(raised.value, UserError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attribution.npz", {"layer_00": np.zeros(3, bool)}),
        ("attribution.npz", {"means": np.zeros(3)}),
        ("phases.json", {"n_phases": 1}),
        ("cards.json", [{"layer": 0}]),
        ("elsewhere.parquet", pd.DataFrame()),
    ],
)
def test_arrays_keys_and_files_that_no_schema_knows_are_refused(tmp_path, name, value):
    with pytest.raises(tables.SchemaError):
        tables.write(tmp_path / name, value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [n for n in tables.FILES if n.endswith(".parquet")])
def test_a_table_without_a_row_has_its_columns_and_types(tmp_path, name):
    tables.write(tmp_path / name, pd.DataFrame())
    back, columns = tables.read(tmp_path / name), tables.FILES[name].columns
    assert list(back) == [c.name for c in columns if c.name.islower()]
    assert not len(back)
    assert all(
        back[c.name].dtype.kind == "f" for c in tables.FILES[name].columns if c.kind == "float" and c.name in back
    )


def test_tables_with_and_without_rows_and_values_are_read_as_one(joint, tmp_path):
    """Whatever stands in them, two files of one name have one schema."""
    tables.write(tmp_path / "joint.parquet", joint)
    one = pq.read_schema(tmp_path / "joint.parquet")
    tables.write(tmp_path / "joint.parquet", pd.DataFrame())
    none = pq.read_schema(tmp_path / "joint.parquet")
    assert one.equals(none)
    with_and_without = []
    for nearest, lexical in ((None, None), ("joy", True)):
        line = {"layer": 0, "nearest": nearest, "stable": None, "lexical": lexical, "p_nearest": None}
        store(tmp_path, "selectivity", [line])
        with_and_without.append(pq.read_schema(tmp_path / "selectivity.parquet"))
    assert with_and_without[0].equals(with_and_without[1])
    assert "null" not in map(str, with_and_without[0].types)


def test_values_may_be_missing_only_where_the_schema_says_so(tmp_path):
    lines = [{"layer": 0, "nearest": None, "stable": None, "lexical": x, "p_nearest": None} for x in (None, True)]
    store(tmp_path, "selectivity", lines)
    back = tables.read(tmp_path / "selectivity.parquet")
    assert back["lexical"].tolist() == [None, True]
    assert back["nearest"].isna().all()
    assert back["p_nearest"].dtype == float
    assert back["p_nearest"].isna().all()


# ------------------------------------------------------------------------------------------- the data


def test_every_stage_writes_the_files_of_the_schema_and_no_others():
    for stage in pipeline.STAGES:
        known = {f.name.split("/")[0] for f in tables.FILES.values() if f.stage == stage.name}
        assert {o for o in stage.outputs if o not in ("tracing",) and not o.startswith("units/")} == known


def test_names_are_unique_kinds_are_known_and_meanings_are_there():
    for file in (*tables.FILES.values(), *tables.BESIDE.values()):
        names = [c.name for c in file.columns]
        assert len(names) == len(set(names))
        assert file.holds
        assert file.needed
        assert bool(file.rows) == (file.name.endswith(".parquet") or file.name == "cards.json"), file.name
        for column in file.columns:
            assert column.kind in {*tables.OF_JSON.values(), "any"} and column.meaning, (file.name, column)
            if file.name.endswith(".parquet"):
                assert column.kind in tables.DTYPES, (file.name, column)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("effects.parquet", "effects.parquet"),
        ("features/layer_07.npz", "features/layer_XX.npz"),
        ("steerings/mean_difference/steering.json", "steerings/METHOD/steering.json"),
    ],
)
def test_a_file_is_known_by_its_path(path, name):
    assert tables.schema_of(path).name == name


def test_the_page_about_run_folders_has_every_file_and_column():
    root = Path(__file__).parents[1] / "docs"
    spec = importlib.util.spec_from_file_location("hooks", root / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    source = "howto/run-folder.md"
    text = (root / "pages" / source).read_text(encoding="utf-8")
    page = hooks.on_page_markdown(text, page=SimpleNamespace(file=SimpleNamespace(src_uri=source)))
    assert "<!--" not in page
    for file in tables.FILES.values():
        assert f"| `{file.name}` | {file.holds}" in page
        assert all(f"| `{c.name}` | {c.meaning}" in page for c in file.columns), file.name


# ------------------------------------------------------------------------------------ earlier layouts


@pytest.fixture
def earlier(tmp_path) -> Path:
    """A run of layout 2, as a version before wrote it: `split` and numbered phases in effects, no meanings."""
    return in_layout_2(make_run(tmp_path / "earlier"))


def in_layout_2(folder: Path) -> Path:
    for path in folder.glob("*.parquet"):
        table = pd.read_parquet(path)
        if path.name == "effects.parquet":
            table = table.rename(columns={"role": "split"}).astype({"phase": int})
        table.to_parquet(path, index=False)
    record = json.loads((folder / "run.json").read_text())
    source = {"name": "mine", "split": "discover", "path": None}
    corpora = {"discover": source, "fit": source, "test": [source], "anchors": []}
    record["config"] |= {"corpora": corpora, "prompt": {"template": "plain"}, "tracing": {"examples": "all"}}
    (folder / "run.json").write_text(json.dumps(record | {"schema_version": 2}))
    return folder


def test_a_run_of_the_last_layout_says_the_same_and_what_it_lacks(earlier, tmp_path):
    present = RunFiles(make_run(tmp_path / "present"))
    with pytest.warns(InterpWarning, match=r"layout 2 .*, now 3: split in effects.parquet is read as role, and its"):
        run = RunFiles(earlier)
        pd.testing.assert_frame_equal(run.causal_features("fear"), present.causal_features("fear"))
    assert run.causal_for() == present.causal_for()
    assert len(run.causal_for()) == 2
    assert not run.lacking
    assert "split" not in run.table("effects")
    page = write_report(earlier).read_text(encoding="utf-8")
    assert "layout 2 of the run folder, now 3" in page
    assert "ladder" in page
    assert "of the run folder, now" not in write_report(present.folder).read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore::interp.errors.InterpWarning")
def test_runs_of_both_layouts_are_compared_and_measured(earlier, tmp_path):
    other = in_layout_2(make_run(tmp_path / "other"))
    effects = pd.read_parquet(other / "effects.parquet").rename(columns={"split": "role"})
    effects.to_parquet(other / "effects.parquet", index=False)
    tidy, page, *_ = compare([earlier, other], tmp_path / "out")
    assert set(tidy["run"]) == {"earlier", "other"}
    assert "causal beside" in page.read_text(encoding="utf-8")
    shutil.rmtree(other / "features", ignore_errors=True)
    first, second = measure([earlier, other])
    assert [e.n_causal for e in first.emotions] == [e.n_causal for e in second.emotions] == [2, 2]


def test_before_tracing_no_feature_is_causal(tmp_path):
    run = make_run(tmp_path)
    (run / "effects.parquet").unlink()
    assert not len(RunFiles(run).causal_features())
    assert RunFiles(run).causal_for() == {}
    assert RunFiles(run).missing == ["effects.parquet"]
