"""The nodes of a Ray cluster as a run needs them: of like versions, with one folder, with room for the workers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from interp.errors import UserError
from interp.run.config import ResourcesConfig

PACKAGES = ("torch", "transformers", "sae-lens", "numpy", "scipy", "scikit-learn", "safetensors", "tokenizers")
"""Whose versions decide what a number comes to."""
CODE = "interp"


class NodeFacts(NamedTuple):
    """What a node says of itself.

    Attributes:
        versions: of Python and of packages, by name; of this one, a hash of its code. What is not there is "none".
        reads: whether it sees the run's folder.
        writes: whether it can write there.
        start: whether it has the folder in which the command was given.
    """

    versions: Mapping[str, str]
    reads: bool
    writes: bool
    start: bool


class Node(NamedTuple):
    """A node of the cluster."""

    id: str
    name: str
    cpus: float
    gpus: float
    facts: NodeFacts

    @classmethod
    def of(cls, entry: Mapping[str, Any], facts: NodeFacts) -> "Node":
        """From an entry of `ray.nodes()`."""
        resources, name = entry["Resources"], f"{entry['NodeManagerHostname']} ({entry['NodeManagerAddress']})"
        return cls(entry["NodeID"], name, float(resources.get("CPU", 0)), float(resources.get("GPU", 0)), facts)


def look(packages: Sequence[str] = PACKAGES) -> Callable[[str, str], tuple[dict[str, str], bool, bool, bool]]:
    """What asks a node: (path of a file in the run's folder that holds its own name, folder of the command) -> facts.

    The function travels whole, so that a node without this package can say that it has none.
    """
    code, names = CODE, tuple(packages)

    def facts(probe: str, start: str) -> tuple[dict[str, str], bool, bool, bool]:
        import hashlib
        import importlib.util
        import os
        import platform
        from importlib.metadata import PackageNotFoundError, version
        from pathlib import Path

        found = {"python": platform.python_version()}
        for name in names:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                found[name] = "none"
        spec = importlib.util.find_spec(code)
        digest = hashlib.sha256()
        for place in (spec.submodule_search_locations or []) if spec is not None else []:
            for path in sorted(Path(place).rglob("*.py")):
                digest.update(path.relative_to(place).as_posix().encode() + path.read_bytes())
        found[code] = "none" if spec is None else digest.hexdigest()[:12]
        file = Path(probe)
        try:
            reads = file.read_text(encoding="utf-8") == file.name
        except OSError:
            reads = False
        return found, reads, os.access(file.parent, os.W_OK), Path(start).is_dir()

    return facts


def check_alike(nodes: Sequence[Node], here: Mapping[str, str]) -> None:
    """
    Args:
        here: versions in this process.

    Raises:
        UserError: a node has another version of something.
    """
    for node in nodes:
        for name, version in here.items():
            its = node.facts.versions.get(name, "none")
            if its == version:
                continue
            what = f"no {name}" if its == "none" else f"{name} {its} where this process has {version}"
            if name == CODE and its != "none":
                what = f"other code of {CODE} than this process"
            raise UserError(
                f"Node {node.name} has {what}: numbers would differ; install the same versions on all nodes."
            )


def check_shared(nodes: Sequence[Node], folder: str, start: str) -> None:
    """
    Args:
        folder: of the run.
        start: where the command was given.

    Raises:
        UserError: a node does not see one of them, or cannot write to the first.
    """
    for node in nodes:
        if not node.facts.reads or not node.facts.writes:
            lacking = "see" if not node.facts.reads else "write to"
            raise UserError(
                f"Node {node.name} cannot {lacking} {folder}: all nodes must share the folder of a run; give --out a"
                " folder on a file system that they share."
            )
        if not node.facts.start:
            raise UserError(
                f"Node {node.name} has no folder {start}, in which the command was given and relative paths begin; give"
                " the command in a folder that all nodes share."
            )


def room(nodes: Sequence[Node], resources: ResourcesConfig) -> int:
    """Workers that the nodes have room for, each worker on one node."""
    cpus = resources.cpus or 1.0
    fits = 0
    for node in nodes:
        parts = [node.cpus / cpus] + ([node.gpus / resources.gpus] if resources.gpus else [])
        fits += int(min(parts) + 1e-9)
    return fits


def wanted(nodes: Sequence[Node], resources: ResourcesConfig) -> int:
    """How many workers there are to be.

    Raises:
        UserError: there is no room for one, or not for as many as were asked for.
    """
    fits, asked = room(nodes, resources), resources.workers
    if fits and (asked is None or asked <= fits):
        return asked or fits
    each = f"{resources.cpus or 1:g} CPUs" + (f" and {resources.gpus:g} GPUs" if resources.gpus else "")
    has = "; ".join(f"{node.name}: {node.cpus:g} CPUs, {node.gpus:g} GPUs" for node in nodes[:4])
    more = f" and {len(nodes) - 4} more nodes" if len(nodes) > 4 else ""
    raise UserError(
        f"resources: {asked or 1} workers with {each} each were asked for, and there is room for {fits} ({has}{more});"
        " lower resources.workers, cpus or gpus."
    )
