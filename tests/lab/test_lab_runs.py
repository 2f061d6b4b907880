"""The run folder: complete or not there, reproducible, resumable; and the commands that read it."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import tomllib
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

import adlab
from adlab import lab
from adlab.lab import integrity, store
from adlab.lab.cli import main
from adlab.lab.errors import LabError

RUN = ["run", "configs/decay.toml"]
FILES = {
    "config.toml",
    "run.json",
    "data.npz",
    "timings.npz",
    "verdicts.json",
    "derived.json",
    "figures",
    "log.txt",
    "DONE",
}


@pytest.fixture
def real_figures():
    """Asked for by tests that look at the bytes of figures; the others save time."""


@pytest.fixture(autouse=True)
def _quick_unless_asked(request):
    if "real_figures" not in request.fixturenames:
        request.getfixturevalue("quick_figures")


def test_a_run_leaves_all_that_it_promises(checkout):
    assert main(RUN) == 0
    folder = checkout.result
    assert {p.name for p in folder.iterdir()} == FILES
    assert {p.name for p in (folder / "figures").iterdir()} == {
        "decay.svg",
        "decay.pdf",
        "decay.png",
    }
    with np.load(folder / "data.npz", allow_pickle=False) as data:
        assert data["terms"].tolist() == [0.5**k for k in range(8)]  # powers of 2 are exact
    with np.load(folder / "timings.npz", allow_pickle=False) as timings:
        assert timings["clock"].tolist() == [1.0, 2.0]
    stored = json.loads((folder / "verdicts.json").read_text())
    assert [v["outcome"] for v in stored] == ["holds", "holds"]
    assert stored[0]["claim"] == "two-point estimate"
    assert list((checkout.path / "results").iterdir()) == [folder]


def test_run_json_says_how_the_result_came_about(checkout):
    main(RUN)
    about = json.loads((checkout.result / "run.json").read_text())
    assert about["versions"].keys() >= {"python", "adlab", "numpy", "pydantic", "pydantic-core"}
    assert "matplotlib" not in about["versions"]  # imported, but not by what computes
    assert (about["profile"], about["overrides"]) == (None, {})
    assert about["device"]["platform"] == "cpu"
    assert about["seconds"]["parts"] == {"first": {"compile": 0.5, "run": 0.25}}
    assert (about["seconds"]["compile"], about["seconds"]["run"]) == (0.5, 0.25)
    assert (about["seed"], about["x64"], about["git"]) == (0, False, None)
    assert about["started"] <= about["finished"]


def test_the_commit_is_recorded_and_whether_files_differ(checkout):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(checkout.path)]
    for arguments in (["init", "-q"], ["add", "experiments"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *arguments], check=True)
    main(RUN)
    about = json.loads((checkout.result / "run.json").read_text())
    assert len(about["git"]["commit"]) == 40
    assert about["git"]["dirty"] is False
    file = checkout.path / "experiments/decay.py"
    file.write_text(file.read_text().replace("config.ratio **", "0 + config.ratio **"))
    main(RUN)
    about = json.loads((checkout.result / "run.json").read_text())
    assert about["git"]["dirty"] is True


def test_the_resolved_config_loads_back_to_the_same_run(checkout):
    from adlab.lab import config

    main([*RUN, "--ratio", "0.25", "--widths", "3", "4"])
    folder = checkout.result
    resolved = tomllib.loads((folder / "config.toml").read_text())
    assert resolved["experiment"] == "decay"
    assert (resolved["ratio"], resolved["widths"]) == (0.25, [3, 4])
    file = checkout.path / "experiments/decay.py"
    assert config.load(folder / "config.toml", experiment_file=file).key == folder.name


def test_the_second_run_computes_nothing_and_still_shows_the_table(checkout, capsys):
    main(RUN)
    capsys.readouterr()
    assert main(RUN) == 0
    shown = capsys.readouterr().out
    assert checkout.computed == ["first", "second"]
    assert f"already done: results/{checkout.result.name}, nothing computed" in shown
    assert "2 of 2 hold" in shown


@pytest.mark.usefixtures("checkout")
@pytest.mark.usefixtures("real_figures")
def test_the_same_config_gives_the_same_bytes():
    main([*RUN, "--out", "one"])
    main([*RUN, "--out", "two"])
    one, two = (next(Path(name).iterdir()) for name in ("one", "two"))
    names = ("data.npz", "timings.npz", "config.toml", "verdicts.json", "derived.json")
    for name in (*names, *(f"figures/decay.{kind}" for kind in ("svg", "pdf", "png"))):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    done, again = (integrity.read_done(folder).model_dump() for folder in (one, two))
    assert done["files"].pop("run.json") != again["files"].pop("run.json")  # it has the times
    assert done == again


def test_profiles_and_overrides_have_folders_of_their_own(checkout):
    for flags in ([], ["--profile", "smoke"], ["--num-steps", "5"], ["--profile", "smoke"]):
        assert main([*RUN, *flags]) == 0
    assert len(checkout.results) == 3
    assert len(checkout.computed) == 6


def test_force_runs_anyway(checkout):
    main(RUN)
    assert main([*RUN, "--force"]) == 0
    assert checkout.computed == ["first", "second"] * 2
    assert {p.name for p in checkout.result.iterdir()} == FILES


def test_changed_sources_make_a_run_stale(checkout, capsys):
    main(RUN)
    file = checkout.path / "experiments/decay.py"
    file.write_text(file.read_text().replace("config.ratio **", "0 + config.ratio **"))
    capsys.readouterr()
    main(["show", "decay"])
    assert "state     stale: sources or versions changed since" in capsys.readouterr().out
    assert main(RUN) == 0
    assert "is stale: sources or versions changed since; running again" in capsys.readouterr().out
    assert checkout.computed == ["first", "second"] * 2
    main(["show", "decay"])
    assert "state     current" in capsys.readouterr().out


def test_other_versions_make_a_run_stale(checkout, monkeypatch):
    from adlab.lab import provenance

    main(RUN)
    monkeypatch.setattr(provenance, "versions", lambda _: {"jax": "99"})
    main(RUN)
    assert checkout.computed == ["first", "second"] * 2


def test_an_interrupted_run_resumes_after_its_last_stage(checkout, capsys):
    (checkout.path / "interrupt-second").touch()
    assert main(RUN) == 130
    told = capsys.readouterr().err
    assert told == (
        "interrupted; finished stages are kept, to resume: adlab run configs/decay.toml\n"
    )
    assert checkout.results == []
    (partial,) = (p for p in (checkout.path / "results").iterdir() if p.is_dir())
    assert partial.name.startswith(".partial-decay-")
    assert not (partial / "DONE").exists()
    assert main(["show", "decay"]) == 2  # nothing to show yet
    (checkout.path / "interrupt-second").unlink()
    assert main(RUN) == 0
    assert checkout.computed == ["first", "second", "second"]
    assert "first: taken from the interrupted run" in capsys.readouterr().out
    assert {p.name for p in checkout.result.iterdir()} == FILES


def test_a_resumed_run_has_the_same_data_and_keeps_its_seconds(checkout):
    main([*RUN, "--out", "whole"])
    (checkout.path / "interrupt-second").touch()
    main(RUN)
    (checkout.path / "interrupt-second").unlink()
    main(RUN)
    whole = next(Path("whole").iterdir())
    for name in ("data.npz", "timings.npz", "figures/decay.svg"):
        assert (whole / name).read_bytes() == (checkout.result / name).read_bytes()


def test_stages_of_other_sources_are_not_resumed(checkout, capsys):
    (checkout.path / "interrupt-second").touch()
    main(RUN)
    (checkout.path / "interrupt-second").unlink()
    file = checkout.path / "experiments/decay.py"
    file.write_text(file.read_text().replace("config.ratio **", "0 + config.ratio **"))
    main(RUN)
    assert checkout.computed == ["first", "second"] * 2
    assert "the sources changed since the interrupted run: starting anew" in capsys.readouterr().out


def test_force_starts_an_interrupted_run_anew(checkout):
    (checkout.path / "interrupt-second").touch()
    main(RUN)
    (checkout.path / "interrupt-second").unlink()
    assert main([*RUN, "--force"]) == 0
    assert checkout.computed == ["first", "second"] * 2


def test_an_interrupted_rerun_leaves_the_old_result_in_place(checkout):
    main(RUN)
    before = (checkout.result / "run.json").read_bytes()
    (checkout.path / "interrupt-second").touch()
    assert main([*RUN, "--force"]) == 130
    assert (checkout.result / "run.json").read_bytes() == before
    assert main(RUN) == 0  # the old one is still done


def test_a_half_written_folder_is_set_aside_and_never_taken_for_done(checkout, capsys):
    main(RUN)
    folder = checkout.result
    (folder / "DONE").unlink()
    (folder / "notes.txt").write_text("mine")
    capsys.readouterr()
    assert main(RUN) == 0
    told = capsys.readouterr().out
    assert f"results/{folder.name} is incomplete (no DONE): moved to" in told
    assert checkout.computed == ["first", "second"] * 2
    assert (folder.with_name(f"{folder.name}.aside-1") / "notes.txt").read_text() == "mine"
    assert (folder / "DONE").exists()


def test_files_of_the_user_survive_a_rerun(checkout, capsys):
    main(RUN)
    folder = checkout.result
    (folder / "notes.txt").write_text("mine")
    assert main([*RUN, "--force"]) == 0
    assert "files that aren't the lab's: the older run is now" in capsys.readouterr().out
    assert (folder.with_name(f"{folder.name}.aside-1") / "notes.txt").read_text() == "mine"
    assert {p.name for p in folder.iterdir()} == FILES


def test_a_crash_between_the_two_renames_loses_nothing(checkout):
    main(RUN)
    folder = checkout.result
    place = store.Place(folder.parent, folder.name)
    folder.rename(place.retired)
    assert main(RUN) == 0
    assert [p.name for p in (checkout.path / "results").iterdir()] == [folder.name]


def test_the_older_run_is_there_until_the_newer_has_its_place(tmp_path, monkeypatch):
    place = store.Place(tmp_path, "toy-1")
    stamps = {new: {"computed": new, "versions": {}, "config": "1"} for new in ("old", "new")}
    for folder, content in ((place.final, "old"), (place.partial, "new")):
        folder.mkdir()
        integrity.seal(folder, stamps[content])
    rename = Path.rename

    def failing(self, target):
        if self == place.partial:
            raise OSError("the disk is gone")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="the disk is gone"):
        store.publish(place)
    monkeypatch.undo()
    assert store.state(place.retired, stamps["old"]) == "done"
    store.recover(place)
    assert store.state(place.final, stamps["new"]) == "done"
    assert [path.name for path in tmp_path.iterdir()] == ["toy-1"]


def test_a_folder_that_cannot_be_written_is_told_before_computing(checkout, capsys):
    (checkout.path / "results").write_text("a file")
    assert main(RUN) == 1
    assert capsys.readouterr().err == (
        "error: cannot write results to results: Not a directory; "
        "choose another folder with --out DIR\n"
    )
    assert main([*RUN, "--out", "results/below"]) == 1
    assert "cannot write results to results/below: Not a directory" in capsys.readouterr().err
    assert checkout.computed == []


def test_one_process_at_a_time_holds_a_run(checkout, capsys):
    from adlab.lab import config

    place = store.Place(Path("results"), config.load("configs/decay.toml").key)
    with store.hold(place):
        assert main(RUN) == 1
    told = capsys.readouterr().err
    assert told == (
        f"error: {place.final} is being computed by process {os.getpid()}; wait for it or end it\n"
    )
    assert checkout.computed == []
    assert list(place.out.iterdir()) == []  # nothing left behind
    (place.out / f".lock-{place.key}").write_text("999999\n")  # its process died
    assert main(RUN) == 0


def test_a_killed_run_is_no_result_and_the_next_one_completes(checkout):
    file = checkout.path / "experiments/decay.py"
    whole = file.read_text()
    deadly = "import os, signal\n        os.kill(os.getpid(), signal.SIGKILL)"
    killed = whole.replace("raise KeyboardInterrupt", deadly)
    file.write_text(killed)
    (checkout.path / "interrupt-second").touch()
    done = subprocess.run([sys.executable, "-m", "adlab.lab.cli", *RUN], capture_output=True)
    assert done.returncode < 0
    assert checkout.results == []
    (checkout.path / "interrupt-second").unlink()
    assert main(RUN) == 0
    assert checkout.computed == ["first", "second", "second"]
    assert [p.name for p in (checkout.path / "results").iterdir()] == [checkout.result.name]


def test_an_error_in_the_experiment_is_short_and_the_log_has_the_traceback(checkout, capsys):
    (checkout.path / "break-second").touch()
    assert main(RUN) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith(
        "error: decay: ValueError: the simulator is out of order (experiments/decay.py:"
    )
    assert told[0].endswith(", in compute)")
    assert told[1].startswith("  traceback in results/.partial-decay-")
    log = Path(told[1].split(" in ")[1])
    assert "Traceback (most recent call last)" in log.read_text()
    (checkout.path / "break-second").unlink()
    assert main(RUN) == 0
    assert checkout.computed == ["first", "second", "second"]


def test_a_failing_plot_keeps_the_data(checkout, capsys):
    (checkout.path / "break-plot").touch()
    assert main(RUN) == 1
    captured = capsys.readouterr()
    assert "error: decay: ValueError: no paper (experiments/decay.py:" in captured.err
    assert "the data are stored; after mending: adlab plot results/decay-" in captured.err
    assert "2 of 2 hold" in captured.out
    assert not (checkout.result / "figures").exists()
    (checkout.path / "break-plot").unlink()
    assert main(["plot", "decay"]) == 0
    assert checkout.computed == ["first", "second"]
    assert {p.suffix for p in (checkout.result / "figures").iterdir()} == {".svg", ".pdf", ".png"}


@pytest.mark.usefixtures("real_figures")
def test_plot_draws_the_same_from_stored_data_and_computes_nothing(checkout, monkeypatch):
    monkeypatch.setattr("adlab.figures.style.FORMATS", ("svg",))
    main(RUN)
    folder = checkout.result
    before = (folder / "figures/decay.svg").read_bytes()
    file = checkout.path / "experiments/decay.py"
    file.write_text(file.read_text() + "\ndef run(config, progress):\n    raise SystemError\n")
    (folder / "figures/decay.svg").unlink()
    assert main(["plot", folder.name[:8]]) == 0
    assert (folder / "figures/decay.svg").read_bytes() == before
    assert checkout.computed == ["first", "second"]


def test_the_language_is_not_part_of_the_run(checkout, capsys):
    main(RUN)
    capsys.readouterr()
    assert main([*RUN, "--lang", "ru"]) == 0
    shown = capsys.readouterr().out
    assert "утверждение" in shown
    assert "верно" in shown
    assert "уже посчитано" in shown
    english, russian = (checkout.result / "figures" / name for name in ("", "ru"))
    assert {p.name for p in russian.iterdir()} == {"decay.svg", "decay.pdf", "decay.png"}
    assert {p.name for p in english.iterdir()} == {"decay.svg", "decay.pdf", "decay.png", "ru"}
    main(["show", "decay", "--lang", "en"])
    assert "two-point estimate" in capsys.readouterr().out


def test_failing_verdicts_keep_the_data(checkout, capsys):
    file = checkout.path / "experiments/decay.py"
    whole = file.read_text()
    file.write_text(whole + "\ndef verdicts(data, config):\n    return 1 / 0\n")
    assert main(RUN) == 1
    assert "error: decay: ZeroDivisionError: division by zero" in capsys.readouterr().err
    assert main(RUN) == 1  # said again, not passed over as done
    capsys.readouterr()
    file.write_text(whole)
    assert main(["plot", "decay"]) == 0
    assert main(["show", "decay"]) == 0
    assert "2 of 2 hold" in capsys.readouterr().out
    assert checkout.computed == ["first", "second"]


@pytest.mark.usefixtures("checkout")
def test_check_asks_for_every_verdict(capsys):
    assert main([*RUN, "--check"]) == 0
    assert main([*RUN, "--profile", "wrong"]) == 0
    assert "1 of 2 hold (1 fails)" in capsys.readouterr().out
    assert main([*RUN, "--profile", "wrong", "--check"]) == 1


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("width", [80, 120])
def test_the_table_is_aligned_and_fits(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    main(RUN)
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("claim"))
    assert max(len(line) for line in lines[start : start + 4]) <= width
    at = lines[start].index("outcome")
    assert [line[at : at + 5] for line in lines[start + 2 : start + 4]] == ["holds", "holds"]
    assert "[0.490, 0.510]" in lines[start + 2]
    assert "<= 2" in lines[start + 3]


def test_claims_are_shown_as_they_are_written(checkout, capsys):
    file = checkout.path / "experiments/decay.py"
    claim = "[n=100] f(x) :smile: [bold]not markup[/bold]"
    own = f"return [lab.Verdict({claim!r}, 1, 1, 1, 1, 0)]"
    file.write_text(file.read_text() + f"\ndef verdicts(data, config):\n    {own}\n")
    main(RUN)
    assert claim in capsys.readouterr().out


def test_the_config_of_a_result_runs_again_to_the_same_result(checkout, capsys):
    main([*RUN, "--ratio", "0.25"])
    capsys.readouterr()
    assert main(["run", str(checkout.result / "config.toml")]) == 0
    assert "already done" in capsys.readouterr().out


def test_a_claim_whose_label_is_gone_is_shown_as_it_was(checkout, capsys):
    main(RUN)
    folder = checkout.result
    file = folder / "verdicts.json"
    file.write_text(file.read_text().replace("method.two_point", "method.of_old"))
    made = integrity.Made(code="of old", files=integrity.hashes(folder, [file.name]))
    integrity.write_sheet(folder / "derived.json", integrity.Derived(verdicts=made))
    capsys.readouterr()
    assert main(["show", "decay", "--lang", "ru"]) == 0
    assert "two-point estimate" in capsys.readouterr().out


def test_a_result_without_its_experiment_can_be_shown_but_not_drawn(checkout, capsys):
    main(RUN)
    (checkout.path / "experiments/decay.py").unlink()
    capsys.readouterr()
    assert main(["show", "decay"]) == 0
    assert "state     unknown: its experiment isn't here" in capsys.readouterr().out
    assert main(["plot", "decay"]) == 1
    assert capsys.readouterr().err == (
        f"error: no experiment 'decay' in {checkout.path / 'experiments'}: name the folder that "
        "has it, --experiments DIR; its code will be run\n"
    )


def test_a_result_is_drawn_after_the_checkout_moved(checkout, monkeypatch):
    main(RUN)
    moved = checkout.path.with_name(f"{checkout.path.name}-moved")
    checkout.path.rename(moved)
    monkeypatch.chdir(moved)
    assert main(["plot", "decay", "--experiments", "experiments"]) == 0


@pytest.mark.usefixtures("checkout")
def test_show_tells_where_a_result_comes_from(capsys):
    main(RUN)
    capsys.readouterr()
    assert main(["show", "decay"]) == 0
    shown = capsys.readouterr().out
    for part in (
        "2 of 2 hold",
        "seed      0, x64 false",
        "numpy ",
        "outside git",
        "state     current",
    ):
        assert part in shown


def test_results_are_found_by_prefix(checkout, capsys):
    main(RUN)
    main([*RUN, "--profile", "smoke"])
    first, second = (p.name for p in checkout.results)
    capsys.readouterr()
    assert main(["show", first[:10]]) == 0
    assert main(["show", f"results/{second}"]) == 0
    capsys.readouterr()
    assert main(["show", "dekay"]) == 2
    told = f"no result 'dekay' in results; did you mean 'decay'? (there: {first}, {second})"
    assert capsys.readouterr().err == f"error: {told}\n"
    assert main(["show", "x", "--results", "nowhere"]) == 2
    assert capsys.readouterr().err == "error: no result 'x' in nowhere (there are none)\n"


@pytest.mark.usefixtures("checkout")
def test_export_writes_every_array_in_long_form(capsys):
    main([*RUN, "--profile", "smoke"])
    capsys.readouterr()
    assert main(["export", "decay"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert rows[1] == {"array": "terms", "index_0": "1", "value": "0.5"}
    assert len(rows) == 4 + 3
    assert main(["export", "decay", "--out", "curves.csv"]) == 0
    assert Path("curves.csv").read_text().startswith("array,index_0,value\nterms,0,1.0\n")
    assert main(["export", "decay", "--out", "no/such/curves.csv"]) == 2
    assert "cannot write no/such/curves.csv: No such file" in capsys.readouterr().err


def test_export_prefers_the_experiments_own_table(checkout, capsys):
    file = checkout.path / "experiments/decay.py"
    rows = [{"oracle_calls": 2, "value": 0.5}, {"note": "x"}]
    file.write_text(file.read_text() + f"\ndef table(data, config):\n    return {rows}\n")
    main(RUN)
    capsys.readouterr()
    main(["export", "decay"])
    assert capsys.readouterr().out == "oracle_calls,value,note\n2,0.5,\n,,x\n"


def test_long_form_covers_scalars_matrices_and_text():
    from adlab.lab import report

    data = {"s": np.array(1), "m": np.array([[1.5], [2.5]]), "t": np.array(["a"])}
    assert report.to_csv(report.long_rows(data)) == (
        "array,index_0,index_1,value\ns,,,1\nm,0,0,1.5\nm,1,0,2.5\nt,0,,a\n"
    )


def test_x64_is_set_for_the_run_and_only_for_it(checkout):
    import jax

    checkout.experiment(
        "precise",
        '''"""The precision that jax computes in."""
import jax.numpy as jnp
from adlab import lab
Config = lab.ExperimentConfig
def run(config, progress): return {"one": jnp.ones(())}
def verdicts(data, config): return []
def plot(data, config): return {}
''',
    )
    checkout.config("precise", "")
    assert main(["run", "configs/precise.toml", "--out", "single"]) == 0
    assert main(["run", "configs/precise.toml", "--x64", "--out", "double"]) == 0
    dtypes = [
        store.read_arrays(next(Path(out).iterdir()) / "data.npz")["one"].dtype
        for out in ("single", "double")
    ]
    assert dtypes == [np.float32, np.float64]
    assert jax.config.jax_enable_x64 is False


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ("[1, 2]", "TypeError: expected a dict of arrays, got list"),
        (
            "{'a': object()}",
            "TypeError: `a` must be an array of numbers or strings, got dtype object; "
            "cast it first, say to float32",
        ),
        (
            "{'a': __import__('jax.numpy').numpy.ones(2, 'bfloat16')}",
            "TypeError: `a` must be an array of numbers or strings, got dtype bfloat16; "
            "cast it first, say to float32",
        ),
    ],
)
def test_a_run_that_returns_no_arrays_is_refused(checkout, capsys, result, told):
    file = checkout.path / "experiments/decay.py"
    file.write_text(file.read_text() + f"\ndef run(config, progress):\n    return {result}\n")
    assert main(RUN) == 1
    assert f"error: decay: {told}" in capsys.readouterr().err


def test_arrays_come_back_as_they_were(tmp_path):
    arrays = {
        "file": np.arange(3, dtype=np.int8),
        "a/b": np.array(2.5, np.float32),
        "empty": np.zeros((0, 2)),
        "text": np.array(["я", "b"]),
        "fortran": np.asfortranarray(np.eye(3)),
        "complex": np.array([1j]),
    }
    store.write_arrays(tmp_path / "a.npz", arrays)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    back = store.read_arrays(tmp_path / "a.npz")
    assert list(back) == list(arrays)
    for key, array in arrays.items():
        np.testing.assert_array_equal(back[key], array, strict=True)


def test_nothing_is_ever_pickled(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle=False"):
        store.write_arrays(tmp_path / "a.npz", {"a": np.array([object()])})
    assert not (tmp_path / "a.npz").exists()


def test_the_library_runs_what_the_shell_runs(checkout):
    folder = lab.run("configs/decay.toml", profile="smoke", overrides={"ratio": 0.25}, out="o")
    assert folder.parent == Path("o")
    assert store.read_arrays(folder / "data.npz")["terms"].tolist() == [1, 1 / 4, 1 / 16, 1 / 64]
    assert lab.run("configs/decay.toml", profile="smoke", overrides={"ratio": 0.25}, out="o")
    assert checkout.computed == ["first", "second"]
    (checkout.path / "break-plot").touch()
    with pytest.raises(LabError, match="no paper"):
        lab.run("configs/decay.toml", out="o")


def test_silent_progress_shows_and_keeps_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    progress = lab.Progress.silent()
    assert progress.stage("a", lambda: {"x": [1, 2]})["x"].tolist() == [1, 2]
    progress.update(1, 2)
    with pytest.raises(ValueError, match="stage name must be new in a run, got 'a' again"):
        progress.stage("a", dict)
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_stages_are_kept_apart_whatever_their_names(tmp_path):
    names = ["a b", "a_b", "a/b", "ß", "x" * 300, ""]
    first = lab.Progress(tmp_path)
    for number, name in enumerate(names):
        first.stage(name, lambda number=number: {"n": number})
    again = lab.Progress(tmp_path)
    kept = [int(again.stage(name, lambda: pytest.fail("computed again"))["n"]) for name in names]
    assert kept == list(range(len(names)))


def test_seconds_add_up_and_survive_a_resume(tmp_path):
    def spend(progress):
        for name in ("a", "b"):
            progress.stage(name, lambda: progress.seconds("fit", compile=1, run=2) or {})

    first, again = lab.Progress(tmp_path), lab.Progress(tmp_path)
    spend(first)
    spend(again)
    assert first.spent == again.spent == {"fit": {"compile": 2.0, "run": 4.0}}


def test_a_terminal_gets_a_bar_and_a_file_gets_lines(monkeypatch):
    from rich.console import Console

    monkeypatch.setenv("TERM", "xterm")  # a dumb one gets no bar

    def shown(terminal):
        text = io.StringIO()
        progress = lab.Progress(console=Console(file=text, force_terminal=terminal, width=80))

        def compute():
            progress.update(3, 4, "f = 0.5 [x]")
            return {}

        progress.stage("descent [n=100]", compute)
        return text.getvalue()

    lines = r"  descent \[n=100\] \.\.\.\n  descent \[n=100\]: done in \d+\.\d s\n"
    assert re.fullmatch(lines, shown(False))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "f = 0.5 [x]" in shown(True)


def test_list_shows_claims_profiles_and_commands(checkout, capsys):
    checkout.config("orphan", "")
    checkout.config("broken", "a = ")
    checkout.config("twin", 'experiment = "decay"')
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert (
        "decay\n  Powers of one half decay with ratio 1/2.\n"
        "  adlab run configs/decay.toml\n"
        "  adlab run configs/decay.toml --profile smoke\n"
        "  adlab run configs/decay.toml --profile wrong\n"
    ) in shown
    assert "orphan\n  (no experiment 'orphan' in experiments)\n" in shown
    assert "broken\n  (unreadable: " in shown
    assert "twin\n  Powers of one half" in shown
    (checkout.path / "deep/er").mkdir(parents=True)
    assert main(["list", "deep/er"]) == 0
    assert capsys.readouterr().out == shown


def test_an_experiment_may_be_a_package(checkout, capsys):
    folder = checkout.path / "experiments/parts"
    folder.mkdir()
    text = (checkout.path / "experiments/decay.py").read_text()
    head = '"""Many files, one claim."""\nfrom .body import Config, plot, run, verdicts\n'
    (folder / "body.py").write_text(text)
    (folder / "__init__.py").write_text(head)
    path = str(checkout.config("parts", ""))
    assert main(["run", path]) == 0
    assert "parts-" in checkout.result.name
    assert checkout.computed == ["first", "second"]
    main(["list"])
    assert "parts\n  Many files, one claim.\n" in capsys.readouterr().out
    (folder / "body.py").write_text(text.replace("config.ratio **", "2 * config.ratio **"))
    assert main(["show", "parts"]) == 0
    assert "state     stale" in capsys.readouterr().out
    assert main(["run", path]) == 0
    assert store.read_arrays(checkout.result / "data.npz")["terms"][0] == 2
    (checkout.path / "break-second").touch()
    assert main(["run", path, "--force"]) == 1
    assert "(experiments/parts/body.py:" in capsys.readouterr().err
    with pytest.raises(LabError, match=r"no experiment 'prts'.*did you mean 'parts'"):
        lab.run(checkout.config("prts", ""))


def test_list_outside_a_checkout_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["list"]) == 0
    told = capsys.readouterr().out
    assert "no configs/ beside experiments/ in" in told
    assert "go to the folder that it was" in told


LIGHT = """
import sys
from adlab.lab.cli import main
for command in sys.argv[1:]:
    code = main(command.split())
    heavy = {"jax", "numpy", "matplotlib", "pydantic"} & set(sys.modules)
    assert not heavy, (command, heavy)
    print(f"{command}: {code}")
