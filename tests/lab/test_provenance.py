"""What makes a result stale: the code and data that lead to it, and nothing else."""

import inspect
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from adlab import lab
from adlab.lab import closure, config, provenance, results, start, statements
from adlab.lab.cli import main

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent for path in (ROOT / "adlab").rglob("__init__.py"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the sources that a test may change."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ("adlab", "experiments"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture
def edit(tree, monkeypatch):
    """Return a function that changes a file of the copy until the test ends."""
    monkeypatch.setattr(closure, "_LIBRARY", tree / "adlab")
    monkeypatch.setattr(provenance, "_LIBRARY", tree / "adlab")
    originals = {}

    def change(name, old, new):
        path = tree / name
        text = path.read_text()
        originals.setdefault(path, text)
        assert old in text
        path.write_text(text.replace(old, new, 1))

    yield change
    for path, text in originals.items():
        path.write_text(text)


def digests(tree, name, tables):
    """Return the hashes of what an experiment's arrays depend on, and of all of it."""
    head = tree / "experiments" / name / "__init__.py"
    head = head if head.exists() else tree / "experiments" / f"{name}.py"
    stamp = provenance.stamp(head, (), tables)
    return stamp["computed"], stamp["derived"]


UNCHANGED = {}  # what they are before any change


def changed(tree, name, tables, make_change):
    key = (name, str(tables))
    if key not in UNCHANGED:
        UNCHANGED[key] = digests(tree, name, tables)
    make_change()
    after = digests(tree, name, tables)
    return tuple(one != other for one, other in zip(UNCHANGED[key], after, strict=True))


CITIES = ("adlab/data/cities.csv", "Berlin", "Berlim")
TWO_POINT = {"estimators": [{"kind": "two_point"}], "problem": {"kind": "huber", "dim": 3}}
HUBER = ("adlab/problems/tails.py", "def _huber(", "@abs\ndef _huber(")
ONE_SIDED = ("adlab/gradients/zero_order.py", "def one_sided(", "@abs\ndef one_sided(")
ARRAYS, FIGURES, NOTHING = (True, True), (False, True), (False, False)


@pytest.mark.parametrize(
    ("name", "change", "tables", "expected"),
    [
        ("mds", CITIES, {}, ARRAYS),
        ("rates", CITIES, {}, NOTHING),
        ("rates", ("experiments/rates/cells.py", '"""', '"""In other words: '), {}, NOTHING),
        ("rates", ("experiments/rates/cells.py", "def ", "# a comment\ndef "), {}, NOTHING),
        ("rates", ("adlab/optimize/loop.py", '"""', '"""In other words: '), {}, NOTHING),
        ("rates", ("adlab/optimize/loop.py", "def minimize", "A = 1\n\ndef minimize"), {}, NOTHING),
        ("rates", ("adlab/optimize/loop.py", "num_steps", "num_step"), {}, ARRAYS),
        ("rates", ("adlab/rules/__init__.py", "from", "X = 1\nfrom"), {}, NOTHING),
        ("rates", ("experiments/rates/plot.py", "return", "return 1 and"), {}, FIGURES),
        ("rates", ("adlab/figures/style.py", "return _look", "return 1 and _look"), {}, FIGURES),
        ("mds", HUBER, {}, NOTHING),
        ("estimator_variance", ONE_SIDED, {}, ARRAYS),  # a default of its own
        ("mds", HUBER, TWO_POINT, (True, False)),
    ],
)  # fmt: skip
def test_a_change_makes_stale_what_depends_on_it(tree, edit, name, change, tables, expected):
    assert changed(tree, name, tables, lambda: edit(*change)) == expected


def test_an_unused_file_beside_the_code_counts_for_all_of_it(tree, edit):
    del edit
    mine = tree / "experiments" / "mds" / "more"
    mine.mkdir()
    (mine / "distances.csv").write_text("1")
    UNCHANGED.pop(("mds", "{}"), None)
    assert changed(tree, "mds", {}, lambda: (mine / "distances.csv").write_text("2")) == ARRAYS
    shutil.rmtree(mine)
    UNCHANGED.clear()


def test_every_public_name_leads_to_the_file_that_defines_it():
    """What reading finds through `__init__`s and lazy tables is where Python finds it."""
    disk = closure.Disk()
    for package in PACKAGES:
        name = ".".join(package.relative_to(ROOT).parts)
        module = __import__(name, fromlist=["_"])
        for public in getattr(module, "__all__", ()):
            value = getattr(module, public)
            if not (inspect.isfunction(value) or inspect.isclass(value)):
                continue
            home = Path(inspect.getfile(value))
            if ROOT in home.parents:
                found = closure.Closure([(package / "__init__.py", (public,))], disk=disk)
                assert found.statements.get(home), (name, public)


MODULES = {
    "helper.py": "import numpy as np\nfactor = 2\ndef unused(): pass\n",
    "lazy/__init__.py": (
        "_HOMES = {'made': 'inner', 'renamed': ('inner', 'made'), 'own': 'inner:made'}\n"
        "_NAMES = {'inner': ['listed', 'made']}\n"
        "def __getattr__(name): ...\n"
    ),
    "lazy/inner.py": "from . import deep\ndef made(): return deep.value()\nlisted = 1\n",
    "lazy/deep.py": "value = lambda: 1\n",
    "lazy/beside.py": "odd = 1\n",
    "lazy/nested/__init__.py": "",
    "lazy/nested/up.py": "from ..deep import value\n",
    "star.py": "from helper import *\n",
    "registering.py": (
        "TABLE = {}\ndef register(f): TABLE[f.__name__] = f\n"
        "@register\ndef entered(): return 1\ndef unused(): pass\nTABLE['x'] = 3\n"
    ),
}


@pytest.mark.parametrize(
    ("code", "reached"),
    [
        ("from helper import factor\ndef run(): return factor", {"helper.py"}),
        ("def run():\n    import helper as h\n    return h.factor", {"helper.py"}),
        ("def run():\n    import lazy.beside\n", {"lazy/beside.py"}),
        ("import lazy.inner\ndef run(): return lazy.inner.listed", {"lazy/inner.py"}),
        ("from lazy import made\ndef run(): return made()", {"lazy/inner.py", "lazy/deep.py"}),
        ("from lazy import renamed\ndef run(): return renamed()",
         {"lazy/inner.py", "lazy/deep.py"}),
        ("import lazy\ndef run(): return lazy.own()", {"lazy/inner.py", "lazy/deep.py"}),
        ("import lazy\ndef run(): return lazy.listed", {"lazy/inner.py"}),
        ("from lazy.nested import up\ndef run(): return up.value", {"lazy/deep.py"}),
        ("import lazy\ndef run(): return lazy.odd",
         {"lazy/__init__.py", "lazy/inner.py", "lazy/deep.py", "lazy/beside.py"}),
        ("import star\ndef run(): return star.factor", {"helper.py"}),
        ("import helper\ndef run(): return vars(helper)", {"helper.py"}),
        ("import helper\ndef other(): return helper.factor\ndef run(): return 1", set()),
        ("import helper\nclass A:\n    x = helper.factor\ndef run(): return A", {"helper.py"}),
        ("import registering\ndef run(): return registering.TABLE", {"registering.py"}),
        ("import typing\nif not typing.TYPE_CHECKING:\n    import helper\n"
         "def run(): return helper.factor", {"helper.py"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import helper\n"
         "def run(x: 'helper'): return x", set()),
    ],
)  # fmt: skip
def test_names_lead_to_what_they_use(tmp_path, code, reached):
    for name, text in {**MODULES, "head.py": code}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = closure.Closure([(tmp_path / "head.py", ("run",))])
    names = {path.relative_to(tmp_path).as_posix() for path in found.files} - {"head.py"}
    assert names == reached
    if "registering.py" in names:  # what a decorator took, too, but nothing else
        file = tmp_path / "registering.py"
        every = statements.read(file).statements
        taken = [sorted(every[place].binds) for place in found.statements[file]]
        assert sorted(taken) == [[], ["TABLE"], ["entered"], ["register"]]


PLUGIN = "import beside_plugin\ndef best(fun):\n    return lambda x, key=None: beside_plugin.two\n"
METHODS = '''"""Methods."""
from adlab import lab
class Config(lab.ExperimentConfig):
    estimators: list[lab.Estimator]
def run(config, progress): return {"one": 1}
def verdicts(data, config): return []
def plot(data, config): return {}
'''


@pytest.mark.usefixtures("quick_figures")
def test_a_plugins_module_and_what_it_imports_make_a_run_stale(checkout, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(checkout.path), *sys.path])
    module, beside = (checkout.path / f"{name}.py" for name in ("stale_plugin", "beside_plugin"))
    module.write_text(PLUGIN)
    beside.write_text("two = 2\n")
    (checkout.path / "unrelated.py").write_text("x = 1\n")
    checkout.experiment("own", METHODS)
    path = checkout.config("own", 'estimators = [{kind = "stale_plugin:best"}]\n')
    folder = lab.run(path, plugins=["stale_plugin"])
    assert results.currency(folder) == "current"
    (checkout.path / "unrelated.py").write_text("x = 2\n")
    assert results.currency(folder) == "current"
    for file, text in ((beside, "two = 3\n"), (module, PLUGIN.replace("two", "three"))):
        before = file.read_text()
        file.write_text(text)
        assert results.currency(folder) == "stale: sources or versions changed since"
        file.write_text(before)
    assert results.currency(folder) == "current"
    for name in ("stale_plugin", "beside_plugin"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("quick_figures")
def test_figures_are_drawn_again_from_stored_arrays_where_only_they_changed(checkout, capsys):
    run = ["run", "configs/decay.toml"]
    main(run)
    file = checkout.path / "experiments/decay.py"
    file.write_text(file.read_text().replace('"decay": figure', '"halved": figure'))
    assert results.currency(checkout.result).startswith("current, but verdicts and figures aren't")
    assert main(run) == 0
    assert "nothing computed" in capsys.readouterr().out
    assert checkout.computed == ["first", "second"]
    assert {p.stem for p in (checkout.result / "figures").iterdir()} == {"halved"}
    assert results.currency(checkout.result) == "current"
    file.write_text(file.read_text().replace('"halved": figure', '"third": figure'))
    assert main(["plot", "decay"]) == 0
    assert results.currency(checkout.result) == "current"


@pytest.mark.usefixtures("quick_figures")
def test_plot_of_a_stale_run_doesnt_make_it_current(checkout):
    main(["run", "configs/decay.toml"])
    file = checkout.path / "experiments/decay.py"
    file.write_text(file.read_text().replace("config.ratio **", "2 * config.ratio **"))
    assert main(["plot", "decay"]) == 0
    assert results.currency(checkout.result) == "stale: sources or versions changed since"


def executed(call):
    """Return the places (file, line) of all functions that are entered."""
    seen = set()

    def note(frame, event, arg):
        del arg
        if event == "call" and frame.f_code.co_name not in ("<module>", "__getattr__"):
            seen.add((Path(frame.f_code.co_filename), frame.f_code.co_firstlineno))

    before = sys.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
        threading.setprofile(None)
    return seen


def lines(found):
    """Return the lines of all statements that count, by file."""
    return {
        file: {
            line
            for place in places
            for line in range(*statements.read(file).statements[place].lines)
        }
        for file, places in found.statements.items()
    }


@pytest.mark.parametrize("name", ["computational_graph"])
def test_whatever_a_run_enters_is_in_its_closure(name, monkeypatch):
    """An oracle that reads nothing: Python's own profiler."""
    monkeypatch.chdir(ROOT)
    job = config.load(f"configs/{name}.toml", profile="smoke")
    found = lines(provenance.computed(job.head, job.plugin_files, job.resolved))
    with start.precision(job.config.x64):
        seen = executed(lambda: job.module.run(job.config, lab.Progress.silent()))
    ours = {(f, line) for f, line in seen if {ROOT / "adlab", ROOT / "experiments"} & {*f.parents}}
    assert len(ours) > 20
    assert {(f, line) for f, line in ours if line not in found.get(f, ())} == set()


def test_versions_are_of_what_is_imported_and_of_all_that_requires():
    found = provenance.versions(["optax"])
    assert {"python", "adlab", "optax", "jax", "jaxlib", "numpy"} <= found.keys()  # numpy by jax
    assert found["numpy"] == np.__version__
    assert "matplotlib" not in found
    assert provenance.versions(["optax"]) == found
