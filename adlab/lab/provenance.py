"""Where a result comes from: sources, versions, commit, device.

A run's stamp has two hashes of code, the versions of what the code imports, and the hash of the
resolved config. `computed` is of what the arrays depend on: `run` of the
experiment, the estimators and problems that its config names, and plugins. `derived` is of the
whole experiment, with what draws and judges: where only that changed, verdicts and figures are made
again from the stored arrays.
"""

from __future__ import annotations

import functools
import json
import platform
import re
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adlab.lab import closure, experiment, integrity, registries, regular
from adlab.lab.statements import read

if TYPE_CHECKING:
    from adlab.lab.config import Job

_LIBRARY = Path(__file__).parents[1]
_LABELS = "labels.toml"  # what figures and verdicts say; no array depends on it


def stamp(head: Path, plugins: Sequence[Path], tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run must agree with to be current.

    Args:
      head: the experiment's file, or the head of its package.
      plugins: the files of the modules that the config's own kinds come from.
      tables: the resolved config.
    """
    disk = closure.Disk()
    found = computed(head, plugins, tables, disk)
    return {
        "computed": found.digest(),
        "derived": derived(head, disk).digest(),
        "versions": versions(found.installed),
        "config": integrity.identity(tables),
    }


def computed(
    head: Path, plugins: Sequence[Path], tables: Mapping[str, Any],
    disk: closure.Disk | None = None,
) -> closure.Closure:  # fmt: skip
    """Return what the arrays depend on; see `stamp`."""
    head = head.absolute()
    roots: list[closure.Root] = [(head, ("run",)), (head, ("Config",))]
    roots += [(plugin.absolute(), ()) for plugin in plugins]
    roots += _factories({*registries.kinds_in(dict(tables)), *_spoken_of(head)})
    ignored = [head.with_name(_LABELS)]
    return closure.Closure(roots, ignored=ignored, disk=disk or closure.Disk())


def derived(head: Path, disk: closure.Disk | None = None) -> closure.Closure:
    """Return what verdicts and figures depend on, beyond the arrays: all of the experiment."""
    own = [path.absolute() for path in experiment.sources(head)]
    labels = own[0].with_name(_LABELS)
    also = [labels] if regular.is_regular(labels) else []
    return closure.Closure([(path, ()) for path in own], also=also, disk=disk or closure.Disk())


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


def versions(modules: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python, of adlab, and of the distributions of modules.

    What these distributions require counts too, as far as it is installed.
    """
    waiting, found = ["adlab", *(d for name in modules for d in _distributions(name))], {}
    while waiting:
        name = _normal(waiting.pop())
        if name not in found and (about := _distribution(name)):
            found[name], required = _told(about)
            waiting += [] if name == "adlab" else required
    return {"python": platform.python_version(), **dict(sorted(found.items()))}


@functools.cache
def _distribution(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _distributions(module: str) -> list[str]:
    """Return the names of the distributions that bring a module."""
    if _distribution(module):
        return [module]
    return _homes().get(module, [])


@functools.cache
def _homes() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


@functools.cache
def _told(about: metadata.Distribution) -> tuple[str, list[str]]:
    """Return a distribution's version, and what it requires in any case, without its extras."""
    lines = [line for line in about.requires or () if "extra ==" not in line]
    matches = (re.match(r"[A-Za-z0-9._-]+", line) for line in lines)
    return about.version, [match[0] for match in matches if match]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


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


def about(
    job: Job, used: Mapping[str, str], parts: Mapping[str, Mapping[str, float]],
    attempts: Sequence[float],
) -> dict[str, Any]:  # fmt: skip
    """Return what run.json says of a run.

    Args:
      job: what was run.
      used: the versions that it was run with.
      parts: compile and run seconds of its parts, in all attempts.
      attempts: seconds of each attempt: the last one, and those that were interrupted.
    """
    return {
        "experiment": job.name,
        "seed": job.config.seed,
        "x64": job.config.x64,
        "profile": job.profile,
        "overrides": json.loads(json.dumps(dict(job.changes), default=str)),
        "versions": dict(used),
        "git": commit(job.head.parent),
        "device": device(),
        "seconds": {
            **{key: sum(p[key] for p in parts.values()) for key in ("compile", "run") if parts},
            "total": sum(attempts),
            "attempts": len(attempts),
            "parts": {name: dict(part) for name, part in parts.items()},
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
