"""The house as its imports show it: which module imports which, and the order in which packages may."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "interp"
ORDER = (
    ("defaults", "errors"),
    ("terminal", "reporting", "processors", "memory", "resources", "statistics", "notebook"),
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
    ("tracking",),
    ("training",),
    ("findings",),
    ("serving",),
    ("app",),
    ("cli",),
)
"""What stands in a line may import from the lines above it, and from itself."""
OLD_NAMES = ("_moved",)
"""Modules that only know names of earlier versions."""
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


def package_of(module: str) -> str:
    """The package, or the module of the top, that a module belongs to."""
    return (*module.split("."), "")[1]


def imports_of_packages() -> dict[tuple[str, str], int]:
    """(importing package, imported package) -> how many modules of the first import from the second."""
    pairs = {(module, package_of(name)) for module, names in GRAPH.items() for name in names}
    counted: dict[tuple[str, str], int] = {}
    for module, imported_package in pairs:
        own = package_of(module)
        if own != imported_package and {own, imported_package} <= {*LEVEL}:
            counted[own, imported_package] = counted.get((own, imported_package), 0) + 1
    return counted
