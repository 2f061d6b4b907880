"""A process may end at any step: nothing is lost or half there, and the same command then works."""

import io
import os
import threading

import pytest

from adlab.lab import config, derived, provenance, store
from adlab.lab.cli import main

RUN = ["run", "configs/decay.toml", "--lang", "en,ru"]
PLOT = ["plot", "decay", "--lang", "en,ru"]
pytestmark = pytest.mark.usefixtures("quick_figures")


class Killed(BaseException):
    """The process is gone: whatever it would still do to the file system fails."""


def kill(monkeypatch, step):
    """Let the call number `step` that changes the file system, and each later one, raise."""
    calls = 0

    def trapped(function):
        def call(*args, **kwargs):
            nonlocal calls
            if function is not opened or any(word in ("w", "wb", "a", "x") for word in args[1:]):
                calls += 1
                if calls >= step:
                    raise Killed
            return function(*args, **kwargs)

        return call

    opened = io.open
    for name in ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync"):
        monkeypatch.setattr(os, name, trapped(getattr(os, name)))
    monkeypatch.setattr(io, "open", trapped(opened))


def ended(monkeypatch, argv, step):
    """Whether the command came to its end; else it was killed at the step."""
    with monkeypatch.context() as patch:
        kill(patch, step)
        return main(argv) == 0  # which tells of Killed, as of all else, and returns 1


def assert_whole(checkout):
    """The one result is whole and current, in both languages, and nothing else is there."""
    job = config.load("configs/decay.toml")
    stamp = provenance.stamp(job.head, job.plugin_files, job.resolved)
    folder = checkout.path / "results" / job.key
    assert [path.name for path in (checkout.path / "results").iterdir()] == [job.key]
    assert store.state(folder, stamp) == "done"
    assert not derived.lacking(folder, stamp["derived"], ("en", "ru")).languages
    assert {path.name for path in folder.iterdir()} == store.OWN - {"stages", store.FIGURES_NEW}
    assert derived.arrays(folder)["terms"].tolist() == [0.5**k for k in range(8)]


@pytest.mark.parametrize("argv", [RUN, [*RUN, "--force"]], ids=["run", "force"])
def test_a_run_that_is_killed_anywhere_can_be_run_again(checkout, monkeypatch, argv):
    killed = 0
    for step in range(3, 400, 17):
        if argv == RUN:
            store.remove(checkout.path / "results")
        whole = ended(monkeypatch, argv, step)
        assert main(argv) == 0
        assert_whole(checkout)
        if whole:
            break
        killed += 1
    assert killed >= 6


def test_a_run_that_is_killed_after_its_data_are_stored_computes_nothing_again(
    checkout, monkeypatch, capsys
):
    def dying(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(derived, "derive", dying)
        assert main(RUN) == 1
    assert checkout.results == []
    capsys.readouterr()
    assert main(RUN) == 0
    assert "nothing computed" in capsys.readouterr().out  # nor taken from stages
    assert_whole(checkout)
    assert checkout.computed == ["first", "second"]


def test_figures_are_there_whenever_a_plot_is_killed(checkout, monkeypatch):
    main(RUN)
    folder, killed = checkout.result, 0
    before = {p: p.read_bytes() for p in folder.glob("figures/**/*") if p.is_file()}
    assert len(before) == 6
    for step in range(1, 200, 5):
        whole = ended(monkeypatch, PLOT, step)
        assert {p: p.read_bytes() for p in folder.glob("figures/**/*") if p.is_file()} == before
        if whole:
            break
        killed += 1
    assert killed >= 5
    assert main(PLOT) == 0
    assert_whole(checkout)


def test_an_export_that_is_killed_leaves_the_older_file(checkout, monkeypatch):
    main(RUN)
    argv, file = ["export", "decay", "--out", "curves.csv"], checkout.path / "curves.csv"
    main(argv)
    whole = file.read_text()
    for step in range(1, 20):
        file.write_text("older")
        if ended(monkeypatch, argv, step):
            break
        assert file.read_text() in ("older", whole)
    assert file.read_text() == whole
    assert step > 1


def test_who_draws_is_waited_for_and_who_computes_isnt(checkout, monkeypatch, capsys):
    main(RUN)
    place = store.Place(checkout.result.parent, checkout.result.name)
    with store.hold(place):
        assert main(["plot", "decay"]) == 1
    assert "is being computed by process" in capsys.readouterr().err
    drawn, waited = threading.Event(), []
    monkeypatch.setattr("time.sleep", lambda seconds: (waited.append(seconds), drawn.wait(0.01)))

    def plot():
        with store.hold(place, "plot"):
            drawn.set()
            while not waited:
                drawn.wait(0.001)

    other = threading.Thread(target=plot)
    other.start()
    drawn.wait()
    assert main(["plot", "decay"]) == 0
    other.join()
    assert waited
    assert_whole(checkout)