"""


@pytest.mark.usefixtures("checkout")
def test_light_commands_import_nothing_heavy():
    commands = ["--help", "list", "run --help", "--version"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LIGHT, *commands], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    rest = done.stdout
    for command in commands:
        shown, _, rest = rest.partition(f"{command}: 0\n")
        assert "adlab" in shown, command
    assert shown == f"adlab {adlab.__version__}\n"


def test_the_lab_shows_its_names_and_no_others():
    assert dir(lab) == sorted(lab.__all__)
    assert all(getattr(lab, name) is not None for name in lab.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'verdicts'"):
        lab.verdicts  # noqa: B018


def test_a_config_error_answers_before_any_device_starts(checkout):
    path = checkout.config("bad", 'experiment = "decay"\nnum_step = 0\n')
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "adlab.lab.cli", "run", str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "no_such_device"},
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: configs/bad.toml: 1 problem\n"
        "  unknown key `num_step`; did you mean `num_steps`? "
        "(known: labels, memory_limit, num_steps, ratio, seed, widths, x64)\n"
    )


@pytest.mark.usefixtures("checkout")
def test_a_pipe_that_is_closed_ends_quietly(checkout):
    broken = "def closed(command): raise BrokenPipeError\ncli._list = closed\n"
    code = f"import sys\nfrom adlab.lab import cli\n{broken}sys.exit(cli.main(['list']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=checkout.path)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("argv", [[], ["shw"], ["run"], ["show"], [*RUN, "--lang", "de"]])
def test_wrong_commands_exit_with_2(argv, capsys):
    assert main(argv) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.usefixtures("checkout")
def test_an_override_that_is_no_flag_is_refused(capsys):
    assert main([*RUN, "extra"]) == 2
    assert main(["run", "--num-steps", "5", "configs/decay.toml"]) == 2
    assert main([*RUN, "--num-steps", "0"]) == 2
    assert capsys.readouterr().err.endswith("`num_steps` must be >= 1, got 0\n")
