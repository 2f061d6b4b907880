"""A result vouches for its files: what is damaged is refused, or made again, and never taken."""

import io
import json
import random
import re
import zipfile

import numpy as np
import pytest

from adlab.lab import derived, integrity, listing, results, store
from adlab.lab.cli import main
from adlab.lab.errors import LabError

RUN = ["run", "configs/decay.toml"]
pytestmark = pytest.mark.usefixtures("quick_figures")


def flipped(data, rng):
    data = bytearray(data)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def truncated(data, rng):
    return data[: rng.randrange(len(data))]


def zeroed(data, rng):
    at = rng.choice([place for place, byte in enumerate(data) if byte])
    return data[:at] + b"\0" * len(data[at : at + 64]) + data[at + 64 :]


def without_a_member(data, rng, twice=False):
    source, out = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    names = source.namelist()
    chosen = rng.choice(names)
    names = [*names, chosen] if twice else [name for name in names if name != chosen]
    with zipfile.ZipFile(out, "w") as target:
        for name in dict.fromkeys(names):
            target.writestr(name, source.read(name))
    return out.getvalue() + out.getvalue() if twice else out.getvalue()


def with_a_member_twice(data, rng):
    return without_a_member(data, rng, twice=True)


ANY = (flipped, flipped, truncated, zeroed)
ARRAYS = (*ANY, without_a_member, with_a_member_twice)


def made(folder):
    """A finished run's folder, written by the store alone."""
    folder.mkdir()
    for name in ("data.npz", "timings.npz"):
        store.write_arrays(folder / name, {"a": np.arange(9.0), "b": np.array(["x", "y"])})
    store.write_json(folder / "run.json", {"experiment": "toy"})
    store.write_text(folder / "config.toml", 'experiment = "toy"\n')
    integrity.seal(folder, {"computed": "1", "versions": {"numpy": "2"}, "config": "3"})
    return folder


@pytest.mark.parametrize(
    ("name", "count", "kinds"),
    [
        ("data.npz", 60, ARRAYS),
        ("timings.npz", 20, ARRAYS),
        ("DONE", 30, ANY),
        ("run.json", 10, ANY),
        ("config.toml", 10, ANY),
    ],
)
def test_no_damage_to_what_was_computed_is_passed_over(tmp_path, name, count, kinds):
    folder, rng = made(tmp_path / "toy-3"), random.Random(0)
    integrity.require_whole(folder, "adlab run CONFIG --force")
    whole = (folder / name).read_bytes()
    for _ in range(count):
        (folder / name).write_bytes(rng.choice(kinds)(whole, rng))
        with pytest.raises(LabError, match=rf"{name} is damaged or missing; .* --force"):
            integrity.require_whole(folder, "adlab run CONFIG --force")
    (folder / name).unlink()
    with pytest.raises(LabError, match=f"{name} is damaged or missing"):
        integrity.require_whole(folder, "adlab run CONFIG --force")


def test_damaged_arrays_raise_nothing_but_the_labs_own_error(tmp_path):
    """Of a result that has no hashes the checksums of the archive must do."""
    file, rng = made(tmp_path / "toy-3") / "data.npz", random.Random(1)
    whole, refused = file.read_bytes(), 0
    for _ in range(150):
        file.write_bytes(rng.choice(ARRAYS)(whole, rng))
        try:
            store.read_arrays(file)
        except LabError:
            refused += 1
    assert refused > 50


def test_a_sheet_is_read_only_as_it_was_written(tmp_path):
    file = made(tmp_path / "toy-3") / "DONE"
    text = file.read_text()
    for other in (text + "\n", text.replace("  ", " "), text.replace('"1"', '"2"'), "[]", "null"):
        file.write_text(other)
        assert integrity.read_done(file.parent) is None
    file.write_text(text)
    assert integrity.read_done(file.parent).computed == "1"


def test_a_sheet_names_no_file_outside_of_its_folder():
    for name in ("/etc/passwd", "../mine.txt", "figures/../../mine.txt"):
        with pytest.raises(ValueError, match="is outside of the run's folder"):
            integrity.Made(code="1", files={name: "2"})


@pytest.mark.parametrize("name", ["data.npz", "timings.npz", "run.json", "DONE"])
def test_damaged_data_are_refused_and_computed_again(checkout, capsys, name):
    main([*RUN, "--profile", "smoke", "--ratio", "0.25"])
    folder = checkout.result
    true = store.read_arrays(folder / "data.npz")
    (folder / name).write_bytes(b"PK half")
    known = name in ("data.npz", "timings.npz")  # run.json and DONE say how it was run
    again = "configs/decay.toml --profile smoke --ratio 0.25" if known else "results/decay-.*toml"
    again = "CONFIG" if name == "DONE" else again
    for command in ("show", "plot", "export"):
        capsys.readouterr()
        assert main([command, "decay"]) == 1
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith(f"error: {folder.relative_to(checkout.path)}: {name} is damaged")
        assert told.err.count("\n") == 1
        assert re.search(f"with: adlab run {again} --force$", told.err)
    assert main([*RUN, "--profile", "smoke", "--ratio", "0.25"]) == 0
    assert " is damaged (" in capsys.readouterr().out
    assert checkout.computed == ["first", "second"] * 2
    whole, aside = checkout.results
    assert (aside / name).read_bytes() == b"PK half"
    assert store.read_arrays(whole / "data.npz")["terms"].tolist() == true["terms"].tolist()


