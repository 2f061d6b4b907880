"""The modules of the package stand in an order: none imports one that imports it."""

import ast
import graphlib
from pathlib import Path

import adlab.curvature


def test_no_module_imports_in_a_circle():
    """Imports inside functions and for type checkers alone count, too."""
    paths = Path(adlab.curvature.__file__).parent.glob("*.py")
    above = {path.stem: set(_imports(path)) for path in paths if path.stem != "__init__"}
    order = list(graphlib.TopologicalSorter(above).static_order())  # raises at a circle
    assert order.index("_summand") < order.index("batches") < order.index("blocks")
    assert order.index("_engine") < order.index("lanczos") < order.index("eigenpairs")


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "adlab.curvature":
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("adlab.curvature."):
            yield node.module.removeprefix("adlab.curvature.")
