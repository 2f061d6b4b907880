"""A run tells what it takes before it starts, and one that takes too much is refused."""

from pathlib import Path

import pytest

from adlab.lab import config, needs, start
from adlab.lab.cli import main
from adlab.lab.errors import ConfigError

ROOT = Path(__file__).parents[2]
PATHS = sorted((ROOT / "configs").glob("*.toml"))
MACHINE = 64 * 2**30  # bytes that are free

HUGE = {
    "bottleneck": [{"sizes": [32, 10**6]}],
    "mode_memory": [{"width": 10**6}, {"lengths": [4, 8, 10**9]}, {"batch_size": 10**9}],
    "second_order_memory": [{"sizes": [10**6, 10**7]}, {"num_examples": 10**9}],
    "taylor_mode": [{"width": 10**6}, {"depth": 10**8}],
    "checkpoint_schedules": [{"width": 10**5}, {"batch_size": 10**9}],
    "differentiation_schemes": [{"batch": 10**9}],
    "elimination_orders": [{"num_graphs": 10**9}, {"batch_size": 10**9}, {"joints": 10**8}],
    "estimator_variance": [{"dim": 10**8}, {"num_draws": 10**9}],
    "feed_forward": [{"hidden": [10**5, 10**5]}, {"batch_size": 10**9}, {"inputs": 10**9}],
    "finite_difference_error": [{"num_points": 10**9}, {"functions": 10**9}, {"starts": 10**9}],
    "gradient_cost": [{"points": 2**40}, {"layers": 10**8}],
    "hessian_spectrum": [{"widths": [10**5] * 3}, {"num_seeds": [10**9, 1]}],
    "hessian_spectrum_cifar10": [{"widths": [10**5] * 3}, {"num_seeds": [10**9]}],
    "hvp_cost": [{"mlp_widths": [10**5]}, {"resnet_widths": [10**5]}],
    "jacobian_modes": [{"outputs": [1, 10**9]}, {"inputs": 10**8}],
    "learned_steps": [{"num_seeds": 10**9}, {"num_starts": 10**9}, {"num_features": 10**6}],
    "linear_algebra_gradients": [{"num_matrices": 10**9}, {"rows": 10**6}],
    "mds": [{"num_seeds": 10**9}, {"cases": [[10**5, 2], [10**4, 2]]}, {"map_seeds": 10**9}],
    "noise_and_step": [{"num_seeds": 10**9}, {"num_points": 10**9}],
    "rates": [{"num_seeds": 10**9}, {"dims": [8, 10**8]}, {"full_dims": [8, 10**8]}],
    "trace_estimation": [{"hidden": 10**5}, {"num_draws": 10**10}],
    "trajectories": [{"num_seeds": 10**9}, {"num_steps": 10**9}],
    "zero_order_finetuning": [{"num_seeds": 10**9}, {"batch_size": 10**9}, {"held_out": 10**9}],
}
SMALL = {"computational_graph", "gpt2_memory"}  # whatever they are asked for


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(needs, "available", lambda: MACHINE)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_experiment_tells_and_every_profile_fits(path):
    for profile in (None, "smoke", "lecture"):
        found = needs.estimate(config.load(path, profile=profile))
        assert found is not None
        assert 0 <= found.peak[1] < 3e9


@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({}, 185e6),  # as the process grew, beside what it held after a run of 100 draws
        ({"num_draws": 10**6, "probes": [4], "estimators": [{"kind": "two_point"}]}, 372e6),
        ({"num_draws": 2000, "dim": 2000, "probes": [], "estimators": [{"kind": "two_point"}]},
         368e6),
    ],
)  # fmt: skip
def test_an_estimate_is_of_the_order_of_what_was_taken(changes, taken):
    (path,) = [each for each in PATHS if each.stem == "estimator_variance"]
    found = needs.estimate(config.load(path, changes=changes))
    assert taken / 2 < found.peak[1] < 2 * taken


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_what_no_machine_has_is_refused_before_anything_is_allocated(path):
    assert (path.stem in HUGE) != (path.stem in SMALL)
    for changes in HUGE.get(path.stem, ()):
        job = config.load(path, changes=changes)
        with pytest.raises(ConfigError) as caught:
            needs.check(job)
        (line,) = caught.value.problems
        (key,) = changes
        assert f"{key} = " in line
        assert "set memory_limit (GB)" in line
        assert len(line) < 300


