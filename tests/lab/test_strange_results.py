"""Results that somebody else wrote or broke: each takes one line, and hides nothing else."""

import errno
import json
import os
from pathlib import Path

import pytest

from adlab.lab import integrity, listing, results, store
from adlab.lab.cli import main

RUN = ["run", "configs/decay.toml"]
pytestmark = pytest.mark.usefixtures("quick_figures")


@pytest.fixture
def result(checkout):
    """Return the folder of a result, relative to the current one."""
    assert main(RUN) == 0
    return checkout.result.relative_to(checkout.path)


def seal(folder):
    """Let DONE vouch for the files as they are now."""
    done = integrity.read_done(folder)
    files = integrity.hashes(folder, done.files)
    integrity.write_sheet(folder / "DONE", done.model_copy(update={"files": files}))


def said(capsys, *argv):
    """Run a command, and return its exit code and what it prints; nothing is called a bug."""
    capsys.readouterr()
    code = main(list(argv))
    out, err = capsys.readouterr()
    assert "bug of adlab" not in err, (argv, err)
    assert err.count("\n") <= 2, (argv, err)
    return code, out + err


def record(folder, **changes):
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(about | changes))


NONSENSE = [
    {"seconds": {"total": 1.0, "attempts": "x"}},
    {"seconds": {"total": 1.0, "attempts": {}}},
    {"seconds": {"total": 10**400}},
    {"finished": "9999-12-31T23:59:59-23:00"},
    {"finished": "0001-01-01T00:00:00+23:00"},
    {"files": {"config": "a" * 9000, "plugins": ["a" * 9000]}},
    {"files": 3},
    {"experiment": "../../x"},
]


@pytest.mark.parametrize("changes", NONSENSE, ids=lambda changes: "-".join(changes))
def test_a_record_of_nonsense_is_told_in_a_line(result, capsys, changes):
    record(result, **changes)
    seal(result)
    assert said(capsys, "list")[0] == 0
    code, text = said(capsys, "results")
    assert code == 0
    assert result.name in text
    said(capsys, "show", "decay")


@pytest.mark.parametrize("broken", ["run.json", "config.toml", "DONE"])
def test_a_broken_result_hides_no_other(result, capsys, broken):
    assert main([*RUN, "--profile", "smoke"]) == 0
    (result / broken).unlink()
    (result / broken).mkdir()
    code, text = said(capsys, "results")
    assert code == 0
    assert "smoke" in text
    assert ("damaged" in text) == (broken != "DONE")  # which makes a folder a result at all


@pytest.mark.parametrize(
    "name", ["run.json", "config.toml", "data.npz", "DONE", "verdicts.json", "derived.json"]
)
def test_a_pipe_is_no_file_and_isnt_waited_for(result, capsys, name):
    (result / name).unlink()
    os.mkfifo(result / name)
    for command in (["results"], ["list"]):
        assert said(capsys, *command)[0] == 0
    said(capsys, "show", "decay")
    assert said(capsys, *RUN, "--check")[0] == 0
    assert results.currency(result) == "current"


@pytest.mark.parametrize(
    "name", ["verdicts.json", "derived.json", "log.txt", "figures/decay.svg", "figures/ru"]
)
def test_what_stands_in_the_way_of_what_is_made_again_is_put_aside(result, capsys, name):
    langs = ["--lang", "en,ru"]
    main(["plot", "decay", *langs])
    path = result / name
    if name == "figures/ru":  # a file instead of a folder, else the other way round
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
        path.write_text("mine")
    else:
        path.unlink()
        path.mkdir()
        (path / "notes.txt").write_text("mine")
    assert said(capsys, *RUN, *langs, "--check")[0] == 0
    assert said(capsys, "plot", "decay", *langs)[0] == 0
    kept = path.with_name(f"{path.name}.aside-1")
    assert (kept if kept.is_file() else kept / "notes.txt").read_text() == "mine"
    assert results.currency(result) == "current"


def test_a_log_that_is_a_link_is_no_way_out_of_the_folder(checkout, result):
    outside = checkout.path / "outside.txt"
    outside.write_text("mine")
    (result / "log.txt").unlink()
    (result / "log.txt").symlink_to(outside)
    (checkout.path / "break-plot").touch()
    assert main(["plot", "decay"]) == 1
    assert outside.read_text() == "mine"
    assert "no paper" in (result / "log.txt").read_text()


@pytest.mark.parametrize("name", ["data.npz", "figures", "a" * 999])
def test_a_sheet_lets_nothing_be_removed_but_figures(result, capsys, name):
    made = integrity.Made(code="old", files={name: "0"})
    sheet = integrity.read_derived(result).model_copy(update={"figures": {"en": made}})
    integrity.write_sheet(result / "derived.json", sheet)
    assert said(capsys, "plot", "decay")[0] == 0
    assert results.currency(result) == "current"


@pytest.mark.parametrize("name", ["", ".", "a\0b"])
def test_a_sheet_names_files(name):
    with pytest.raises(ValueError, match="isn't the name of a file"):
        integrity.Made(code="", files={name: "0"})


