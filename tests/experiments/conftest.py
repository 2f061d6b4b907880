"""The smoke runs that several tests look at."""

from pathlib import Path

import jax
import numpy as np
import pytest

from adlab.figures import style
from adlab.figures.finish import finish
from adlab.lab import config as configs
from adlab.lab import headings, results, runner, start, store

ROOT = Path(__file__).parents[2]
# A config of another name than its experiment's needs data that aren't everywhere.
NAMES = {path.name for path in (ROOT / "experiments").iterdir()}
CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.toml") if path.stem in NAMES)


# One function writes the files of all figures. What can fail in one kind of file alone, such as
# images in a vector format, this one has; the others are written as SVG only.
ALL_FORMATS = ("checkpoint_schedules",)


@pytest.fixture(scope="session", params=CONFIGS, ids=lambda path: path.stem)
def config_file(request):
    """Return a config whose experiment can run anywhere."""
    return request.param


@pytest.fixture(scope="session")
def first_job(config_file):
    """Load the smoke profile: its module keeps the programs that the run compiles."""
    return configs.load(config_file, profile="smoke")


@pytest.fixture(scope="session")
def smoke(config_file, first_job, tmp_path_factory):
    """Run the smoke profile of a config once; return the config and the run's folder."""
    out = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        if config_file.stem not in ALL_FORMATS:
            patch.setattr(style, "FORMATS", ("svg",))
        result = runner.execute(first_job, out)
    assert not result.problems
    return config_file, result.folder


@pytest.fixture(scope="session")
def formats(smoke):
    """Return the endings of the files of a smoke run's figures."""
    return style.FORMATS if smoke[0].stem in ALL_FORMATS else ("svg",)


@pytest.fixture(scope="session")
def job(smoke):
    """Load the smoke profile once more, as a later process would; importing it draws nothing."""

    def refuse(*args):
        raise AssertionError(f"drawn as the experiment is imported: {args}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "default_rng", refuse)
        patch.setattr(jax.random, "key", refuse)
        return configs.load(smoke[0], profile="smoke")


@pytest.fixture(scope="session")
def drawn(smoke, job, tmp_path_factory):
    """Draw a run again from its stored arrays, in both languages; the English pictures as SVG."""
    data = store.read_arrays(smoke[1] / "data.npz")

    def plot(lang):
        with style.context(lang), start.precision(job.config.x64):
            figures = headings.figures(
                job.module, data, job.config, results.read_verdicts(smoke[1])
            )
            for figure in figures.values():
                finish(figure)
            return figures

    figures, folder = {lang: plot(lang) for lang in ("en", "ru")}, tmp_path_factory.mktemp("drawn")
    with pytest.MonkeyPatch.context() as patch, style.context("en", note="smoke"):
        patch.setattr(style, "FORMATS", ("svg",))  # the other files say nothing more here
        for name, figure in figures["en"].items():
            style.save(figure, folder / name)
    return figures, folder
