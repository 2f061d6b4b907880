"""The command `adlab trace`: what it prints and writes, and how it refuses."""

import math
import re
import subprocess
import sys

import pytest

from adlab.lab import expression
from adlab.lab.cli import main
from adlab.lab.errors import UsageError

LECTURE = "w2*log(w1) + sqrt(w2*log(w1))"
AT = ["--at", "w1=2,w2=3"]


def results(capsys):
    """Return the derivatives that stand below the printed table."""
    lines = capsys.readouterr().out.splitlines()
    found = [re.fullmatch(r"∂L/∂(\w+) = (\S+)", line) for line in lines]
    return {match[1]: float(match[2]) for match in found if match}


def test_the_table_ends_with_the_gradient_in_float64(capsys):
    assert main(["trace", LECTURE, *AT]) == 0
    slope = 1 + 1 / (2 * math.sqrt(3 * math.log(2)))
    found = results(capsys)
    assert found.keys() == {"w1", "w2"}
    assert found["w1"] == pytest.approx(slope * 1.5, rel=1e-9)  # ten digits are printed
    assert found["w2"] == pytest.approx(slope * math.log(2), rel=1e-9)


def test_forward_mode_in_one_variable(capsys):
    assert main(["trace", LECTURE, *AT, "--mode", "forward", "--wrt", "w2", "--lang", "ru"]) == 0
    out = capsys.readouterr().out
    assert "Прямой режим по w2" in out
    assert "∂L/∂w2 = 0.93348" in out
    assert main(["trace", "-x**3", "--at", "x=-2", "--mode", "forward"]) == 0
    assert results(capsys) == {"x": -12.0}


def test_terms_that_are_zero_are_kept_when_asked_for(capsys):
    forward = ["trace", LECTURE, *AT, "--mode", "forward", "--wrt", "w1"]
    rows = {}
    for flags in ([], ["--zeros"]):
        assert main([*forward, *flags]) == 0
        rows[bool(flags)] = capsys.readouterr().out
    assert "v1·∂w2/∂w1" in rows[True].replace("\n", "")
    assert "∂w2/∂w1 = 0" in rows[True]
    assert "∂w2/∂w1" not in rows[False]


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("x - y*2/4", 2.0 - 1.5),
        ("-x**2", -4.0),
        ("2**-x", 0.25),
        ("x**y**1", 8.0),
        ("arctan2(y, x) + pi - e", math.atan2(3, 2) + math.pi - math.e),
        ("maximum(x, y)*abs(-x) + sigmoid(0*x) + minimum(x, y)", 8.5),
        ("(1 + 2**3)*+x + 1e-1*y", 18.3),
        ("relu(x) + softplus(0*y) + expm1(0) + power(x, 0.5)", 2 + math.log(2) + math.sqrt(2)),
    ],
)
def test_expressions_mean_what_they_mean_in_python(source, value, x64):
    del x64
    names = [name for name in ("x", "y") if re.search(rf"\b{name}\b", source)]
    point = {"x": 2.0, "y": 3.0}
    found = expression.parse(source, names).fun(*(point[name] for name in names))
    assert float(found) == pytest.approx(value, rel=1e-12)


def test_every_function_is_one_of_jax():
    for name, count in expression.FUNCTIONS.items():
        arguments = ["x", "y"][:count]
        parsed = expression.parse(f"{name}({', '.join(arguments)})", arguments)
        assert math.isfinite(parsed.fun(*[0.5, 0.25][:count]))


REFUSED = {
    "w.real": "attribute access",
    "w[0]": "indexing",
    "(lambda: w)()": "a lambda",
    "__import__('os').system('true')": "attribute access",
    "eval('w')": "unknown function eval",
    "exec(w)": "unknown function exec",
    "lgo(w)": "did you mean 'log'",
    "log(w, w)": "log must have 1 argument",
    "log(x=w)": "log must have 1 argument",
    "log(*w)": "log must have 1 argument",
    "log": "log is a function",
    "w + v": "uses v, to which --at gives no value",
    "'w'": "isn't allowed",
    "w + True": "isn't allowed",
    "w + 2j": "isn't allowed",
    "w if w else 1": "a condition",
    "w < 1": "a comparison",
    "w ^ 2": r"\*\*",
    "w // 2": "//",
    "[w for w in w]": "isn't allowed",
    "w := 2": "cannot read",
    "w = 2": "cannot read",
    "w; w": "cannot read",
    "log(w": "cannot read",
    "": "cannot read",
    "\0": "cannot read",
    "(" * 500 + "w" + ")" * 500: "cannot read",
    "-" * 1500 + "w": "cannot read|deep",
    "+w" * 900: "deep",
    "w*" + "1" * 2000: "at most 2000 characters",
    "w + 1e999": "finite",
    "w + 1/0": "finite",
    "w + 9**9**9": "finite",
    "w + (-8)**0.5": "finite",
    "w + log(0-1)": "finite",
    "2": "doesn't use",
}


