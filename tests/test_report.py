"""The report of finished, unfinished, odd and hostile runs."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from fake_runs import make_run, write_ratings

from interp.report import write_report


def page_of(folder: Path, **options: bool) -> str:
    """The page without plotly's own source."""
    text = write_report(folder, **options).read_text(encoding="utf-8")
    return re.sub(r"<script>/\*\*.*?</script>", "", text, flags=re.DOTALL)


def figures_of(page: str) -> set[str]:
    return set(re.findall(r'id="figure-([\w-]+)"', page))


def table_of(page: str, name: str) -> dict:
    found = re.search(rf'id="table-{name}">.*?<script type="application/json">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1])


def cards_of(page: str) -> list[dict]:
    return json.loads(re.search(r'<script type="application/json" id="cards">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_is_whole_and_needs_no_network(tmp_path):
    page = page_of(make_run(tmp_path))
    expected = "layers-representational layers-causal map ladder concentration joint together sets baselines"
    assert figures_of(page) == {*expected.split(), "gains", "recalls", "dose", "confusion-0", "trees", "tree-agreement"}
    for table in ("effects", "why", "methods", "language", "side_effects", "examples", "signals"):
        assert table_of(page, table)["rows"]
    assert "(by emotion: anger 2 and fear 2)" in page
    assert "Macro-F1 on test texts changes by +0.500 [+0.400, +0.600] on mine (n = 20)." in page
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", page)
    assert 'class="missing">This' not in page
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)


def test_every_figure_says_its_n(tmp_path):
    page = page_of(make_run(tmp_path))
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, re.DOTALL)
    assert len(captions) == len(figures_of(page)) == 15
    assert all(re.search(r"n = \d+", c) for c in captions)


def test_all_traced_features_are_in_the_table_causal_ones_first(tmp_path):
    table = table_of(page_of(make_run(tmp_path, traced=40)), "effects")
    roles = [row[3] for row in table["rows"]]
    assert len(roles) == 80
    assert roles[:4] == ["causal"] * 4
    assert roles.count("control") == 4
    assert table["rows"][0][4] == [1.0, 0.01, 1.0]


def test_cards_come_with_exact_effects_and_without_texts_if_asked(tmp_path):
    make_run(tmp_path, text="Nobody must read this")
    cards = cards_of(page_of(tmp_path))
    assert [e[0] for e in cards[0]["effects"]] == ["anger", "fear"]
    assert cards[0]["effects"][0][2] == 1.0
    assert cards[0]["texts"][0]["tokens"][0] == "Nobody "
    page = page_of(tmp_path, text=False)
    assert "Nobody" not in page
    assert cards_of(page)[0]["texts"] == []


def test_the_same_files_give_the_same_bytes(tmp_path):
    first = write_report(make_run(tmp_path)).read_bytes()
    assert write_report(tmp_path).read_bytes() == first


@pytest.mark.parametrize("gone", ["effects", "evaluation", "signals", "concentration", "predictions", "selectivity"])
def test_a_run_that_stopped_early_shows_what_there_is(tmp_path, gone):
    whole = figures_of(page_of(make_run(tmp_path)))
    (tmp_path / f"{gone}.parquet").unlink()
    page = page_of(tmp_path)
    assert figures_of(page) <= whole
    assert len(figures_of(page)) >= 9
    assert (gone == "predictions") or (f"{gone}.parquet" in page and "stopped early" in page)
    assert "How to reproduce" in page


def test_a_run_that_only_began_has_a_page(tmp_path):
    make_run(tmp_path)
    for file in tmp_path.iterdir():
        if file.name != "run.json":
            file.unlink()
    page = page_of(tmp_path)
    assert figures_of(page) == set()
    assert "signals.parquet" in page
    assert "How to reproduce" in page


@pytest.mark.parametrize(
    ("name", "column", "figure"), [("effects", "n_active", "ladder"), ("selectivity", "lexical", "sets")]
)
def test_columns_that_an_older_version_did_not_write_are_named(tmp_path, name, column, figure):
    path = make_run(tmp_path) / f"{name}.parquet"
    pd.read_parquet(path).drop(columns=column).to_parquet(path)
    page = page_of(tmp_path)
    assert f"{name}.parquet (written by interp 0.1.0) has no column {column}" in page
    assert figure not in figures_of(page)
    assert "joint" in figures_of(page)


def test_a_run_with_one_layer_one_label_and_no_causal_feature(tmp_path):
    page = page_of(make_run(tmp_path, labels=("envy",), layers=1, causal=False))
    assert "none was found to be causal" in page
    assert "none was chosen. Nothing to steer." in page
    assert figures_of(page).isdisjoint({"concentration", "recalls", "dose"})
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)


def test_names_are_escaped(tmp_path):
    page = page_of(make_run(tmp_path, name="<script>alert(1)</script>", corpus="<!--<script></script><b>bold</b>"))
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<!--<script>" not in page
    assert "</script><b>" not in page
    assert "<td><b>" not in page


def test_a_large_run_stays_small(tmp_path):
    """5,000 examples, 26 layers, 64 candidates and as many controls for six emotions in three phases."""
    labels = ("anger", "disgust", "fear", "joy", "sadness", "surprise")
    make_run(tmp_path, labels=labels, layers=26, examples=5000, traced=384, text="word " * 1000)
    assert write_report(tmp_path).stat().st_size < 15e6
    assert len(table_of(page_of(tmp_path), "effects")["rows"]) == 6 * 384


RATED = {f"rating-{kind}-0" for kind in ("layers", "beside", "signs", "doses")}


def test_ratings_have_their_section_with_n_and_no_gaps(tmp_path):
    page = page_of(write_ratings(make_run(tmp_path)))
    assert RATED | {"circumplex-0"} <= figures_of(page)
    table = table_of(page, "ratings")
    assert [row[1] for row in table["rows"]] == ["valence", "arousal", "goal_support"]
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, re.DOTALL)
    assert len(captions) == len(figures_of(page)) == 15 + 5
    assert all(re.search(r"n = \w* ?\d+", c) for c in captions)
    assert "3 of 3 ratings are read beyond chance" in page
    assert "direction: 100% [80%, 100%] of 6 pairs, p = 0.01" in page
    assert 'class="missing">This' not in page
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)


def test_without_valence_there_is_no_circumplex_and_without_known_ratings_no_doses(tmp_path):
    page = page_of(write_ratings(make_run(tmp_path), scales=("urgency",), known=False))
    assert figures_of(page) & {*RATED, "circumplex-0"} == {"rating-layers-0", "rating-beside-0"}
    assert "0 of 1 ratings are read beyond chance" in page


def test_a_run_without_ratings_misses_none(tmp_path):
    page = page_of(make_run(tmp_path))
    assert 'id="ratings"' not in page
    assert "rating_" not in page
    (write_ratings(tmp_path) / "rating_doses.parquet").unlink()
    assert "rating_doses.parquet" in page_of(tmp_path)
