"""Where a result comes from: sources, versions, commit, device."""

from __future__ import annotations

import functools
import hashlib
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adlab.lab.config import Job

_PACKAGES = ("adlab", "jax", "jaxlib", "numpy", "optax", "scikit-learn")


def stamp(sources: Iterable[Path]) -> dict[str, Any]:
    """Return what a current run must agree with: a hash of the sources, and the versions.

    Args:
      sources: files beyond adlab itself: the experiment and plugins.
    """
    return {"sources": source_hash(sources), "versions": versions()}


def source_hash(sources: Iterable[Path]) -> str:
    """Hash the names and contents of adlab's modules and of `sources`."""
    digest = hashlib.sha256(_own_hash())
    for path in sources:
        _add(digest, path.name, path)
    return digest.hexdigest()[:16]


@functools.cache  # what this process has imported doesn't change under it
def _own_hash() -> bytes:
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        _add(digest, str(path.relative_to(package)), path)
    return digest.digest()


def _add(digest: hashlib._Hash, name: str, path: Path) -> None:
    content = path.read_bytes()
    digest.update(f"{name}\0{len(content)}\0".encode() + content)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that compute."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


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
        "git": commit(job.sources[0].parent),
        "device": device(),
        "seconds": {
            "compile": sum(part["compile"] for part in seconds.values()),
            "run": sum(part["run"] for part in seconds.values()),
            "total": total,
            "parts": {name: dict(part) for name, part in seconds.items()},
        },
        "plugins": list(job.plugins),
        "files": {
            "experiment": str(job.sources[0]),
            "config": str(job.config_file),
            "sources": [str(source) for source in job.sources],
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