@pytest.mark.parametrize("source", REFUSED)
def test_what_is_no_formula_is_refused_without_being_run(source):
    with pytest.raises(UsageError, match=REFUSED[source]):
        expression.parse(source, ["w"])


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        ("w", "NAME=NUMBER"), ("w=", "number"), ("w=two", "number, got 'two'"), ("=1", "NAME"),
        ("w=nan", "finite"), ("w=1e999", "finite"), ("w=1,w=2", "twice"), ("w=1,", "NAME"),
        ("w=1,u=2", "u, which the expression doesn't use"), ("w w=1", "NAME"),
    ],
)  # fmt: skip
def test_a_bad_point_is_refused(at, reason, capsys):
    assert main(["trace", "w*w", "--at", at]) == 2
    assert re.search(reason, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["log(w)", "--at", "w=-1"], r"value of L = log w must be finite, got nan at w = -1"),
        (["3*sqrt(log(w))", "--at", "w=0.5"], r"value of v2 = √v1 .* at v1 = -0\.69"),
        (["sqrt(w)", "--at", "w=0"], r"derivative"),
        (["w*u", "--at", "w=1,u=1", "--mode", "forward"], "--wrt, one of w, u"),
        (["rate*u", "--at", "rate=1,u=1", "--mode", "forward", "--wrt", "rat"], "mean 'rate'"),
        (["w*w", "--at", "w=1", "--wrt", "w"], "forward"),
        (["w*w", "--at", "w=1", "--out", "graph.txt"], r"\.pdf"),
        (["nothing_of_the_kind:f", "--at", "w=1"], "No module named"),
        (["math:sqrrt", "--at", "w=1"], "did you mean 'sqrt'"),
        (["math:sqrt", "--at", "w=1"], "no parameter w"),
    ],
)
def test_what_cannot_be_traced_is_refused_in_one_line(arguments, reason, capsys):
    assert main(["trace", *arguments]) == 2
    error = capsys.readouterr().err
    assert re.search(reason, error)
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_a_function_of_a_module_is_traced(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_trace_target.py").write_text(
        "import jax\n"
        "import jax.numpy as jnp\n"
        "def turned(a, b):\n    return jnp.abs(jnp.exp(1j * jax.lax.complex(a, b)))\n"
        "def f(a, b, scale=2.0):\n    return scale * jnp.sin(a) * b\n"
        "def broken(a):\n    raise RuntimeError('not today')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["trace", "my_trace_target:f", "--at", "b=3,a=0"]) == 0
    assert results(capsys) == {"a": 6.0, "b": 0.0}  # by name, whatever the order
    assert main(["trace", "my_trace_target:turned", "--at", "a=1,b=0"]) == 0
    # of exp(-b), through complex numbers, whose sines and cosines are rounded: 1e-15
    assert results(capsys) == pytest.approx({"a": 0.0, "b": -1.0}, abs=1e-15)
    assert main(["trace", "my_trace_target:f", "--at", "a=1"]) == 2
    assert "needs a value for b" in capsys.readouterr().err
    assert main(["trace", "my_trace_target:broken", "--at", "a=1"]) == 2
    assert "not today" in capsys.readouterr().err


STARTS = {".pdf": b"%PDF", ".gif": b"GIF8", ".svg": b"<?xml", ".png": b"\x89PNG",
          ".tex": b"\\begin{align*}", ".dot": b"digraph"}  # fmt: skip


@pytest.mark.parametrize("suffix", STARTS)
def test_files_are_written_whole(suffix, tmp_path, capsys):
    path = tmp_path / "made" / f"trace{suffix}"
    assert main(["trace", "log(w)", "--at", "w=2", "--out", str(path)]) == 0
    assert capsys.readouterr().out == f"written: {path}\n"
    data = path.read_bytes()
    assert data.startswith(STARTS[suffix])
    if suffix == ".pdf":
        assert len(re.findall(rb"/Type /Page\b", data)) == 2  # L, then w
        assert b"CreationDate" not in data
    assert list(path.parent.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["trace", "w*w", "--at", "w=2", "--out", str(tmp_path / "file/x.dot")]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_a_bad_expression_is_refused_before_jax_is_imported():
    code = (
        "import sys\nfrom adlab.lab.cli import main\n"
        "assert main(['trace', 'lgo(w)', '--at', 'w=1']) == 2\n"
        "assert not {'jax', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
