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


@pytest.fixture(scope="session", params=CONFIGS, ids=lambda path: path.stem)
def smoke(request, tmp_path_factory):
    """Run the smoke profile of a config once; return the config and the run's folder."""
    out = tmp_path_factory.mktemp("results")
    return request.param, lab.run(request.param, profile="smoke", out=out)


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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "FORMATS", ("svg",))  # the other files say nothing more here
        for name, figure in figures["en"].items():
            style.save(figure, folder / name)
    return figures, folder
