"""CIFAR-10 from its binary release: records of fixed length, so that no pickle is ever opened."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from adlab.data.dataset import Dataset, standardised

__all__ = ["cifar10"]

_FOLDER = "cifar-10-batches-bin"
_PICKLED_FOLDER = "cifar-10-batches-py"
_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_TEST = ("test_batch.bin",)
_SHAPE = (3, 32, 32)
_RECORD = 3073  # a label, then 3072 pixels by channel, row, column
_CLASSES = 10
_REMEDY = (
    "get the 'CIFAR-10 binary version' (cifar-10-binary.tar.gz) from "
    "https://www.cs.toronto.edu/~kriz/cifar.html and give its path, or that of the folder "
    f"{_FOLDER} in it"
)


@dataclass(frozen=True)
class _Release:
    """What is known of a release: records per file, and the archive's digest."""

    records: int = 10_000
    sha256: str = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"


def cifar10(path: str | os.PathLike[str]) -> tuple[Dataset, Dataset]:
    """Return the 50,000 training and 10,000 test images of CIFAR-10 from files at hand.

    32 x 32 pixels in red, green and blue, each channel standardised by its mean and deviation over
    the training set. Takes 740 MB for the arrays, and about 200 MB more while it reads.

    >>> train, test = cifar10("cifar-10-binary.tar.gz")  # doctest: +SKIP
    >>> train.inputs.shape, train.labels.shape  # doctest: +SKIP
    ((50000, 32, 32, 3), (50000,))

    Args:
      path: the archive cifar-10-binary.tar.gz, the folder cifar-10-batches-bin that it unpacks to,
        or the folder in which that one lies. The archive is checked by its SHA-256 and read in
        place; of a folder the sizes, the labels and the numbers of each class are checked.

    Returns:
      (train, test); `inputs` of shape (N, 32, 32, 3), `labels` 0 to 9: airplane, automobile, bird,
      cat, deer, dog, frog, horse, ship, truck.

    Raises:
      FileNotFoundError: nothing is at `path`, or one of the six files is missing.
      ValueError: a file isn't what was published, or it is the Python release, which isn't opened:
        unpickling a file runs whatever code it holds.

    Source: Krizhevsky (2009), Learning multiple layers of features from tiny images.
    """
    return _load(Path(path).expanduser(), _Release())


def _load(path: Path, release: _Release) -> tuple[Dataset, Dataset]:
    if not path.exists():
        raise FileNotFoundError(f"path must exist, got {path}; {_REMEDY}")
    read = _from_folder if path.is_dir() else _from_archive
    train_raw, test_raw = read(path, release)
    train, test = (_images(raw) for raw in (train_raw, test_raw))
    inputs = standardised(train, test)
    return tuple(  # type: ignore[return-value]
        Dataset(images, raw[:, 0].astype(np.int32))
        for images, raw in zip(inputs, (train_raw, test_raw), strict=True)
    )


def _images(raw: np.ndarray) -> np.ndarray:
    """Return records (N, 3073) as images (N, 32, 32, 3)."""
    return raw[:, 1:].reshape(-1, *_SHAPE).transpose(0, 2, 3, 1)


def _from_folder(path: Path, release: _Release) -> tuple[np.ndarray, np.ndarray]:
    folder = path / _FOLDER if (path / _FOLDER).is_dir() else path
    pickles = (folder / "data_batch_1", folder / _PICKLED_FOLDER)
    if not (folder / _TRAIN[0]).exists() and any(pickle.exists() for pickle in pickles):
        _refuse_pickles(folder)

    def read(name: str) -> bytes:
        file = folder / name
        if not file.is_file():
            raise FileNotFoundError(f"{file} must be a file, found none; {_REMEDY}")
        with file.open("rb") as handle:
            if handle.read(1) == b"\x80":
                _refuse_pickles(file)
        _check_size(str(file), file.stat().st_size, release)
        return file.read_bytes()

    return _records(read, release, str(folder))


def _from_archive(path: Path, release: _Release) -> tuple[np.ndarray, np.ndarray]:
    with path.open("rb") as handle:
        if handle.read(1) == b"\x80":
            _refuse_pickles(path)
        handle.seek(0)
        found = hashlib.file_digest(handle, "sha256").hexdigest()
        handle.seek(0)
        if found != release.sha256:
            if _first_name(handle).startswith(_PICKLED_FOLDER):
                _refuse_pickles(path)
            raise ValueError(
                f"{path} must have the SHA-256 {release.sha256}, got {found} "
                f"({path.stat().st_size} bytes): it is incomplete, altered or another file; "
                f"{_REMEDY}"
            )
        with tarfile.open(fileobj=handle, mode="r:gz") as archive:

            def read(name: str) -> bytes:
                member = archive.extractfile(f"{_FOLDER}/{name}")
                return b"" if member is None else member.read()

            return _records(read, release, str(path))


def _first_name(handle: object) -> str:
    """Return the name of an archive's first member, "" if it isn't one; no content is read."""
    try:
        with tarfile.open(fileobj=handle, mode="r:*") as archive:  # type: ignore[call-overload]
            first = archive.next()
    except (tarfile.TarError, OSError, EOFError):
        return ""
    return first.name if first else ""


def _records(
    read: Callable[[str], bytes], release: _Release, place: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the records of the training and the test files, uint8 (N, 3073), checked."""
    sets = []
    for names in (_TRAIN, _TEST):
        parts = []
        for name in names:
            content = read(name)
            _check_size(f"{place}: {name}", len(content), release)
            parts.append(np.frombuffer(content, np.uint8).reshape(-1, _RECORD))
            _check_labels(f"{place}: {name}", parts[-1][:, 0])
        raw = np.concatenate(parts)
        _check_balance(f"{place}: {', '.join(names)}", raw[:, 0])
        sets.append(raw)
    return sets[0], sets[1]


def _check_size(name: str, size: int, release: _Release) -> None:
    expected = release.records * _RECORD
    if size != expected:
        raise ValueError(
            f"{name} must have {expected} bytes ({release.records} records of {_RECORD}), got "
            f"{size}; {_REMEDY}"
        )


def _check_labels(name: str, labels: np.ndarray) -> None:
    wrong = np.flatnonzero(labels >= _CLASSES)
    if wrong.size:
        raise ValueError(
            f"{name} must have labels 0 to {_CLASSES - 1}, got {labels[wrong[0]]} in record "
            f"{wrong[0]}; {_REMEDY}"
        )


def _check_balance(name: str, labels: np.ndarray) -> None:
    counts = np.bincount(labels, minlength=_CLASSES)
    expected = len(labels) // _CLASSES
    wrong = np.flatnonzero(counts != expected)
    if wrong.size:
        raise ValueError(
            f"{name} must have {expected} images of each class, got {counts[wrong[0]]} of class "
            f"{wrong[0]}; {_REMEDY}"
        )


def _refuse_pickles(path: Path) -> NoReturn:
    raise ValueError(
        f"path must lead to the binary release, got the Python release at {path}: its files are "
        f"pickles, which can run any code and are never opened here; {_REMEDY}"
    )
