"""`import adlab`: what it shows, what it doesn't import, and what it is when installed."""

import ast
import email
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import adlab

ROOT = Path(__file__).parents[1]

LAZY = """
import sys, adlab
heavy = {"jax", "numpy", "matplotlib", "pydantic"}
assert not heavy & set(sys.modules), "import adlab"
assert adlab.curvature is sys.modules["adlab.curvature"]
assert adlab.two_point is sys.modules["adlab.gradients"].two_point
assert not {"matplotlib", "pydantic", "tyro", "rich"} & set(sys.modules), "adlab.two_point"
assert "adlab.lab" not in sys.modules
"""


def test_packages_and_functions_are_imported_when_first_used():
    run = subprocess.run([sys.executable, "-c", LAZY], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr


def test_it_shows_all_packages_but_the_ground_floor_and_what_programs_start_from():
    packages = {path.parent.name for path in (ROOT / "adlab").glob("*/__init__.py")} - {"core"}
    functions = set(dir(adlab)) - packages - {"__version__"}
    assert packages <= set(dir(adlab))
    assert 12 <= len(functions) <= 15  # a front door, not the house
    for name in functions:
        home = sys.modules[getattr(adlab, name).__module__.rpartition(".")[0]]
        assert name in home.__all__
        assert getattr(adlab, name) is getattr(home, name)


def test_type_checkers_are_told_the_same_names():
    source = ast.parse((ROOT / "adlab" / "__init__.py").read_text(encoding="utf-8"))
    told = {
        alias.name
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("adlab")
        for alias in node.names
    }
    assert told | {"__version__"} == set(adlab.__all__)


def test_a_misspelt_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'adlab' has no attribute 'two_piont'"):
        _ = adlab.two_piont


def test_the_citation_has_the_version_of_the_package():
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {adlab.__version__}\n" in cited
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" in project["dynamic"]  # read off adlab/__init__.py


def test_the_wheel_is_typed_and_has_the_version_and_data_of_the_package(tmp_path):
    wheels = pytest.importorskip("hatchling.builders.wheel")
    (path,) = wheels.WheelBuilder(str(ROOT)).build(directory=str(tmp_path))
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        (metadata,) = (wheel.read(name) for name in names if name.endswith("METADATA"))
    shipped = {name for name in names if name.startswith("adlab/")}
    assert {"adlab/py.typed", "adlab/data/cities.csv"} <= shipped
    here = {p.relative_to(ROOT).as_posix() for p in (ROOT / "adlab").rglob("*.py")}
    assert here <= shipped
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"adlab"}
    assert email.message_from_bytes(metadata)["Version"] == adlab.__version__
