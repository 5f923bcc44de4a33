"""What a stage of a run declares of itself, and the order that follows from what the stages read and write."""

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from interp.run.config import Config

if TYPE_CHECKING:
    from interp.run.session import Session

FOLDER = Path(__file__).with_name("stages")
T = TypeVar("T")


class Speeds(NamedTuple):
    """Seconds, as measured: per prompt captured, per row of answers under an edit, per example and layer encoded."""

    per_prompt: float
    per_row: float
    per_encode: float


@dataclass(frozen=True)
class Workload:
    """What the cost of a stage depends on.

    Attributes:
        layers: how many have an SAE.
        discover, fit, test: examples of each role.
    """

    config: Config
    speeds: Speeds
    layers: int
    discover: int
    fit: int
    test: int

    @property
    def examples(self) -> int:
        return self.discover + self.fit + self.test


Cost = Callable[[Workload], float]
"""Seconds that a stage will take, roughly."""


@dataclass(frozen=True)
class Stage:
    """A step of a run, as its declaration says.

    Attributes:
        run: does it; the module that holds it is loaded when it is called.
        module: that module.
        reads: files and folders of the run that other stages write, and without which there is nothing to do.
        outputs: files and folders that it writes, those that only help a killed run to go on among them.
        fields: dotted fields of the configuration on which its files depend.
        sources: what else they depend on: names of what `interp.run.inputs.Inputs` knows.
        draws: those of `fields` that only decide which texts are asked, and in which order they are solved examples:
            runs that ask the same texts share its files whatever they are.
        inherits: fields on which its files depend besides, and that reach its fingerprint through a stage before it
            that only `draws` by them.
        may_read: the same of those without which less is done.
        saes: whether it looks into sparse autoencoders: it, and what cannot do without its files, is left out where a
            model has none.
        edition: goes up when it does something else with the same inputs, so that finished runs do it again.
        needs: the stages that it waits for, without those for which one of them has waited already.
    """

    name: str
    run: "Callable[[Session], None]"
    module: str
    reads: tuple[str, ...]
    outputs: tuple[str, ...]
    fields: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    draws: tuple[str, ...] = ()
    inherits: tuple[str, ...] = ()
    may_read: tuple[str, ...] = ()
    saes: bool = False
    edition: int = 1
    needs: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """All that it reads."""
        return self.reads + self.may_read


_costs: dict[str, Cost] = {}


def stage(
    name: str,
    *,
    writes: Sequence[str],
    reads: Sequence[str] = (),
    may_read: Sequence[str] = (),
    saes: bool = False,
    fields: Sequence[str] = (),
    sources: Sequence[str] = (),
    draws: Sequence[str] = (),
    inherits: Sequence[str] = (),
    edition: int = 1,
    cost: Cost | None = None,
) -> Callable[[T], T]:
    """Declares a function of `interp/run/stages` to be a stage of every run; see `Stage` for what each part means.

    A finished run learns from declarations that nothing is to be done, and the modules of the stages load torch. So
    all but `cost` is read from the source and has to be written out there.

    Args:
        cost: for `interp check`; a stage without one takes seconds.
    """
    if cost is not None:
        _costs[name] = cost
    return lambda run: run


def costs(stages: Sequence[Stage], work: Workload) -> dict[str, float]:
    """Seconds by stage, of those that declare a cost; loads the modules of the stages."""
    for one in stages:
        resolve_name(one.module)
    return {one.name: _costs[one.name](work) for one in stages if one.name in _costs}


def declared_stages(folder: Path = FOLDER) -> list[Stage]:
    """What the modules of a folder declare, read without loading them, in no order."""
    return [
        _read(call, f"interp.run.stages.{path.stem}", node.name)
        for path in sorted(folder.glob("*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
        for call in node.decorator_list
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == stage.__name__
    ]


def _read(call: ast.Call, module: str, function: str) -> Stage:
    said = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg != "cost"}
    run = partial(_run_by_name, f"{module}:{function}")
    parts = ("reads", "writes", "fields", "sources", "draws", "inherits", "may_read")
    reads, writes, fields, sources, draws, inherits, may_read = (tuple(said.get(part, ())) for part in parts)
    name, saes, edition = ast.literal_eval(call.args[0]), said.get("saes", False), said.get("edition", 1)
    return Stage(name, run, module, reads, writes, fields, sources, draws, inherits, may_read, saes, edition)


def _run_by_name(address: str, session: "Session") -> None:
    resolve_name(address)(session)


def in_order(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages so that each comes after those whose files it reads, with its `needs`.

    The longer the chain of others behind a stage, the earlier it comes; then by name.

    Raises:
        ValueError: a file that no stage writes, one that two write, or a circle.
    """
    writer: dict[str, str] = {}
    for one in stages:
        for file in one.outputs:
            if writer.setdefault(file, one.name) != one.name:
                raise ValueError(f"{file} is written by the stages {writer[file]} and {one.name}.")
    for one in stages:
        if unknown := {*one.inputs} - {*writer}:
            raise ValueError(f"The stage {one.name} reads {sorted(unknown)}, which no stage writes.")
    direct = {one.name: {writer[file] for file in one.inputs} for one in stages}
    before: dict[str, set[str]] = {}
    for name in TopologicalSorter(direct).static_order():
        before[name] = direct[name].union(*(before[earlier] for earlier in direct[name]))
    behind = dict.fromkeys(before, 0)
    for name in reversed(list(before)):
        for earlier in direct[name]:
            behind[earlier] = max(behind[earlier], behind[name] + 1)

    def needs(name: str) -> tuple[str, ...]:
        implied = set().union(*(before[earlier] for earlier in direct[name]))
        return tuple(sorted(direct[name] - implied, key=lambda earlier: (-behind[earlier], earlier)))

    ordered = sorted(stages, key=lambda one: (-behind[one.name], one.name))
    return tuple(replace(one, needs=needs(one.name)) for one in ordered)


def without_saes(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages that do something for a model without sparse autoencoders, in order."""
    lost: set[str] = set()
    left = list(stages)
    while gone := [one for one in left if one.saes or lost.intersection(one.reads)]:
        lost.update(file for one in gone for file in one.outputs)
        left = [one for one in left if one not in gone]
    return in_order([replace(one, may_read=tuple(f for f in one.may_read if f not in lost)) for one in left])


def with_what_follows(stages: Sequence[Stage], name: str) -> set[str]:
    """A stage and all that wait for it, of stages in order."""
    found = {name}
    for one in stages:
        if found.intersection(one.needs):
            found.add(one.name)
    return found
