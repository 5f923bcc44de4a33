"""The matrix of versions: bounds read from pyproject.toml, constraints made of them, outcomes told."""

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from benchmarks.matrix import LAST, TOOLS, Outcome, constraints, holding, lowest, main, page, requirements


def test_every_requirement_has_a_lowest_version_within_its_bounds():
    for one in requirements():
        assert one.specifier.contains(Version(lowest(one)))
    assert {"torch", "transformers", "sae-lens"} <= {one.name for one in requirements()}
    with pytest.raises(ValueError, match="one lowest version"):
        lowest(Requirement("x<3"))


def test_constraints_are_the_bounds_but_for_what_is_held():
    wanted = [Requirement("a>=1.5,<2"), Requirement("torch>=2.9")]
    assert constraints("lowest", wanted, {"torch": "2.13.0"}) == ["torch==2.13.0", "a==1.5"]
    assert constraints("newest", wanted, {"torch": "2.13.0"}) == ["torch==2.13.0"]
    assert holding(["Torch==2.13.0"]) == {"torch": "2.13.0"}
    with pytest.raises(SystemExit):
        main(["--hold", "torch"])


def test_the_table_says_what_was_held_and_what_failed():
    ends = [
        Outcome("lowest", False, "1 failed, 2 passed in 3.00s", {"a": "1.5"}, ["tests/test_x.py::test_y - Error"]),
        Outcome("newest", True, "3 passed in 3.00s", {"a": "1.9"}),
    ]
    text = "\n".join(page(ends, [Requirement("a>=1.5")], {"torch": "2.13.0"}))
    assert "| a `>=1.5` | 1.5 | 1.9 |" in text
    assert "torch 2.13.0" in text
    assert "test_y" in text
    assert "| outcome | failed | passed |" in text


def test_the_last_line_of_the_tests_is_found():
    said = "....\n=== short test summary info ===\n==== 3 passed, 1 skipped, 2 warnings in 4.20s (0:00:04) ====\n"
    assert LAST.findall(said)[-1][0] == "3 passed, 1 skipped, 2 warnings in 4.20s (0:00:04)"
    assert LAST.findall("1 failed, 3 passed in 4.20s\n")[-1][0] == "1 failed, 3 passed in 4.20s"


def test_its_tools_are_among_those_of_the_extra():
    import tomllib

    from benchmarks.matrix import ROOT

    dev = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    assert {*TOOLS} <= {Requirement(line).name for line in dev}
