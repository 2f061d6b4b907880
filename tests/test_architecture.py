"""The house rules, read off the sources: layers, sizes, names, declarations."""

import ast
import functools
import importlib
import inspect
import os
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "adlab").rglob("*.py"))
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

LEAVES = {"gradients", "graphs", "curvature", "checkpointing", "rules"}
LEAVES |= {"problems", "models", "data"}
BELOW = {
    "core": set(),
    **{layer: {"core"} for layer in LEAVES},
    "jacobians": {"core", "graphs"},
    "optimize": {"core", "gradients", "problems"},
    "figures": {"core"},
    "drawing": {"core", "graphs", "checkpointing", "figures"},
    "lab": {"core", "jacobians", "optimize", "figures", "drawing"} | LEAVES,
}
# What a notebook shows of a graph is a picture, which is imported when it is shown.
EXCEPTIONS = {("adlab.graphs._notebook", "adlab.drawing")}
DISTRIBUTIONS = {"sklearn": "scikit-learn", "xdist": "pytest-xdist"}
# jax imports its compiled half itself, and demands a matching version of it.
BROUGHT_IN = {"jax": {"jaxlib"}}


def relative(path):
    return path.relative_to(ROOT).as_posix()


@functools.cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def nodes(path):
    """All nodes of the file, walked once."""
    return tuple(ast.walk(tree(path)))


@functools.cache
def imports(path):
    """Every module that the file imports, wherever the statement stands, with absolute names."""
    found = []
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found += [f"{base}.{alias.name}" for alias in node.names]
    return found


def layer(module):
    """`adlab.core.trees` -> `core`; the package itself and `adlab.__main__` have none."""
    parts = module.split(".")
    return parts[1] if parts[0] == "adlab" and len(parts) > 1 and parts[1] in BELOW else None


def upward(path):
    here, me = layer(module_name(path)), module_name(path)
    for name in imports(path):
        there = layer(name)
        if name.split(".")[0] == "experiments":
            yield f"{me} imports {name}"
        elif here and there and there != here and there not in BELOW[here]:
            allowed = any(me == m and name.startswith(target) for m, target in EXCEPTIONS)
            if not allowed:
                yield f"{me} imports {name}"


def body_length(function):
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    return function.end_lineno - body[0].lineno + 1 if body else 0


def functions(path):
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [node for node in nodes(path) if isinstance(node, kinds)]


def test_every_package_of_adlab_has_its_place_in_the_order():
    found = {p.name for p in (ROOT / "adlab").iterdir() if (p / "__init__.py").exists()}
    assert found <= set(BELOW)


def test_imports_point_down():
    assert [line for path in PACKAGE for line in upward(path)] == []


def test_an_upward_import_would_be_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    module = tmp_path / "adlab" / "core" / "trees.py"
    module.parent.mkdir(parents=True)
    module.write_text("def f():\n    from ..gradients import two_point\n    import experiments.x\n")
    assert list(upward(module)) == [
        "adlab.core.trees imports adlab.gradients.two_point",
        "adlab.core.trees imports experiments.x",
    ]


def test_no_private_jax():
    private = [
        f"{relative(path)} imports {name}"
        for path in PACKAGE + EXPERIMENTS + BENCHMARKS + TESTS
        for name in imports(path)
        if name.startswith("jax._src")
    ]
    assert private == []


def too_long(path):
    """The file, if it has over 400 lines, and its functions with bodies of over 40."""
    lines = len(path.read_text(encoding="utf-8").splitlines())
    if lines > 400:
        yield f"{relative(path)}: {lines} lines"
    for function in functions(path):
        if body_length(function) > 40:
            yield f"{relative(path)}: {function.name} has {body_length(function)} lines"


def test_modules_and_functions_are_short():
    paths = PACKAGE + EXPERIMENTS + BENCHMARKS
    assert [line for path in paths for line in too_long(path)] == []


def test_modules_are_named_after_what_they_hold():
    vague = {"utils", "helpers", "common"}
    paths = [path.relative_to(ROOT) for path in PACKAGE + EXPERIMENTS]
    assert [str(path) for path in paths if vague & set(path.with_suffix("").parts)] == []


def returns(statements):
    """Line numbers of the returns among these statements, functions within them left out."""
    for node in statements:
        if isinstance(node, ast.Return):
            yield node.lineno
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield from returns(ast.iter_child_nodes(node))