TOY = '''
"""A toy."""

import numpy as np

from adlab import lab


class Config(lab.ExperimentConfig):
    """A toy."""

    n: int = 10
    m: int = 10


def needs(config):
    sizes = {"n, m": 8_000_000 * config.n * config.m, "m": 8 * config.m}
    return lab.Needs(sizes, evaluations=config.n)


def run(config, progress):
    return {"x": np.ones(3)}


def verdicts(data, config):
    return []


def plot(data, config):
    return {}
'''


@pytest.fixture
def toy(checkout):
    checkout.experiment("toy", TOY)
    checkout.config("toy", "")
    return checkout


@pytest.mark.usefixtures("toy")
def test_a_run_says_what_it_takes_and_refuses_more_than_a_share_of_what_is_free(capsys):
    assert main(["run", "configs/toy.toml"]) == 0
    assert "estimated: arrays of 800 MB, about 10 evaluations\n" in capsys.readouterr().out
    fits = int(needs.SHARE * MACHINE / 8e6 / 10)
    assert main(["run", "configs/toy.toml", "--n", str(fits)]) == 0
    assert main(["run", "configs/toy.toml", "--n", str(fits + 1)]) == 2
    assert capsys.readouterr().err == (
        "error: configs/toy.toml: 1 problem\n"
        f"  n = {fits + 1}, m = 10: arrays of about 55 GB, over the 55 GB of memory that a run may "
        "take here (80% of what is free); lower n or m, or set memory_limit (GB)\n"
    )
    assert main(["run", "configs/toy.toml", "--n", "9" * 400]) == 2
    assert "arrays of about over 1e+09 GB" in capsys.readouterr().err


@pytest.mark.usefixtures("toy")
def test_a_limit_of_its_own_is_obeyed_and_leaves_the_result_the_same(capsys):
    plain = config.load("configs/toy.toml")
    assert main(["run", "configs/toy.toml", "--memory-limit", "0.5"]) == 2
    assert "over the 500 MB of memory_limit" in capsys.readouterr().err
    limited = config.load("configs/toy.toml", changes={"memory_limit": 1e6, "n": 10})
    assert limited.key == plain.key
    assert "memory_limit" not in limited.resolved
    assert "about 100 evaluations" in str(
        start.check(config.load("configs/toy.toml", changes={"n": 100, "m": 1}))
    )
    assert main(["run", "configs/toy.toml", "--memory-limit", "1e6", "--n", "10000"]) == 0


@pytest.mark.usefixtures("toy")
def test_a_finished_run_is_found_however_little_is_free(monkeypatch):
    assert main(["run", "configs/toy.toml"]) == 0
    monkeypatch.setattr(needs, "available", lambda: 1)
    assert main(["run", "configs/toy.toml"]) == 0
    assert main(["run", "configs/toy.toml", "--force"]) == 2


def test_nonsense_from_an_experiment_is_told(toy, capsys):
    for returned, told in {
        "3": "TypeError: needs must return lab.Needs, got int",
        'lab.Needs({"n": float("nan")})': "ValueError: bytes must be >= 0",
        'lab.Needs({"n": -1})': "ValueError: bytes must be >= 0",
        'lab.Needs({"n": 1.5 * 10**400})': "its numbers are too large for any machine",
    }.items():
        toy.experiment("toy", TOY + f"\n\ndef needs(config):\n    return {returned}\n")
        assert main(["run", "configs/toy.toml"]) == 2
        assert told in capsys.readouterr().err


def test_what_is_free_is_the_least_of_machine_and_container(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(needs, "_CGROUP", tmp_path)
    monkeypatch.setattr(needs, "_MEMINFO", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    4000 kB\n")
    assert needs.available() == 4000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("3000\n")
    assert needs.available() == 4000 * 1024
    (tmp_path / "memory.max").write_text("10000\n")
    assert needs.available() == 7000
    (tmp_path / "memory.stat").write_text("anon 2500\ninactive_file 500\n")
    assert needs.available() == 7500
    (tmp_path / "memory.max").write_text("10000\n")
    (tmp_path / "memory.current").write_text("20000\n")
    assert needs.available() == 0
