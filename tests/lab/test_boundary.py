"""Whatever goes wrong ends in one line with its place and remedy, and an exit code."""

import errno
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from adlab.lab import boundary, cli, errors
from adlab.lab.cli import main
from adlab.lab.errors import LabError, UsageError

TOY = '''
"""A toy."""

import sys

import numpy as np

from adlab import lab


class Config(lab.ExperimentConfig):
    """A toy."""

    n: int = 3
    word: str = "x"
    estimators: list[lab.Estimator] = []


def run(config, progress):
    return {"x": np.ones(config.n)}


def verdicts(data, config):
    return [lab.Verdict("x is one", 1.0, 1.0, 1.0, 1.0, 0.1)]


def plot(data, config):
    return {}
'''

RAISES = (
    "raise ValueError('boom')",
    "raise ValueError('x' * 9999)",
    "raise ValueError('a\\nb\\n' * 99)",
    "sys.exit(0)",
    "sys.exit('bye')",
    "raise BaseException('base')",
    "raise BaseExceptionGroup('group', [SystemExit(0), ValueError('a')])",
    "(f := lambda: f())()",
    "raise MemoryError",
    "'\\u0431'.encode('ascii')",
    "open('/nowhere/x')",
    "raise GeneratorExit",
    "assert False",
)


@pytest.fixture
def told(capsys):
    """Return a function that runs a command, and judges and returns what it says of an error."""

    def run(*argv, code=None, longest=320):
        capsys.readouterr()
        found = main(list(argv))
        out, err = capsys.readouterr()
        assert found in ((1, 2) if code is None else (code,)), (argv, err)
        assert "Traceback" not in out + err
        assert "bug of adlab" not in err
        assert err.startswith("error: ")
        assert max(map(len, err.splitlines())) <= longest
        return err

    return run


UNTOLD = {  # what a part that can't be called says of itself
    "signature": "class X:\n    @property\n    def __signature__(self): raise RuntimeError('no')\n"
    "    def __call__(self): pass\nneeds = X()",
    "repr": "class X:\n    def __repr__(self): raise RuntimeError('no')\nneeds = X()",
    "default": "class X:\n    def __repr__(self): raise RuntimeError('no')\n"
    "def needs(a, b, c=X()): pass",
    "module": "def __getattr__(name): raise RuntimeError('no')",
}


@pytest.mark.parametrize("what", UNTOLD)
def test_a_part_that_cannot_even_be_looked_at_is_told_in_a_line(checkout, told, what):
    line = told("run", put(checkout, f"{TOY}\n{UNTOLD[what]}\n"), code=1)
    assert "experiments/toy.py" in line


def put(checkout, source, config=""):
    checkout.experiment("toy", source)
    return str(checkout.config("toy", config))


@pytest.mark.usefixtures("quick_figures")
@pytest.mark.parametrize("part", ["run", "verdicts", "plot", "table", "needs", "import", "config"])
def test_what_an_experiment_raises_is_told_in_a_line(checkout, told, part):
    head = {
        "import": "def boom():",
        "config": "class Config(Config):\n    def model_post_init(self, context):",
        "run": "def run(config, progress):",
        "needs": "def needs(config):",
    }.get(part, f"def {part}(data, config):")
    for code in RAISES:
        deep = " " * (8 if part == "config" else 4)
        source = f"{TOY}\n\n{head}\n{deep}{code}\n" + ("\n\nboom()\n" if part == "import" else "")
        path = put(checkout, source)
        if part == "table":
            assert main(["run", path]) == 0
            line = told("export", "toy", code=1)
        else:
            line = told("run", path)
        assert "experiments/toy.py:" in line, (code, line)


