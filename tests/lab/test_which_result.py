"""Which result a name means, what a result says of itself, and what it has cost."""

import io
import itertools
import json
import os
import re
from pathlib import Path

import pytest

from adlab import lab
from adlab.lab import attempts, config, listing, progress, provenance, report, results, store
from adlab.lab.cli import main
from adlab.lab.errors import UsageError

RUN = ["run", "configs/decay.toml"]
SMOKE = [*RUN, "--profile", "smoke"]
pytestmark = pytest.mark.usefixtures("quick_figures")


def dated(folder, moment):
    """Let a run have finished at a moment, as if it had been run then."""
    about = json.loads((folder / "run.json").read_text())
    store.write_json(folder / "run.json", {**about, "finished": moment})
    job = config.load(folder / "config.toml", experiment_file=Path("experiments/decay.py"))
    from adlab.lab import integrity

    integrity.seal(folder, provenance.stamp(job.head, (), job.resolved))


@pytest.fixture
def two(checkout):
    """A base run, and a smoke run with an override that finished later."""
    main(RUN)
    main([*SMOKE, "--ratio", "0.25"])
    runs = {listing.about(run).profile: run for run in checkout.results}
    dated(runs[None], "2026-01-02T03:04:05+00:00")
    dated(runs["smoke"], "2026-02-03T04:05:06+00:00")
    return runs


