"""Before a run: the precision it asks for, and a look at the starting point."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from adlab.lab import experiment, needs
from adlab.lab.boundary import foreign
from adlab.lab.config import Job
from adlab.lab.errors import ConfigError
from adlab.lab.registry import Spec


@contextlib.contextmanager
def precision(x64: bool) -> Iterator[None]:
    """Compute in the config's precision; for all threads, so that callbacks see it too."""
    import jax

    before = bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]
    jax.config.update("jax_enable_x64", x64)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def check(job: Job) -> str | None:
    """Refuse what would fail once it runs, and say what the run will take; see `needs.check`.

    Raises:
      ConfigError: it takes more memory than there is; or some estimators refuse the problem's
        starting point; each says why.
    """
    told = needs.check(job)
    _check_start(job)
    return told


def _check_start(job: Job) -> None:
    """Let each estimator look at the problem's starting point, where the config names both.

    What only values can tell is refused here: a step under the noise floor, a function that isn't
    finite.
    """
    specs = dict(_specs(job.config))
    problems = [spec for spec in specs.values() if not spec.stand_ins]
    if len(problems) != 1:
        return
    with precision(job.config.x64), foreign("at the starting point", job.sources, usage=True):
        problem = problems[0].build()
        refused = [
            f"{path}: {reason}"
            for path, spec in specs.items()
            if spec.stand_ins and (reason := _refusal(spec.build(problem.fun), problem.x0))
        ]
    if refused:
        raise ConfigError(experiment.shown(job.config_file), refused)


def _specs(config: Any) -> Iterator[tuple[str, Spec]]:
    for key in type(config).model_fields:
        value = getattr(config, key)
        if isinstance(value, Spec):
            yield key, value
        elif isinstance(value, list | tuple):
            yield from ((f"{key}.{i}", v) for i, v in enumerate(value) if isinstance(v, Spec))


def _refusal(gradient: Any, x0: Any) -> str | None:
    import jax.numpy as jnp

    try:
        if hasattr(gradient, "check"):  # a plugin may be a plain function
            gradient.check(jnp.asarray(x0))
    except (ValueError, TypeError) as error:
        return str(error)
    return None