@pytest.mark.parametrize("code", RAISES)
def test_what_a_plugin_raises_is_told_in_a_line(checkout, told, code, request):
    path, number = put(checkout, TOY), RAISES.index(code)
    for name, source in {
        "imported": f"def f(fun):\n    return fun\ndef boom():\n    {code}\nboom()\n",
        "called": f"def f(fun, *, a: int = 1):\n    {code}\n",
        "made": f"class f:\n    def __init__(self, fun, *, a: int = 1):\n        {code}\n",
    }.items():
        source = f"import sys\n{source}"
        module = f"plugin_{name}_{number}"
        (checkout.path / f"{module}.py").write_text(source)
        request.addfinalizer(lambda module=module: sys.modules.pop(module, None))
        kind = f'[{{kind = "{module}:f"}}]'
        told("run", path, "--plugin", module, "--estimators", kind)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (":f", "':f' must be MODULE:FUNCTION"),
        ("os:", "'os:' must be MODULE:FUNCTION"),
        ("os::f", "'os::f' must be MODULE:FUNCTION"),
        ("..os:f", "'..os:f' must be MODULE:FUNCTION"),
        ("os:system", "'os:system' must be a function whose parameters can be read"),
        ("builtins:int", "'builtins:int' must be a function whose parameters can be read"),
        ("builtins:exit", "must be a function whose parameters can be read"),
        ("os:path", "'os:path': os has no function path"),
        ("x" * 9999 + ":f", "is code of your own: allow it with --plugin xxx"),
    ],
)
def test_a_kind_is_a_function_of_python(checkout, told, kind, line):
    path = put(checkout, TOY, f'estimators = [{{kind = "{kind}"}}]\n')
    assert line in told("run", path, "--plugin", "os", "--plugin", "builtins", code=2)


NAMES = ("../../x", "/etc/passwd", "a b", "a-b", "toy.x", "toy\\n", "a\\u0000", "x" * 300, "")


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_an_experiment_is_an_identifier(checkout, told, name):
    path = put(checkout, TOY, f'experiment = "{name}"\n')
    assert "`experiment` must be a name of at most 200 letters" in told("run", path, code=2)


def test_malformed_configs_are_refused_in_a_line(checkout, told):
    put(checkout, TOY)
    own = b'experiment = "toy"\n'
    for text, line in {
        b"a = ": "not valid TOML",
        own + b'word = "\xe9"': "not valid TOML: 'utf-8' codec can't decode",
        own + b"word = " + b"[" * 5000 + b"]" * 5000: "not valid TOML",
        own + b"a" + b".b" * 3000 + b" = 1": "",
        own + b"n = " + b"9" * 5000: "not valid TOML: Exceeds the limit",
        own + b"word = 2024-01-01": "`word` must not be a date or time, got 2024-01-01",
        own + b"estimators = [12:00:00]": "`estimators.0` must not be a date or time",
        own + b"seed = -1": "`seed` must be >= 0, got -1",
        own + b"seed = 9223372036854775808": "`seed` must be < 9223372036854775808",
        own + b"memory_limit = 0": "`memory_limit` must be > 0",
        own + b"memory_limit = inf": "`memory_limit` must be finite",
        own + b"k" * 5000 + b" = 1": "unknown key `kkk",
        b"experiment = []": "`experiment` must be a string",
    }.items():
        (checkout.path / "configs/bad.toml").write_bytes(text)
        assert line in told("run", "configs/bad.toml", code=2), text[:40]


def test_a_mark_of_the_byte_order_is_read_over(checkout, capsys):
    put(checkout, TOY)
    for text in (b'experiment = "toy"\nn = 2\n', b'experiment = "toy"\r\nn = 2\r\n'):
        (checkout.path / "configs/bom.toml").write_bytes(b"\xef\xbb\xbf" + text)
        assert main(["run", "configs/bom.toml"]) == 0
    assert main(["list"]) == 0
    assert "unreadable" not in capsys.readouterr().out


def test_a_date_on_the_command_line_is_a_word(checkout):
    assert main(["run", put(checkout, TOY), "--word", "2024-01-01", "--check"]) == 0
    assert 'word = "2024-01-01"' in (checkout.result / "config.toml").read_text()


@pytest.mark.parametrize(
    "argv",
    [
        ["run", "configs"],
        ["run", "x" * 300],
        ["run", "\0"],
        ["run", "/dev/null"],
        ["run", "configs/toy.toml/x"],
        ["show", "x" * 300],
        ["export", "toy"],
        ["run", "configs/toy.toml", "--out", "/proc/x"],
        ["run", "configs/toy.toml", "--out", "x" * 300],
        ["run", "configs/toy.toml", f"--{'x' * 9999}", "1"],
    ],
)
def test_names_that_lead_nowhere_are_told(checkout, told, argv):
    put(checkout, TOY)
    told(*argv)


def _full(*args, **kwargs):
    del args, kwargs
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "results/data.npz")


def test_a_full_disk_is_told_with_its_place_and_remedy(checkout, told, monkeypatch):
    path = put(checkout, TOY)
    monkeypatch.setattr("adlab.lab.store.write_arrays", _full)
    line = told("run", path, code=1)
    assert line.startswith("error: results/data.npz: No space left on device; free some space, or")


