"""Runs side by side: one table, one page."""

import shutil
from html import unescape
from pathlib import Path

import pytest
from worlds import start

from interp import UserError
from interp.report.comparing import compare
from interp.report.sentences import answer
from interp.run.reading import RunFiles


def test_runs_side_by_side(world, finished, tmp_path):
    one = Path(shutil.copytree(finished, tmp_path / "a" / "small"))
    two = start(world, tmp_path / "b", seed="1").folder
    tidy, page, matched, unmatched = compare([one, two], tmp_path / "both")
    assert set(tidy["run"]) == {"a/small", "b/small"}
    assert len(tidy) == len(tidy.drop_duplicates(["run", "emotion", "measure"]))
    text = page.read_text()
    assert "Are they the same features?" in text
    assert "phases win" not in text
    for folder in (one, two):
        (where, *_) = answer(RunFiles(folder))
        assert where.head == "Where"
        assert where.words in unescape(text)
    with pytest.raises(UserError, match="at least two"):
        compare([one], tmp_path / "x")
    (two / "why.parquet").unlink()
    with pytest.raises(UserError, match=r"holds no why\.parquet; run `interp trace` there first"):
        compare([one, two], tmp_path / "x")
