"""The house: imports go one way, between packages and between modules."""

from graphlib import CycleError, TopologicalSorter

import pytest
from house import GRAPH, LEVEL, MODULES, OLD_NAMES, package_of


def test_every_package_has_its_place_in_the_order():
    found = {package_of(module) for module in MODULES if module != "interp"} - {*OLD_NAMES}
    assert found == {*LEVEL}


@pytest.mark.parametrize("package", LEVEL)
def test_imports_go_one_way(package):
    against = [
        f"{module} imports {name}"
        for module in MODULES
        if package_of(module) == package
        for name in sorted(GRAPH[module])
        if package_of(name) != package and not (package_of(name) in LEVEL and LEVEL[package_of(name)] < LEVEL[package])
    ]
    assert against == []


def test_no_modules_import_each_other():
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
