"""One word for one thing: what docs/pages/glossary.md promises."""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
GLOSSARY = (ROOT / "docs" / "pages" / "glossary.md").read_text(encoding="utf-8")


def public_classes() -> dict[str, list[str]]:
    """Name of every public class of the package, and the modules that define one."""
    found = defaultdict(list)
    for path in sorted((ROOT / "interp").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(ROOT)))
    return found


def test_no_two_public_classes_share_a_name():
    shared = {name: modules for name, modules in public_classes().items() if len(modules) > 1}
    assert not shared, shared


def test_classes_of_the_glossary_are_there():
    rows = [line.split("|")[3] for line in GLOSSARY.splitlines() if line.startswith("| **")]
    names = {name for cell in rows for name in re.findall(r"`([A-Z][A-Za-z]+)(?:\.\w+)?`", cell)}
    assert len(names) >= 7
    assert not names - set(public_classes()), names - set(public_classes())


def test_words_of_the_glossary_stand_once():
    words = [w.strip() for row in re.findall(r"^\| \*\*(.+?)\*\*", GLOSSARY, re.MULTILINE) for w in row.split(",")]
    assert len(words) == len(set(words))
