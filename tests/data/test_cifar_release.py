"""CIFAR-10's binary release, faked at a size that is quick to write."""

import gzip
import hashlib
import io
import pickle
import tarfile

import numpy as np
import pytest

from adlab import data
from adlab.data import cifar

RECORDS = 20
FILES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
SMALL = cifar._Release(records=RECORDS)


def contents():
    """Return name -> bytes of six files: labels 0..9 in turn, random pixels."""
    rng = np.random.default_rng(0)
    records = rng.integers(0, 256, size=(len(FILES), RECORDS, 3073), dtype=np.uint8)
    records[..., 0] = np.arange(RECORDS) % 10
    records[..., 1:1025] //= 2  # red darker than green and blue
    return {name: part.tobytes() for name, part in zip(FILES, records, strict=True)}


def folder(path, files):
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def archive(path, files, top="cifar-10-batches-bin"):
    with gzip.open(path, "wb") as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def with_digest(path):
    return cifar._Release(RECORDS, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def unpacked(tmp_path):
    return folder(tmp_path / "cifar-10-batches-bin", contents())


def test_images_are_the_bytes_of_the_records_standardised_by_channel(unpacked):
    train, test = cifar._load(unpacked, SMALL)
    raw = np.frombuffer(b"".join(contents()[name] for name in FILES), np.uint8)
    records = raw.reshape(-1, 3073)
    np.testing.assert_array_equal(train.labels, records[: 5 * RECORDS, 0])
    np.testing.assert_array_equal(test.labels, records[5 * RECORDS :, 0])
    assert train.inputs.shape == (5 * RECORDS, 32, 32, 3)
    assert test.inputs.shape == (RECORDS, 32, 32, 3)
    for dtype, images in [(np.float32, (train.inputs, test.inputs)),
                          (np.int32, (train.labels, test.labels))]:  # fmt: skip
        assert all(array.dtype == dtype for array in images)
    # Pixel (row, column) of a channel is byte 1 + 1024 channel + 32 row + column of its record.
    for channel in range(3):
        plane = records[:, 1 + 1024 * channel : 1025 + 1024 * channel].astype(np.float64)
        mean, deviation = plane[: 5 * RECORDS].mean(), plane[: 5 * RECORDS].std()
        for n, row, column in [(0, 0, 0), (7, 3, 30), (99, 31, 1), (104, 17, 5)]:
            images, place = (train, n) if n < 5 * RECORDS else (test, n - 5 * RECORDS)
            expected = (plane[n, 32 * row + column] - mean) / deviation
            found = images.inputs[place, row, column, channel]
            assert found == pytest.approx(expected, abs=1e-6)  # float32, values up to 2


def test_every_channel_of_the_training_set_is_standard_and_the_test_set_is_not(unpacked):
    train, test = cifar._load(unpacked, SMALL)
    double = train.inputs.astype(np.float64)
    np.testing.assert_allclose(double.mean(axis=(0, 1, 2)), 0, atol=1e-6)  # float32
    np.testing.assert_allclose(double.std(axis=(0, 1, 2)), 1, atol=1e-6)
    assert np.abs(test.inputs.mean(axis=(0, 1, 2))).max() > 1e-4  # not by its own mean


def test_folder_parent_and_archive_give_the_same(unpacked, tmp_path):
    packed = archive(tmp_path / "cifar-10-binary.tar.gz", contents())
    expected = cifar._load(unpacked, SMALL)
    for path in (unpacked.parent, packed):
        for ours, theirs in zip(cifar._load(path, with_digest(packed)), expected, strict=True):
            np.testing.assert_array_equal(ours.inputs, theirs.inputs)
            np.testing.assert_array_equal(ours.labels, theirs.labels)


def test_the_full_release_has_the_published_sizes():
    release = cifar._Release()
    assert release.records * 3073 == 30_730_000
    assert len(release.sha256) == 64


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [-1, 1, -3073])
def test_a_file_of_another_size_is_named_with_both_sizes(unpacked, name, change):
    content = contents()[name]
    (unpacked / name).write_bytes(content[:change] if change < 0 else content + b"\0")
    size, right = len(content) + change, RECORDS * 3073
    message = rf"{name} must have {right} bytes .*, got {size}; get the 'CIFAR-10 binary version'"
    with pytest.raises(ValueError, match=message):
        cifar._load(unpacked, SMALL)


def test_a_label_out_of_range_is_named_with_its_record(unpacked):
    content = bytearray(contents()["data_batch_3.bin"])
    content[4 * 3073] = 10
    (unpacked / "data_batch_3.bin").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"data_batch_3\.bin must have labels .* got 10 in record 4"
    ):
        cifar._load(unpacked, SMALL)


@pytest.mark.parametrize(("name", "right"), [("data_batch_5.bin", 10), ("test_batch.bin", 2)])
def test_classes_of_other_sizes_are_refused(unpacked, name, right):
    content = bytearray(contents()[name])
    content[0] = 9  # was 0
    (unpacked / name).write_bytes(content)
    with pytest.raises(
        ValueError, match=f"{name}.* {right} images of each.*{right - 1} of class 0"
    ):
        cifar._load(unpacked, SMALL)


def test_a_missing_file_is_named(unpacked):
    (unpacked / "data_batch_4.bin").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"data_batch_4\.bin must be a file, found none; get"
    ):
        cifar._load(unpacked, SMALL)


def test_a_path_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path must exist, got .*nowhere; get the 'CIFAR"):
        data.cifar10(tmp_path / "nowhere")


def test_an_empty_folder_lacks_its_first_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data_batch_1\.bin must be a file, found none"):
        data.cifar10(tmp_path)


def test_another_archive_is_refused_by_its_digest(tmp_path):
    packed = archive(tmp_path / "cifar-10-binary.tar.gz", contents())
    found = hashlib.sha256(packed.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=rf"SHA-256 c4a38c50\w+, got {found} \(\d+ bytes\)"):
        data.cifar10(packed)


def test_a_truncated_archive_is_refused_by_its_digest(tmp_path):
    packed = archive(tmp_path / "cifar-10-binary.tar.gz", contents())
    release = with_digest(packed)
    packed.write_bytes(packed.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"must have the SHA-256 .* incomplete"):
        cifar._load(packed, release)


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"notes\.txt must have the SHA-256 .* another file"):
        data.cifar10(tmp_path / "notes.txt")


class Trap:
    """Whoever unpickles it learns so."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was opened",)


PICKLED = pickle.dumps({"data": Trap()}, protocol=2)


def python_release(place, shape):
    """Write what the Python release may look like; return the path that a user would give."""
    batches = {name.removesuffix(".bin"): PICKLED for name in FILES}
    if shape == "archive":
        return archive(place / "cifar-10-python.tar.gz", batches, top="cifar-10-batches-py")
    if shape == "renamed":
        return folder(place / "cifar-10-batches-bin", dict.fromkeys(FILES, PICKLED))
    inner = folder(place / "cifar-10-batches-py", batches)
    return {"folder": inner, "parent": place, "file": inner / "data_batch_1"}[shape]


@pytest.mark.parametrize("shape", ["archive", "folder", "parent", "file", "renamed"])
def test_pickles_are_never_opened(tmp_path, shape):
    path = python_release(tmp_path, shape)
    message = (
        "Python release at .* pickles, .* never opened here; get the 'CIFAR-10 binary version'"
    )
    with pytest.raises(ValueError, match=message):
        data.cifar10(path)