def test_a_name_that_fits_several_results_is_refused_with_the_list(two, capsys):
    for command in ("show", "plot", "export"):
        capsys.readouterr()
        assert main([command, "decay"]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.splitlines() == [
            "error: 'decay' means 2 results; name one, or take the newest with --latest",
            f"  {two['smoke'].name}  2026-02-03 04:05  smoke  --ratio 0.25",
            f"  {two[None].name}  2026-01-02 03:04  base",
        ]


def test_the_newest_is_taken_when_asked_for(two, capsys):
    assert main(["show", "decay", "--latest"]) == 0
    assert f"results/{two['smoke'].name}" in capsys.readouterr().out
    dated(two[None], "2026-03-03T03:04:05+00:00")
    for command in ("show", "plot", "export"):
        assert main([command, "decay", "--latest"]) == 0
    assert f"results/{two[None].name}" in capsys.readouterr().out


def test_a_whole_name_means_that_result_alone(two):
    out = Path("results")
    base = two[None].name
    longer = out / f"{base}00000000"
    (out / base).rename(longer)
    assert results.find(base, out) == longer
    longer.rename(out / base)
    for name in (f"{base}00000000", "decay_of_others-12345678"):
        (out / name).mkdir()
        (out / name / "DONE").write_text("{}")
    assert results.find(base, out) == out / base
    assert results.find(str(out / base), out) == out / base
    with pytest.raises(UsageError) as refused:
        results.find("decay", out)
    assert "decay_of_others" not in str(refused.value)  # another experiment
    assert results.find("decay_", out) == out / "decay_of_others-12345678"


def test_runs_are_listed_with_what_tells_them_apart(two, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    file = Path("experiments/decay.py")
    file.write_text(file.read_text().replace('"decay": figure', '"halved": figure'))
    (two["smoke"] / "data.npz").write_bytes(b"PK half")
    capsys.readouterr()
    assert main(["results"]) == 0
    lines = [re.split(r"  +", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == [
        "result", "finished (UTC)", "profile", "overrides", "verdicts", "size", "state",
    ]  # fmt: skip
    smoke, base = lines[2], lines[3]
    assert smoke[:4] == [two["smoke"].name, "2026-02-03 04:05", "smoke", "--ratio 0.25"]
    assert (smoke[4], smoke[6]) == ("1 of 2 hold", "damaged")
    assert base[:3] == [two[None].name, "2026-01-02 03:04", "base"]
    assert base[3] == "2 of 2 hold"
    assert re.fullmatch(r"\d+\.\d kB", base[4])
    assert base[5] == "to be drawn again"
    assert main(["results", "--results", "nowhere"]) == 0
    assert capsys.readouterr().out == "no results in nowhere\n"


def test_a_run_that_isnt_the_base_says_so(checkout, capsys):
    main(RUN)
    assert "profile" not in capsys.readouterr().out
    store.remove(checkout.path / "results")
    main(SMOKE)
    assert "profile smoke, not the base\n" in capsys.readouterr().out
    main(["show", "decay", "--lang", "ru"])
    assert "профиль smoke, не основной\n" in capsys.readouterr().out


def test_the_profile_is_a_note_on_the_figures(checkout, monkeypatch):
    from adlab.figures import style

    notes = []
    monkeypatch.setattr(style, "save", lambda *_: notes.append(style._NOTE.get()))
    main(RUN)
    main([*SMOKE, "--lang", "ru"])
    main(["plot", "decay", "--latest"])
    assert notes == ["", "smoke", "smoke"]
    assert len(checkout.computed) == 4


def test_profile_and_overrides_are_recorded(checkout):
    folder = lab.run(RUN[1], profile="smoke", overrides={"ratio": 0.25, "widths": [3, 4]})
    about = json.loads((folder / "run.json").read_text())
    assert about["profile"] == "smoke"
    assert about["overrides"] == {"ratio": 0.25, "widths": [3, 4]}
    again = "adlab run configs/decay.toml --profile smoke --ratio 0.25 --widths 3 4 --force"
    assert listing.command(folder) == again
    assert checkout.computed == ["first", "second"]
    assert main(again.split()[1:]) == 0
    assert checkout.result == folder.absolute()


@pytest.fixture
def clock(monkeypatch):
    """A clock that each look moves on by a second."""
    ticks = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))


class Steps:
    """An attempt at two stages that each spend 1 s compiling and 2 s running."""

    def __init__(self, folder, stop=False):
        self.progress = lab.Progress(folder)
        self.ledger = attempts.Ledger(folder / "attempts.json", self.progress)
        for name in ("a", "b"):
            self.progress.stage(name, lambda: self.progress.seconds("fit", compile=1, run=2) or {})
            if stop:
                break
        self.progress.seconds("outside", run=5)


@pytest.mark.usefixtures("clock")
def test_the_seconds_of_all_attempts_add_up(tmp_path):
    first = Steps(tmp_path, stop=True)
    parts, seconds = first.ledger.note()
    assert parts == {
        "fit": {"compile": 1.0, "run": 2.0},
        "outside": {"compile": 0.0, "run": 5.0},
    }
    again = Steps(tmp_path)
    parts, total = again.ledger.note()
    assert parts["fit"] == {"compile": 2.0, "run": 4.0}  # stage a once, stage b once
    assert parts["outside"] == {"compile": 0.0, "run": 10.0}  # spent twice
    assert total[:-1] == seconds
    assert total[-1] > 0


@pytest.mark.usefixtures("clock")
def test_what_finished_stages_cost_isnt_lost_with_the_ledger(tmp_path):
    Steps(tmp_path, stop=True)
    (tmp_path / "attempts.json").write_text("{")
    parts, _ = Steps(tmp_path).ledger.note()
    assert parts["fit"] == {"compile": 2.0, "run": 4.0}


def test_an_attempt_that_was_interrupted_counts(checkout, capsys):
    (checkout.path / "interrupt-second").touch()
    main(RUN)
    (checkout.path / "interrupt-second").unlink()
    main(RUN)
    about = json.loads((checkout.result / "run.json").read_text())
    assert about["seconds"]["attempts"] == 2
    assert about["seconds"]["parts"] == {"first": {"compile": 1.0, "run": 0.5}}
    assert re.search(
        r"compile 1\.0 s, run 0\.5 s, total .* s \(2 attempts\)", capsys.readouterr().out
    )


def test_seconds_that_nobody_took_arent_told_as_none():
    assert report.spent({"total": 3.0}) == "total 3.0 s"
    assert report.spent({"compile": 0.0, "run": 0.0, "total": 3.0}) == "total 3.0 s"
    assert report.spent({"compile": 1, "run": 0, "total": 3, "attempts": 1}) == (
        "compile 1.0 s, run 0.0 s, total 3.0 s"
    )


def test_where_no_terminal_is_a_line_comes_now_and_then(monkeypatch):
    from rich.console import Console

    moment, text = [0.0], io.StringIO()
    monkeypatch.setattr(progress.time, "perf_counter", lambda: moment[0])
    shown = lab.Progress(console=Console(file=text, width=80))

    def compute():
        for step in range(1, 101):
            moment[0] += 4.0
            shown.update(step, 100, "f = 0.5 [x]" if step == 6 else "")
        return {}

    shown.stage("descent", compute)
    lines = text.getvalue().splitlines()
    assert lines[1:4] == [
        "  descent: 3 of 100, about 6 min left",
        "  descent: 6 of 100, about 6 min left  f = 0.5 [x]",
        "  descent: 9 of 100, about 6 min left",
    ]
    assert lines[-2] == "  descent: 99 of 100, about 4 s left"
    assert len(lines) == 2 + 33


def test_figures_are_written_elsewhere_from_a_folder_that_is_read_only(checkout, capsys):
    main(RUN)
    folder = checkout.result
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}
    for path in (folder, folder.parent):
        os.chmod(path, 0o555)
    capsys.readouterr()
    plot = ["plot", "decay", "--out", "slides", "--lang", "en,ru", "--format", "pdf,svg"]
    assert main(plot) == 0
    written = [
        f"slides/{name}" for name in ("decay.pdf", "decay.svg", "ru/decay.pdf", "ru/decay.svg")
    ]
    assert capsys.readouterr().out.splitlines() == [f"figure: {name}" for name in written]
    assert sorted(str(p) for p in Path("slides").rglob("*.*")) == written
    for path in (folder.parent, folder):
        os.chmod(path, 0o755)
    after = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}
    assert after == before
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--lang", "en,de"], "the language must be of en, ru, got 'de'"),
        (["--format", "pdf"], "--format goes with --out DIR"),
        (["--out", "x", "--format", "pfd"], "got 'pfd'; did you mean 'pdf'?"),
        (["--out", "configs/decay.toml"], "cannot write configs/decay.toml: File exists"),
    ],
)
def test_what_cannot_be_drawn_is_refused(checkout, capsys, flags, told):
    main(RUN)
    capsys.readouterr()
    assert main(["plot", "decay", *flags]) == 2
    assert told in capsys.readouterr().err
    assert checkout.computed == ["first", "second"]
