"""The smoke runs that several tests look at."""

from pathlib import Path

import pytest

from adlab import lab

ROOT = Path(__file__).parents[2]
# A config of another name than its experiment's needs data that aren't everywhere.
NAMES = {path.stem for path in (ROOT / "experiments").iterdir()}
CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.toml") if path.stem in NAMES)


@pytest.fixture(scope="session", params=CONFIGS, ids=lambda path: path.stem)
def smoke(request, tmp_path_factory):
    """Run the smoke profile of a config once; return the config and the run's folder."""
    out = tmp_path_factory.mktemp("results")
    return request.param, lab.run(request.param, profile="smoke", out=out)