def test_a_config_that_was_edited_in_a_result_is_written_again(checkout, capsys):
    main(RUN)
    file = checkout.result / "config.toml"
    before = file.read_text()
    file.write_text(before.replace("8", "9"))
    assert main(["plot", "decay"]) == 1
    assert main(RUN) == 0
    assert "config.toml was changed or lost: written again" in capsys.readouterr().out
    assert file.read_text() == before
    assert checkout.computed == ["first", "second"]


@pytest.mark.parametrize("text", ["", '[{"claim"', "[]", "{}", "null", "\0", '[{"claim": "x"}]'])
def test_broken_verdicts_are_derived_again(checkout, capsys, text):
    main(RUN)
    file = checkout.result / "verdicts.json"
    before = file.read_text()
    file.write_text(text)
    capsys.readouterr()
    assert main(["show", "decay"]) == 0
    assert f"make them again with: adlab plot results/{file.parent.name}" in capsys.readouterr().out
    assert main([*RUN, "--check"]) == 0
    assert file.read_text() == before
    assert "2 of 2 hold" in capsys.readouterr().out
    assert checkout.computed == ["first", "second"]


def test_figures_that_are_lost_or_damaged_are_drawn_again(checkout):
    main([*RUN, "--lang", "en,ru"])
    folder = checkout.result
    files = sorted(path for path in folder.glob("figures/**/*") if path.is_file())
    assert len(files) == 6
    for file in files:
        before = file.read_bytes()
        for damage in (file.unlink, lambda file=file: file.write_bytes(b"")):
            damage()
            assert main([*RUN, "--lang", "en,ru"]) == 0
            assert file.read_bytes() == before
    assert checkout.computed == ["first", "second"]


def test_check_fails_where_nothing_was_checked(checkout, capsys):
    file = checkout.path / "experiments/decay.py"
    file.write_text(file.read_text() + "\ndef verdicts(data, config):\n    return []\n")
    assert main(RUN) == 0
    capsys.readouterr()
    assert main([*RUN, "--check"]) == 1
    assert capsys.readouterr().err == (
        "error: --check: decay has no verdicts, so nothing was checked\n"
    )


@pytest.mark.parametrize("part", ["run(config, progress)", "verdicts(data, config)"])
def test_an_exit_of_the_experiments_own_is_a_failure(checkout, capsys, part):
    file = checkout.path / "experiments/decay.py"
    file.write_text(file.read_text() + f"\ndef {part}:\n    raise SystemExit(0)\n")
    assert main([*RUN, "--check"]) == 1
    assert "error: decay: SystemExit: 0 (experiments/decay.py:" in capsys.readouterr().err


def test_an_exit_while_an_experiment_is_imported_is_a_failure(checkout, capsys):
    file = checkout.path / "experiments/decay.py"
    file.write_text(file.read_text() + "\nraise SystemExit(0)\n")
    assert main([*RUN, "--check"]) == 1
    assert "SystemExit: 0" in capsys.readouterr().err


def test_a_result_of_the_older_format_is_stale_and_can_be_read(checkout, capsys):
    main(RUN)
    folder = checkout.result
    (folder / "derived.json").unlink()
    store.write_json(folder / "DONE", {"computed": "1", "derived": "2", "versions": {}})
    capsys.readouterr()
    assert main(["show", "decay"]) == 0
    shown = capsys.readouterr().out
    assert "2 of 2 hold" in shown
    assert "state     stale" in shown
    assert main(["export", "decay"]) == 0
    assert main(RUN) == 0
    assert "is stale: sources or versions changed since; running again" in capsys.readouterr().out
    assert results.currency(checkout.result) == "current"


COLLIDING = (23050, 50414)  # seeds


def test_configs_that_share_eight_digits_have_a_result_each(checkout):
    from adlab.lab import config

    first, second = COLLIDING
    jobs = [config.load("configs/decay.toml", changes={"seed": seed}) for seed in COLLIDING]
    assert jobs[0].key == jobs[1].key
    for _ in range(2):
        assert main([*RUN, "--seed", str(first)]) == 0
        assert main([*RUN, "--seed", str(second)]) == 0
    assert checkout.computed == ["first", "second"] * 2
    runs = checkout.results
    assert [run.name for run in runs] == [jobs[0].key, f"decay-{jobs[1].identity[:16]}"]
    assert [json.loads((run / "run.json").read_text())["seed"] for run in runs] == [first, second]
    assert results.find(jobs[0].key, checkout.path / "results") == runs[0]


@pytest.mark.parametrize("damage", [truncated, flipped, zeroed])
def test_a_damaged_stage_is_computed_again(checkout, capsys, damage):
    (checkout.path / "interrupt-second").touch()
    main(RUN)
    (checkout.path / "interrupt-second").unlink()
    (stage,) = (checkout.path / "results").glob(".partial-*/stages/first-*.npz")
    stage.write_bytes(damage(stage.read_bytes(), random.Random(0)))
    capsys.readouterr()
    assert main(RUN) == 0
    told = "first: what the interrupted run kept of it is damaged; computing it again"
    assert told in capsys.readouterr().out
    assert checkout.computed == ["first", "second", "first", "second"]
    assert derived.arrays(checkout.result)["terms"].tolist() == [0.5**k for k in range(8)]
    assert listing.stored_verdicts(checkout.result)
