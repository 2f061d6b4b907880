"""Where a result comes from: sources, versions, commit, device.

A run's stamp has two hashes of code. `computed` is of what the arrays depend on: `run` of the
experiment, the estimators and problems that its config names, and plugins. `derived` is of the
whole experiment, with what draws and judges: where only that changed, verdicts and figures are made
again from the stored arrays.
"""

from __future__ import annotations

import functools
import platform
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adlab.lab import closure, experiment, registries
from adlab.lab.statements import read

if TYPE_CHECKING:
    from adlab.lab.config import Job

_PACKAGES = ("adlab", "jax", "jaxlib", "numpy", "optax", "scikit-learn")
_LIBRARY = Path(__file__).parents[1]
_LABELS = "labels.toml"  # what figures and verdicts say; no array depends on it


def stamp(head: Path, plugins: Sequence[Path], tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run must agree with to be current.

    Args:
      head: the experiment's file, or the head of its package.
      plugins: the files of the modules that the config's own kinds come from.
      tables: the resolved config.
    """
    return {
        "computed": computed(head, plugins, tables).digest(),
        "derived": derived(head).digest(),
        "versions": versions(),
    }


def computed(head: Path, plugins: Sequence[Path], tables: Mapping[str, Any]) -> closure.Closure:
    """Return what the arrays depend on; see `stamp`."""
    head = head.absolute()
    roots: list[closure.Root] = [(head, ("run",)), (head, ("Config",))]
    roots += [(plugin.absolute(), ()) for plugin in plugins]
    roots += _factories({*registries.kinds_in(dict(tables)), *_spoken_of(head)})
    return closure.Closure(roots, ignored=[head.with_name(_LABELS)])


def derived(head: Path) -> closure.Closure:
    """Return what verdicts and figures depend on, beyond the arrays: all of the experiment."""
    own = [path.absolute() for path in experiment.sources(head)]
    labels = own[0].with_name(_LABELS)
    return closure.Closure([(path, ()) for path in own], also=[labels] if labels.exists() else [])


def _spoken_of(head: Path) -> set[str]:
    """Return the strings of an experiment that asks a registry itself: kinds may be among them."""
    code = [statement for file in experiment.sources(head) for statement in read(file).statements]
    names = {("lab", "estimators"), ("lab", "problems")}
    asks = any(chain[:2] in names for statement in code for chain in statement.uses)
    return {string for statement in code for string in statement.strings if asks}


def _factories(kinds: Collection[str]) -> Iterator[closure.Root]:
    """Yield the factory of every kind; plugins' kinds have files of their own.

    A kind that two registries know counts for both.
    """
    for kind in sorted(kinds):
        for package in registries.PACKAGES:
            head = _LIBRARY.parent.joinpath(*package.split("."), "__init__.py")
            if closure.binds(head, kind):
                yield head, (kind,)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that compute."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


@functools.cache
def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def commit(folder: Path) -> dict[str, Any] | None:
    """Return the commit of `folder` and whether files differ from it; None outside git."""
    head = _git(folder, "rev-parse", "HEAD")
    if not head:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": head, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def about(job: Job, seconds: Mapping[str, Mapping[str, float]], total: float) -> dict[str, Any]:
    """Return what run.json says of a run.

    Args:
      job: what was run.
      seconds: compile and run seconds of its parts.
      total: seconds of the whole.
    """
    return {
        "experiment": job.name,
        "seed": job.config.seed,
        "x64": job.config.x64,
        "versions": versions(),
        "git": commit(job.head.parent),
        "device": device(),
        "seconds": {
            "compile": sum(part["compile"] for part in seconds.values()),
            "run": sum(part["run"] for part in seconds.values()),
            "total": total,
            "parts": {name: dict(part) for name, part in seconds.items()},
        },
        "plugins": list(job.plugins),
        "files": {
            "experiment": str(job.head),
            "config": str(job.config_file),
            "plugins": [str(plugin) for plugin in job.plugin_files],
        },
    }


def device() -> dict[str, Any]:
    """Return what the default device is; starts it where nothing did yet."""
    import jax

    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "count": len(devices),
    }