@pytest.mark.parametrize(
    "changes", [{"params": 3}, {"params": None}, {"key": []}, {"measured": 10**400}], ids=str
)
def test_verdicts_of_another_form_are_none(result, capsys, changes):
    first, *_ = json.loads((result / "verdicts.json").read_text())
    (result / "verdicts.json").write_text(json.dumps([first | changes]))
    sheet = integrity.read_derived(result)
    made = sheet.verdicts.model_copy(update={"files": integrity.hashes(result, ["verdicts.json"])})
    integrity.write_sheet(result / "derived.json", sheet.model_copy(update={"verdicts": made}))
    assert listing.stored_verdicts(result) is None
    code, text = said(capsys, "show", "decay")
    assert code == 0
    assert "make them again with: adlab plot" in text
    assert said(capsys, "results")[0] == 0


def test_a_date_in_a_results_config_is_no_bug(result, capsys):
    (result / "config.toml").write_text("num_steps = 2024-01-01")
    seal(result)
    assert said(capsys, "results")[0] == 0
    said(capsys, *RUN)


def test_of_figures_that_are_outdated_the_languages_are_told(result):
    main(["plot", "decay", "--lang", "en,ru"])
    (result / "figures" / "ru" / "decay.svg").write_text("")
    told = "current, but verdicts and figures aren't: make them again with "
    assert results.currency(result) == f"{told}adlab plot {result} --lang ru"


@pytest.mark.parametrize("more", [[], ["--out", "slides"]], ids=["within", "elsewhere"])
@pytest.mark.usefixtures("result")
def test_a_disk_that_is_full_while_figures_are_drawn_is_told(capsys, monkeypatch, more):
    def full(*args, **kwargs):
        del args, kwargs
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("adlab.figures.style.save", full)
    monkeypatch.setattr("adlab.lab.files.Log.__call__", full)
    code, text = said(capsys, "plot", "decay", *more)
    assert code == 1
    assert f"cannot write {more[-1] if more else ''}" in text
    assert "No space left on device" in text
    assert "; free some space, or choose another folder with --out DIR" in text


@pytest.mark.usefixtures("result")
def test_where_export_cannot_write_a_remedy_is_told(capsys):
    told = {"none/x.csv": "make its folder first", "results": "name a file, not a folder"}
    for place, remedy in told.items():
        code, text = said(capsys, "export", "decay", "--out", place)
        assert code == 2
        assert text.endswith(f"; {remedy}\n")


@pytest.mark.parametrize("source", [b"x = " + b"-" * 20_000 + b"1", b"x = " + b"+1" * 9_000])
def test_an_experiment_that_cannot_be_read_hides_no_result(checkout, result, capsys, source):
    (checkout.path / "experiments" / "decay.py").write_bytes(source)
    code, text = said(capsys, "results")
    assert code == 0
    assert "unknown" in text
    assert result.name in text
    assert said(capsys, "list")[0] == 0
    code, text = said(capsys, "show", "decay")
    assert code == 0
    assert "unknown: its sources can't be read" in text


@pytest.mark.parametrize("kind", [os.mkfifo, os.mkdir])
def test_what_is_no_file_holds_no_labels(checkout, result, capsys, kind):
    kind(checkout.path / "experiments" / "labels.toml")
    for command in (["results"], ["show", "decay"], ["plot", "decay"]):
        assert said(capsys, *command)[0] == 0
    assert results.currency(result) == "current"


def test_a_name_of_the_labs_that_somebody_took_is_told(checkout, result, capsys):
    taken = checkout.path / "results" / f".partial-{result.name}"
    taken.write_text("mine")
    code, text = said(capsys, *RUN, "--force")
    assert code == 1
    assert f"File exists; remove results/{taken.name}, or choose another folder" in text


def test_a_disk_that_is_full_while_data_are_stored_is_told_with_the_file(tmp_path, monkeypatch):
    def full(number):
        del number
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "data.npz"
    with pytest.raises(OSError, match="No space left") as caught:
        store.write_text(path, "words")
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "better"), [("x.csv.gz", "x.csv"), ("x.tar.gz", "x.tar.csv"), ("x.svg", "x.csv")]
)
def test_export_writes_no_csv_under_the_name_of_an_archive_or_a_picture(capsys, name, better):
    code, text = said(capsys, "export", "decay", "--out", name)
    assert code == 2
    assert f"choose {better}; " in text


@pytest.mark.usefixtures("result")
def test_a_folder_of_results_that_cannot_be_read_isnt_called_empty(capsys, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != "results" or not mode)
    for command in (["results"], ["show", "decay"]):
        code, text = said(capsys, *command)
        assert code == 1
        assert "results: Permission denied; change its permissions" in text
    assert said(capsys, "list")[0] == 0


@pytest.mark.usefixtures("result")
def test_list_goes_on_where_experiments_cannot_be_read(capsys, monkeypatch):
    look = Path.stat

    def stat(path, **kwargs):
        if path.name == "decay.py":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return look(path, **kwargs)

    monkeypatch.setattr(Path, "stat", stat)
    code, text = said(capsys, "list")
    assert code == 0
    assert "(no experiment 'decay' in experiments)" in text
