"""The smoke runs that several tests look at."""

from pathlib import Path

import pytest

from adlab import lab
from adlab.figures import style
from adlab.lab import config as configs
from adlab.lab import start, store

ROOT = Path(__file__).parents[2]
# A config of another name than its experiment's needs data that aren't everywhere.
NAMES = {path.name for path in (ROOT / "experiments").iterdir()}
CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.toml") if path.stem in NAMES)


# One function writes the files of all figures. What can fail in one kind of file alone, such as
# images in a vector format, these two have; the others are written as SVG only.
ALL_FORMATS = ("checkpoint_schedules", "mds")


@pytest.fixture(scope="session", params=CONFIGS, ids=lambda path: path.stem)
def smoke(request, tmp_path_factory):
    """Run the smoke profile of a config once; return the config and the run's folder."""
    out = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        if request.param.stem not in ALL_FORMATS:
            patch.setattr(style, "FORMATS", ("svg",))
        return request.param, lab.run(request.param, profile="smoke", out=out)


@pytest.fixture(scope="session")
def formats(smoke):
    """Return the endings of the files of a smoke run's figures."""
    return style.FORMATS if smoke[0].stem in ALL_FORMATS else ("svg",)


@pytest.fixture(scope="session")
def job(smoke):
    """Load the smoke profile once more, as a later process would."""
    return configs.load(smoke[0], profile="smoke")


@pytest.fixture(scope="session")
def drawn(smoke, job, tmp_path_factory):
    """Draw a run again from its stored arrays, in both languages; the English pictures as SVG."""
    data = store.read_arrays(smoke[1] / "data.npz")

    def plot(lang):
        with style.context(lang), start.precision(job.config.x64):
            return job.module.plot(data, job.config)

    figures, folder = {lang: plot(lang) for lang in ("en", "ru")}, tmp_path_factory.mktemp("drawn")
    with pytest.MonkeyPatch.context() as patch, style.context("en", note="smoke"):
        patch.setattr(style, "FORMATS", ("svg",))  # the other files say nothing more here
        for name, figure in figures["en"].items():
            style.save(figure, folder / name)
    return figures, folder
