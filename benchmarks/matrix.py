"""The quick tests with the lowest and with the newest versions that pyproject.toml allows, in fresh environments.

    python -m benchmarks.matrix [--hold torch==2.13.0 ...] [--ends lowest newest] [--keep FOLDER]

pip prefers the newest versions and cannot be told otherwise: for the lowest, each bound `>=` of pyproject.toml is put
into a constraints file. What the packages need in turn is pip's choice, but for what `--hold` says, such as a build of
torch without CUDA. Test tools are the newest in both. Writes benchmarks/results/matrix.md and fails where an end does.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
ENDS = ("lowest", "newest")
TOOLS = (
    "beartype",
    "fastapi",
    "httpx",
    "hypothesis",
    "ipykernel",
    "nbmake",
    "playwright",
    "pytest",
    "pytest-xdist",
    "uvicorn",
)
"""Of the extra `dev`, what `make quick` runs with."""
LAST = re.compile(r"^=* ?(\d+ .*(passed|failed|error).*?) ?=*$", re.MULTILINE)
FAILED = re.compile(r"^(?:FAILED|ERROR) (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What became of one end.

    Attributes:
        versions: of every requirement, as installed.
        said: the last line of the tests, or why it could not be installed.
        failures: tests that failed, with the first line of why.
    """

    end: str
    passed: bool
    said: str
    versions: Mapping[str, str] = field(default_factory=dict)
    failures: Sequence[str] = ()
    seconds: float = 0.0


def requirements(path: Path = ROOT / "pyproject.toml") -> list[Requirement]:
    """What the package itself needs."""
    return [Requirement(line) for line in tomllib.loads(path.read_text())["project"]["dependencies"]]


def lowest(requirement: Requirement) -> str:
    """The version of its bound `>=` (`~=`, `==`).

    Raises:
        ValueError: it has none.
    """
    bounds = [one.version for one in requirement.specifier if one.operator in (">=", "~=", "==")]
    if len(bounds) != 1:
        raise ValueError(f"{requirement} does not say one lowest version.")
    return bounds[0]


def constraints(end: str, wanted: Sequence[Requirement], held: Mapping[str, str]) -> list[str]:
    """Lines of a constraints file: what is held, and for the lowest end every other bound."""
    lines = [f"{name}=={version}" for name, version in held.items()]
    if end == "lowest":
        lines += [f"{one.name}=={lowest(one)}" for one in wanted if canonicalize_name(one.name) not in held]
    return lines


def holding(words: Sequence[str]) -> dict[str, str]:
    """`name==version` by name.

    Raises:
        ValueError: one that does not say a version.
    """
    found = {}
    for word in words:
        name, equal, version = word.partition("==")
        if not equal or not version:
            raise ValueError(f"--hold takes NAME==VERSION; got {word!r}.")
        found[canonicalize_name(name)] = version
    return found


def tried(end: str, folder: Path, wanted: Sequence[Requirement], held: Mapping[str, str]) -> Outcome:
    """Installs one end into a fresh environment and runs the quick tests there."""
    began = time.perf_counter()
    print(f"{end}: installing", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    listed = folder / "constraints.txt"
    listed.write_text("\n".join(constraints(end, wanted, held)) + "\n")
    # one call: what is installed together is resolved together
    install = [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(listed), "--editable", str(ROOT)]
    done = subprocess.run([*install, *TOOLS], capture_output=True, text=True)
    if done.returncode:
        (folder / "install.log").write_text(done.stdout + done.stderr)
        errors = [
            line for line in done.stderr.splitlines() if "ERROR" in line or "requires" in line or "depends" in line
        ]
        return Outcome(end, False, f"not installed: {' '.join(errors[:6])[:600]}", seconds=time.perf_counter() - began)
    versions = installed(python, wanted)
    print(f"{end}: testing, after {time.perf_counter() - began:.0f} s", flush=True)
    tests = [str(python), "-m", "pytest", "-n", "2", "--dist", "loadfile", "--quick", "-p", "no:cacheprovider"]
    done = subprocess.run(tests, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    (folder / "tests.log").write_text(done.stdout + done.stderr)
    said = LAST.findall(done.stdout)
    last = said[-1][0] if said else (done.stderr.strip().splitlines() or ["no tests were run"])[-1]
    failures = [line[:200] for line in FAILED.findall(done.stdout)]
    return Outcome(end, done.returncode == 0, last, versions, failures, time.perf_counter() - began)


def installed(python: Path, wanted: Sequence[Requirement]) -> dict[str, str]:
    """Name -> version of each requirement in an environment."""
    listed = subprocess.run(
        [str(python), "-m", "pip", "list", "--format", "json"], capture_output=True, text=True, check=True
    )
    there = {canonicalize_name(one["name"]): one["version"] for one in json.loads(listed.stdout)}
    return {one.name: there[canonicalize_name(one.name)] for one in wanted}


def page(outcomes: Sequence[Outcome], wanted: Sequence[Requirement], held: Mapping[str, str]) -> list[str]:
    """The table: a line per requirement, a column per end."""
    lines = [
        "# Lowest and newest versions",
        "",
        f"`python -m benchmarks.matrix`, Python {platform.python_version()} on {platform.system()}: the quick tests"
        " (`make quick`) in fresh environments with the lowest and the newest versions that `pyproject.toml` allows"
        " (of newest, those on the package index on the day).",
        "",
    ]
    if held:
        kept = ", ".join(f"{name} {version}" for name, version in held.items())
        lines += [f"Held in both, whatever the bounds say: {kept}. Its bound is not tested here.", ""]
    lines += ["| | " + " | ".join(o.end for o in outcomes) + " |", "|---" * (len(outcomes) + 1) + "|"]
    lines.append("| outcome | " + " | ".join("passed" if o.passed else "failed" for o in outcomes) + " |")
    lines.append("| tests | " + " | ".join(o.said for o in outcomes) + " |")
    for one in wanted:
        bound = str(one.specifier) or "any"
        cells = [o.versions.get(one.name, "") for o in outcomes]
        lines.append(f"| {one.name} `{bound}` | " + " | ".join(cells) + " |")
    for o in outcomes:
        if o.failures:
            lines += ["", f"Failed with the {o.end}:", "", *(f"- `{line}`" for line in o.failures)]
    return lines


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matrix", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--hold", nargs="*", default=[], metavar="NAME==VERSION", help="in both, whatever the bounds say"
    )
    parser.add_argument("--ends", nargs="+", choices=ENDS, default=ENDS)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the environments and logs there")
    options = parser.parse_args(words)
    try:
        held = holding(options.hold)
    except ValueError as error:
        parser.error(str(error))
    wanted = requirements()
    with tempfile.TemporaryDirectory() as temporary:
        place = options.keep or Path(temporary)
        outcomes = []
        for end in options.ends:
            outcomes.append(tried(end, place / end, wanted, held))
            print(f"{end}: {'passed' if outcomes[-1].passed else 'FAILED'}, {outcomes[-1].said}", flush=True)
    if {*options.ends} == {*ENDS}:
        from benchmarks.results import write

        found = {"python": platform.python_version(), "held": held, "ends": [asdict(one) for one in outcomes]}
        write("matrix", found, page(outcomes, wanted, held))
    return int(not all(one.passed for one in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
