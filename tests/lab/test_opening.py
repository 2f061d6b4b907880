"""Opening a result runs no code of its own, and what --out names is never replaced by another."""

import json
import os
import re
import stat
import sys
import threading

import pytest

from adlab.lab import config, experiment, records
from adlab.lab.cli import main
from adlab.lab.errors import LabError

TRAP = 'open("sprung", "w").close()\n'


@pytest.fixture
def result(checkout, quick_figures, monkeypatch):
    """Return the folder of a result, in a current folder full of code that must not be run."""
    del quick_figures
    assert main(["run", "configs/decay.toml"]) == 0
    away = checkout.path / "away"
    for place in ("experiments", "configs"):
        (away / place).mkdir(parents=True)
    (checkout.path / "results").rename(away / "results")
    (away / "experiments" / "decay.py").write_text(TRAP)
    for module in ("numpy", "json", "decay", "mine"):
        (away / f"{module}.py").write_text(TRAP)
    (folder,) = (p for p in (away / "results").iterdir() if p.name[0] != ".")
    (folder / "experiments").mkdir()
    (folder / "decay.py").write_text(TRAP)
    monkeypatch.chdir(away)
    return folder


COMMANDS = (["plot", "decay"], ["export", "decay"], ["show", "decay"])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_result_opens_with_installed_code_and_no_other(result, checkout, command, capsys):
    del checkout
    assert main(command) == 0
    assert not (result.parents[1] / "sprung").exists()
    assert "sprung" not in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_without_it_the_error_names_the_way(result, monkeypatch, command, capsys):
    monkeypatch.setattr(experiment, "installed", lambda: None)
    code = main(command)
    out, err = capsys.readouterr()
    assert not (result.parents[1] / "sprung").exists()
    assert "--experiments DIR" in out + err
    assert code == (0 if command[0] == "show" else 1)
    assert main([*command, "--experiments", "../experiments"]) == 0
    assert not (result.parents[1] / "sprung").exists()


@pytest.mark.parametrize(
    "named", ["../../../../tmp/x", "/etc/passwd", "a.b", "x" * 999, 3, None, []]
)
def test_what_a_result_says_of_its_experiment_is_no_path(result, named, capsys):
    path = result / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "experiment": named}))
    if named is None:  # the folder's name tells
        assert records.read_run(result).get("experiment") is None
    else:
        with pytest.raises(LabError, match=r"run\.json is damaged at `experiment`"):
            records.read_run(result)
    for command in COMMANDS:
        assert main([*command, "--experiments", "../experiments"]) in (0, 1)
        assert "Traceback" not in capsys.readouterr().err


def test_nothing_is_put_in_front_of_the_path_and_nothing_without_a_plugin(checkout):
    before = list(sys.path)
    config.load("configs/decay.toml")
    assert sys.path == before
    config.load("configs/decay.toml", plugins=["mine"])
    assert sys.path[: len(before)] == before
    assert set(sys.path[len(before) :]) <= {str(checkout.path), str(checkout.path / "configs")}


def test_the_checkout_of_adlab_itself_is_installed(monkeypatch):
    monkeypatch.undo()
    folder = experiment.installed()
    assert folder is not None
    assert (folder / "adlab" / "lab" / "experiment.py").samefile(experiment.__file__)


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"null", b"3", b"{", b"[" * 99999, b"\xff", b'{"seconds": 3}', b'{"files": []}',
     b'{"versions": {"numpy": 2}}', b'{"git": "x"}', b'{"device": {"count": "1"}}',
     b'{"plugins": "x"}', b'{"seconds": {"total": "x"}}', b'{"files": {"plugins": [3]}}'],
)  # fmt: skip
def test_a_damaged_record_of_a_run_is_told_with_its_remedy(tmp_path, text):
    (tmp_path / "run.json").write_bytes(text)
    with pytest.raises(LabError, match=r"run\.json is damaged.*run the config again: adlab run"):
        records.read_run(tmp_path)
    assert records.read_run(tmp_path / "nowhere") == {}


def test_unknown_keys_of_a_record_are_kept(tmp_path):
    said = {"experiment": "rates", "profile": "smoke", "seconds": {"total": 1.5, "attempts": 2}}
    (tmp_path / "run.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(said).encode())
    assert records.read_run(tmp_path) == said


def export(*out):
    return main(["export", "decay", "--experiments", "../experiments", "--out", *map(str, out)])


def trace(out):
    return main(["trace", "2*w", "--at", "w=1", "--out", str(out)])


@pytest.mark.parametrize("write", [export, trace])
def test_a_link_stays_and_its_file_is_written(result, write):
    folder = result.parents[1]
    (folder / "data").mkdir()
    (folder / "data" / "real.tex").write_text("old")
    (folder / "data" / "real.tex").chmod(0o640)
    (folder / "link.tex").symlink_to("data/real.tex")
    (folder / "new.tex").symlink_to("data/new.tex")
    for name in ("link", "new"):
        assert write(folder / f"{name}.tex") == 0
        assert (folder / f"{name}.tex").is_symlink()
    real = folder / "data" / "real.tex"
    assert len(real.read_text()) > 10
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert sorted(p.name for p in (folder / "data").iterdir()) == ["new.tex", "real.tex"]


@pytest.mark.parametrize("write", [export, trace])
def test_a_pipe_is_written_to_and_stays_one(result, write):
    pipe = result.parents[1] / "pipe.tex"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    assert write(pipe) == 0
    reader.join()
    assert len(read[0]) > 10
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_stays_one(result, capsys):
    link = result.parents[1] / "null.csv"
    link.symlink_to("/dev/null")
    assert export(link) == 0
    assert link.is_symlink()
    assert not os.path.isfile("/dev/null")
    assert export("/dev/null") == 0
    assert "written" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["curves.xlsx", "curves.JSON", "curves.npz"])
def test_export_refuses_the_name_of_another_kind_of_file(result, capsys, name):
    assert export(name) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: adlab export writes CSV, and {name} is the name of another")
    assert "choose curves.csv" in told
    assert not (result.parents[1] / name).exists()


def test_what_cannot_be_written_is_told(result, capsys):
    folder = result.parents[1]
    (folder / "loop.csv").symlink_to("loop.csv")
    for out in (folder, folder / "nowhere" / "x.csv", "/proc/x.csv", folder / ("x" * 300)):
        assert export(out) == 2
        assert capsys.readouterr().err.startswith("error: cannot write ")
    assert export(folder / "loop.csv") in (0, 2)


def test_list_tells_claims_what_moves_and_the_last_run(checkout, capsys):
    checkout.experiment("turning", '"""It turns."""\nfrom .films import movies\n')
    checkout.config("turning", "")
    checkout.config("broken", 'experiment = "../x"\n')
    main(["run", "configs/decay.toml"])
    main(["run", "configs/decay.toml", "--profile", "smoke"])
    capsys.readouterr()
    assert main(["list"]) == 0
    told = capsys.readouterr().out
    assert "decay\n  Powers of one half decay with ratio 1/2.\n" in told
    assert "turning\n  It turns.\n" in told
    assert "  moves: adlab run configs/turning.toml --animate gif\n" in told
    assert told.count("moves: ") == 1
    assert "broken\n  (no experiment '../x' in experiments)\n" in told
    (last,) = [line for line in told.splitlines() if line.startswith("  last: ")]
    assert re.fullmatch(r"  last: 2 of 2 hold, \d+\.\d s, profile smoke, decay-\w{8}", last)
    for path in checkout.path.glob("results/*/*.json"):
        path.write_text("{")
    assert main(["list"]) == 0
    assert "last: no verdicts, decay-" in capsys.readouterr().out
