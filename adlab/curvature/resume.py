"""The file of an interrupted Lanczos run: what is done, and whose it is."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adlab.curvature._lengths import lengths
from adlab.curvature.lanczos import Tridiagonal

__all__ = ["Kept", "entries"]

_MARK_LENGTH = 1024  # entries of a product that are kept
_RUNS = ("diagonal", "off_diagonal", "asymmetry")


def entries(product: np.ndarray) -> np.ndarray:
    """Return entries of a product, which tell one operator from another.

    The quotients of the recurrence don't: in high dimension they hardly vary.
    """
    return product[np.random.default_rng(0).integers(0, product.size, _MARK_LENGTH)]


@dataclass(frozen=True, eq=False)
class Kept:
    """An .npz file of runs.

    identity: what makes a run this very one. mark: `entries` of a product. tolerance: how far
    those of the same operator may lie apart, relative to their length.
    """

    path: Path
    identity: dict[str, Any]
    mark: np.ndarray
    tolerance: float

    def store(self, found: Tridiagonal) -> None:
        """Write the runs, all or nothing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        runs = {name: getattr(found, name) for name in _RUNS}
        with tempfile.NamedTemporaryFile(dir=self.path.parent, suffix=".npz", delete=False) as file:
            written = Path(file.name)
            try:
                np.savez(file, mark=self.mark, **runs, **self.identity)
            except BaseException:
                written.unlink()
                raise
        written.replace(self.path)

    def load(self) -> Tridiagonal | None:
        """Return the runs in the file, where there is one.

        Raises:
          ValueError: it is of another run.
        """
        if not self.path.exists():
            return None
        with np.load(self.path, allow_pickle=False) as file:
            kept = dict(file)
        for name, own in self.identity.items():
            if name not in kept or not np.array_equal(kept[name], own):
                raise ValueError(
                    f"resume must name a file of this very run, got {str(self.path)!r} with "
                    f"{name} = {kept.get(name)} instead of {own}; name another file"
                )
        for name in ("mark", *_RUNS):
            if name not in kept:
                raise ValueError(
                    f"resume must name a file of this very run, got {str(self.path)!r} "
                    f"without {name}; name another file"
                )
        same = kept["mark"].shape == self.mark.shape
        apart = lengths(self.mark - kept["mark"], np) if same else np.inf
        size = lengths(self.mark, np)
        if not apart <= self.tolerance * size:
            raise ValueError(
                f"resume must name a file of this very operator, got {str(self.path)!r}, whose "
                f"first product differs by {apart:.3g} from one of size {size:.3g}; name another "
                "file"
            )
        return Tridiagonal(*(kept[name] for name in _RUNS))