def test_a_folder_that_vanishes_is_told(checkout, told):
    gone = 'import shutil\n    shutil.rmtree("results")\n    return {"x": np.ones(2)}'
    path = put(checkout, TOY.replace('return {"x": np.ones(config.n)}', gone))
    assert "No such file or directory; was it removed meanwhile?" in told("run", path, code=1)


def test_a_standard_output_that_is_full_is_told():
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    code = "import sys; from adlab.lab import cli; sys.exit(cli.main(['--version']))"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: standard output: No space left on device; free some")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("shown", [False, True])
def test_an_unexpected_error_is_called_a_bug_and_its_traceback_kept(
    shown, monkeypatch, capsys, tmp_path
):
    def wrong(command):
        del command
        raise KeyError("forgotten")

    monkeypatch.setattr(cli, "_list", wrong)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("ADLAB_TRACEBACK", "1" if shown else "0")
    assert main(["list"]) == 1
    err = capsys.readouterr().err
    assert ("Traceback" in err) == shown
    assert re.search(r"error: a bug of adlab: KeyError: 'forgotten' \(.*, in wrong\)", err)
    (kept,) = tmp_path.glob("adlab-*.traceback")
    assert str(kept) in err
    assert "Traceback (most recent call last)" in kept.read_text()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "error: out of memory"),
        (RecursionError(), "error: too deeply nested"),
        (UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "no"), "error: text that can't be read or"),
        (OSError(errno.EACCES, "Permission denied", "x.csv"), "error: x.csv: Permission denied; "),
        (SystemExit(0), "error: some code that was run raised SystemExit: 0"),
        (LabError("own word"), "error: own word"),
        (UsageError("x" * 5000), "error: xxx"),
    ],
)
def test_every_kind_of_error_has_its_line(error, line, monkeypatch, capsys):
    def wrong(command):
        del command
        raise error

    monkeypatch.setattr(cli, "_list", wrong)
    assert main(["list"]) == getattr(error, "exit_code", 1)
    err = capsys.readouterr().err
    assert err.startswith(line)
    assert err.count("\n") == 1
    assert len(err) < 700


def test_a_narrow_terminal_shows_help_all_the_same(checkout, monkeypatch, capsys):
    for width in ("0", "1", "x"):
        monkeypatch.setenv("COLUMNS", width)
        assert main(["--help"]) == 0
        assert "adlab run configs/rates.toml" in capsys.readouterr().out
        assert main(["run", put(checkout, TOY)]) == 0
        assert "1 of 1 hold" in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_gets_replacements_for_what_it_cannot_show(checkout, encoding, monkeypatch):
    path = put(checkout, TOY.replace('"x is one"', '"x равен единице → 1"'))
    seen = io.BytesIO()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", io.TextIOWrapper(seen, encoding=encoding))
        assert main(["run", path, "--lang", "ru"]) == 0
        sys.stdout.flush()
        assert b"x ????? ???????" in seen.getvalue()
        sys.stdout.detach()


def test_an_interrupt_while_modules_are_imported_is_a_line():
    code = (
        "import builtins, sys\nimport adlab.lab\nknown = builtins.__import__\n"
        "def imported(name, *args):\n"
        "    if name == 'tyro':\n        raise KeyboardInterrupt\n"
        "    return known(name, *args)\n"
        "builtins.__import__ = imported\nfrom adlab.lab.cli import main\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_an_interrupted_process_ends_at_once(monkeypatch, capsys):
    def interrupted(command):
        del command
        raise KeyboardInterrupt

    ends = []
    monkeypatch.setattr(cli, "_list", interrupted)
    monkeypatch.setattr(boundary.os, "_exit", ends.append)
    monkeypatch.setattr(sys, "argv", ["adlab", "list"])
    assert main(["list"]) == 130  # called by other code, which goes on
    assert ends == []
    cli.main()  # as a command: threads of the device may still run
    assert ends == [130]
    assert capsys.readouterr().err.count("to resume: adlab list\n") == 2


def test_messages_of_others_are_cut_and_never_fail():
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    assert errors.brief(Mute()) == "(unreadable Mute)"
    assert len(errors.brief("x y " * 10**6)) <= 200
    assert errors.located(ValueError()) == "ValueError"
    own = "its code: ZeroDivisionError: division by zero"
    with pytest.raises(LabError, match=own), boundary.foreign("its code"):
        print(1 / 0)
    with pytest.raises(LabError, match="its code: SystemExit: 0"), boundary.foreign("its code"):
        raise SystemExit(0)
    with pytest.raises(KeyboardInterrupt), boundary.foreign("its code"):
        raise KeyboardInterrupt
