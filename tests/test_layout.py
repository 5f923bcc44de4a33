"""The house: imports go one way, between packages and between modules."""

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import interp

PACKAGE = Path(interp.__file__).parent
ORDER = (
    ("errors", "reporting", "resources", "memory", "processors", "statistics"),
    ("terminal",),
    ("files",),
    ("texts",),
    ("models",),
    ("saes",),
    ("engine",),
    ("analysis",),
    ("evaluation",),
    ("steering",),
    ("run",),
    ("report",),
    ("surveys",),
    ("training",),
    ("findings",),
    ("cli",),
)
"""What stands in a line may import from the lines above it, and from itself."""
OLD_NAMES = ("_moved", "corpus_formats")
"""Modules that only stand for names of earlier versions."""
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(module: str) -> set[str]:
    """The modules of the package that a module imports, at its top and within functions; not those for types alone."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else str(node.module))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(MODULES[module].read_text(encoding="utf-8")))
    return {name for name in found if name in MODULES and name not in (module, "interp")}


GRAPH = {module: imported(module) for module in MODULES}


def place(module: str) -> str:
    """The package, or the module of the top, that a module belongs to."""
    return (*module.split("."), "")[1]


def test_every_package_has_its_place_in_the_order():
    found = {place(module) for module in MODULES if module != "interp"} - {*OLD_NAMES}
    assert found == {*LEVEL}


@pytest.mark.parametrize("package", LEVEL)
def test_imports_go_one_way(package):
    against = [
        f"{module} imports {name}"
        for module in MODULES
        if place(module) == package
        for name in sorted(GRAPH[module])
        if place(name) != package and not (place(name) in LEVEL and LEVEL[place(name)] < LEVEL[package])
    ]
    assert against == []


def test_no_modules_import_each_other():
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_two_public_classes_share_a_name():
    where: dict[str, list[str]] = defaultdict(list)
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where[node.name].append(module)
    assert {name: modules for name, modules in where.items() if len(modules) > 1} == {}