def early_returns(path):
    for function in functions(path):
        if function.name.startswith("test_"):
            yield from (f"{relative(path)}:{line}" for line in returns(function.body))


def test_no_test_can_return_before_it_asserts():
    """Such a test passes without having looked: a condition is a parameter's, or a skip's."""
    assert [line for path in TESTS for line in early_returns(path)] == []


def test_an_early_return_would_be_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    module = tmp_path / "test_x.py"
    module.write_text(
        "def test_f(a):\n    def g():\n        return 1\n"
        "    for _ in a:\n        if a:\n            return\n    assert g()\n"
    )
    assert list(early_returns(module)) == ["test_x.py:6"]


def test_every_experiment_has_its_config_and_every_config_its_experiment():
    names = {path.relative_to(ROOT / "experiments").parts[0] for path in EXPERIMENTS}
    experiments = {name.removesuffix(".py") for name in names}
    configs = {p.stem: tomllib.loads(p.read_text()) for p in (ROOT / "configs").glob("*.toml")}
    assert experiments <= configs.keys()
    assert experiments == {table.get("experiment", stem) for stem, table in configs.items()}


def undocumented(module):
    """Public functions and classes of the module without a docstring of their own."""
    for name in getattr(module, "__all__", ()):
        exported = getattr(module, name)
        if inspect.isfunction(exported) or inspect.isclass(exported):
            written = (exported.__doc__ or "").strip()
            # A dataclass without a docstring gets its signature as one.
            if not written or written.startswith(f"{name}("):
                yield f"{module.__name__}.{name}"


def test_every_public_name_is_documented():
    # Importing __main__ runs the program; it exports nothing.
    names = [module_name(path) for path in PACKAGE if path.name != "__main__.py"]
    modules = [importlib.import_module(name) for name in names]
    assert [line for module in modules for line in undocumented(module)] == []


IMPORT_ADLAB = """
import sys, jax
before = dict(jax.config.values)
import adlab
assert dict(jax.config.values) == before, "importing adlab changed jax's configuration"
heavy = {"matplotlib", "pydantic", "tyro", "rich", "sklearn"} & set(sys.modules)
assert not heavy, f"importing adlab imports {heavy}"
try:
    jax.devices()
except RuntimeError:
    print("no device")
"""


def test_importing_adlab_starts_no_device_and_imports_nothing_heavy():
    # On a platform that doesn't exist, starting a device raises.
    env = {**os.environ, "JAX_PLATFORMS": "nowhere"}
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_ADLAB], capture_output=True, text=True, env=env, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "no device\n"


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def declared(*, extras=False, groups=()):
    """Names of the distributions that pyproject.toml declares."""
    table = project()
    requirements = list(table["project"]["dependencies"])
    if extras:
        requirements += chain(*table["project"].get("optional-dependencies", {}).values())
    for group in groups:
        requirements += table["dependency-groups"][group]
    return {canonical(re.match(r"[\w.-]+", line).group()) for line in requirements}


def imported(paths):
    """Names of the distributions that the files import."""
    ours = {"adlab", "experiments", "benchmarks", "tests", "conftest"}
    ours |= {path.stem for path in [*TESTS, *EXPERIMENTS, *BENCHMARKS]}
    modules = {name.split(".")[0] for path in paths for name in imports(path)}
    modules -= set(sys.stdlib_module_names) | ours
    found = {DISTRIBUTIONS.get(module, canonical(module)) for module in modules}
    return found.union(*(BROUGHT_IN.get(name, set()) for name in found))


def test_whatever_is_imported_is_declared():
    assert imported(PACKAGE + EXPERIMENTS) <= declared(extras=True)
    assert imported(BENCHMARKS) <= declared(extras=True, groups=["bench"])
    assert imported(TESTS) <= declared(extras=True, groups=["dev"])


def test_whatever_is_declared_is_imported():
    assert declared(extras=True) <= imported(PACKAGE + EXPERIMENTS)
    assert declared(groups=["bench"]) <= imported(PACKAGE + EXPERIMENTS + BENCHMARKS)


def test_the_constraints_pin_every_requirement_and_name_no_host():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pin = re.compile(r"([a-z0-9][a-z0-9.-]*)==[\w.]+( ; [^/]+)?")
    assert [line for line in lines if not pin.fullmatch(line)] == []
    pinned = {canonical(line.split("==")[0]) for line in lines}
    assert declared(extras=True, groups=["dev"]) <= pinned
