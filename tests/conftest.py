"""Settings of the whole test run: made before jax is imported, since it reads them once."""

import gc
import importlib
import os
import re
import sys

from xla_flags import FAST

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
# Each worker has a core of its own, where further threads of a product would only wait.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Flags that are there already come last, and win.
os.environ["XLA_FLAGS"] = " ".join(
    ["--xla_force_host_platform_device_count=8", *FAST, os.environ.get("XLA_FLAGS", "")]
).strip()

import hypothesis
import jax
import pytest

# Compilation makes the first example slow, and a failure must come back on the next run.
hypothesis.settings.register_profile("adlab", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("adlab")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep the tests of a file on one worker, or those of an experiment where a file has all."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFileOrExperiment(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file, _, test = nodeid.partition("::")
            experiment = re.search(r"\[(\w+)", test)
            apart = experiment and file.endswith("test_runs.py")
            return f"{file}[{experiment[1]}]" if apart else file

    config.option.loadscopereorder = False
    return ByFileOrExperiment(config, log)


# Few tests that take long: begun last, one of these would keep the other workers waiting.
LONG = {
    *("test_cookbook.py", "test_curvature_memory.py", "test_random_programs.py"),
    *("test_rates_radial.py", "test_rates_verdicts.py", "test_readme.py", "test_runs.py"),
}


def pytest_collection_modifyitems(items):
    """Let long files come first."""
    items.sort(key=lambda item: item.path.name not in LONG)


def pytest_collection_finish(session):
    """Leave what imports made out of garbage collection, which would walk it again and again."""
    del session
    if "matplotlib" in sys.modules:
        formulas = importlib.import_module("formulas")
        formulas.keep()
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


@pytest.fixture(scope="module", autouse=True)
def _bounded_compilation_caches():
    """Forget a module's compiled programs after it: they would pile up over the run."""
    yield
    jax.clear_caches()


@pytest.fixture
def x64_in_every_thread():
    """Run the test with 64-bit types also where XLA calls back, on threads of its own."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def x64():
    """Run the test with 64-bit types."""
    with jax.enable_x64(True):
        yield
