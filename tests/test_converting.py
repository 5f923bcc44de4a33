"""Tables of a folder as CSV or as Parquet."""

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from worlds import shell

from interp import UserError
from interp.errors import DamagedError
from interp.files.converting import converted, tables_in

TABLE = pd.DataFrame(
    {
        "n": [1, 2, 3],
        "effect": [0.1 + 0.2, -1e-300, None],
        "emotion": ["joy", "null", 'a, "b"\nc'],
        "causal": [True] * 3,
    }
)


def test_every_digit_and_word_survives_the_way_there_and_back(tmp_path):
    (tmp_path / "run" / "deeper").mkdir(parents=True)
    TABLE.to_parquet(tmp_path / "run/deeper/effects.parquet")
    TABLE.to_csv(tmp_path / "run/scores.csv", index=False)
    there = converted(tmp_path / "run", tmp_path / "csv", "csv")
    assert [path.relative_to(tmp_path / "csv").as_posix() for path in there] == ["deeper/effects.csv", "scores.csv"]
    assert there[0].read_bytes() == there[1].read_bytes()
    for path in converted(tmp_path / "csv", tmp_path / "back", "parquet"):
        assert_frame_equal(pd.read_parquet(path), TABLE, check_exact=True)


def test_of_two_formats_the_one_with_types_is_taken_and_hidden_files_are_not(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    TABLE.to_parquet(folder / "sweep.parquet")
    (folder / "sweep.csv").write_text("a\n1\n")
    (folder / ".shared").mkdir()
    TABLE.to_parquet(folder / ".shared/kept.parquet")
    assert tables_in(folder) == [folder / "sweep.parquet"]
    (same,) = converted(folder, tmp_path / "out", "parquet")
    assert same.read_bytes() == (folder / "sweep.parquet").read_bytes()


def test_what_cannot_be_converted_is_one_line(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(UserError, match="holds no table"):
        converted(folder, tmp_path / "out", "csv")
    with pytest.raises(UserError, match="No folder"):
        converted(tmp_path / "absent", tmp_path / "out", "csv")
    TABLE.to_parquet(folder / "a.parquet")
    for place in (folder, folder / "csv"):
        with pytest.raises(UserError, match="choose another --out"):
            converted(folder, place, "csv")
    assert [path.name for path in folder.rglob("*")] == ["a.parquet"]


def test_a_damaged_table_is_told_of(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "scores.csv").write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(DamagedError, match=r"scores\.csv"):
        converted(folder, tmp_path / "out", "parquet")
    (folder / "scores.parquet").write_bytes(b"PAR1")
    with pytest.raises(DamagedError, match=r"scores\.parquet"):
        converted(folder, tmp_path / "out", "csv")


def test_a_run_whose_tables_are_all_of_them_csv(finished, tmp_path):
    done = shell("tables", str(finished), "--to", "csv", "--out", str(tmp_path / "csv"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(tmp_path / "csv")]
    for path in tables_in(finished):
        table = pd.read_parquet(path)
        again = pd.read_csv(
            tmp_path / "csv" / path.relative_to(finished).with_suffix(".csv"),
            keep_default_na=False,
            na_values=[""],
        )
        assert list(again.columns) == list(table.columns)
        assert len(again) == len(table)
