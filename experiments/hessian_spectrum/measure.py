"""Training, and the spectra along its way."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adlab import curvature, lab, models
from adlab import data as datasets

from .config import Config

Arrays = dict[str, np.ndarray]
_STATE = "state_"
_TEST_BATCH = 500


class _Training(NamedTuple):
    """What stays the same in one training."""

    config: Config
    norm: str
    seed: int
    train: datasets.Dataset
    test: datasets.Dataset
    loss: Any
    model: models.Model
    optimizer: optax.GradientTransformation

    @property
    def key(self) -> jax.Array:
        return jax.random.fold_in(jax.random.key(self.config.seed), self.seed)


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Train every network, and take its spectrum at every step asked for.

    Each spectrum is a stage with the state of the training in it: an interrupted run goes on there.
    """
    train, test = _images(config)
    data: Arrays = {"classes": np.array(int(train.labels.max()) + 1)}
    for norm, seeds, rate in zip(
        config.norms, config.num_seeds, config.learning_rates, strict=True
    ):
        model = models.resnet(
            depth=config.depth, widths=config.widths, norm=norm,
            num_classes=int(data["classes"]), channels=train.inputs.shape[-1],
        )  # fmt: skip
        loss = models.classification_loss(model, config.weight_decay)
        optimizer = optax.sgd(rate, config.momentum)
        rows: list[list[Mapping[str, Any]]] = []
        for seed in range(seeds):
            training = _Training(config, norm, seed, train, test, loss, model, optimizer)
            rows.append(list(_course(training, progress)))
        for name in rows[0][0]:
            if not name.startswith(_STATE):
                data[f"{norm}_{name}"] = np.array([[row[name] for row in each] for each in rows])
    return data


def _images(config: Config) -> tuple[datasets.Dataset, datasets.Dataset]:
    if config.dataset == "digits":
        return datasets.digits()
    if not config.path:
        raise lab.LabError(
            "path must name the binary release of CIFAR-10 (cifar-10-binary.tar.gz, or its folder "
            "cifar-10-batches-bin), got none; fetch 'CIFAR-10 binary version (suitable for C "
            "programs)' from www.cs.toronto.edu/~kriz/cifar.html and pass --path FILE"
        )
    try:
        return datasets.cifar10(Path(config.path))
    except (ValueError, OSError) as error:
        raise lab.LabError(str(error)) from error


def _course(training: _Training, progress: lab.Progress) -> Iterator[Mapping[str, Any]]:
    """Yield what was measured at every step."""
    before, state = 0, None
    for step in training.config.steps:
        compute = functools.partial(_advance_and_measure, training, before, step, state, progress)
        name = f"{training.norm} seed {training.seed} step {step}"
        found = progress.stage(name, compute)
        state = [found[f"{_STATE}{i}"] for i in range(len(found)) if f"{_STATE}{i}" in found]
        before = step
        yield found


def _advance_and_measure(
    training: _Training, before: int, step: int, state: Any, progress: lab.Progress
) -> Arrays:
    params = training.model.init(training.key)
    opt_state = training.optimizer.init(params)
    structure = jax.tree.structure((params, opt_state))
    if state is not None:
        params, opt_state = jax.tree.unflatten(structure, state)
    update, started = training.optimizer.update, time.perf_counter()
    for k, batch in enumerate(_batches(training, before, step)):
        progress.update(k, step - before, "training")
        params, opt_state = _descend(update, training.loss, params, opt_state, *batch)
    jax.block_until_ready(params)
    trained = time.perf_counter()
    progress.seconds("training", run=trained - started)
    leaves = jax.tree.leaves((params, opt_state))
    kept = {f"{_STATE}{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
    measured = _measure(training, params, step, progress)
    progress.seconds("spectrum", run=time.perf_counter() - trained)
    return kept | measured


def _batches(training: _Training, start: int, stop: int) -> Iterator[datasets.Dataset]:
    """Yield the batches of the steps start, ..., stop - 1: shuffled anew every epoch."""
    every = datasets.batches(
        training.train, batch_size=training.config.batch_size, drop_last=True,
        key=jax.random.fold_in(training.key, 1),
    )  # fmt: skip
    for step in range(start, stop):
        epoch, place = divmod(step, len(every))
        if step == start or place == 0:
            order = iter(every.epoch(epoch))
            skipped = [next(order) for _ in range(place)]
            del skipped
        yield next(order)


@functools.partial(jax.jit, static_argnums=0)
def _descend(update: Any, loss: Any, params: Any, opt_state: Any, x: Any, y: Any) -> Any:
    updates, opt_state = update(jax.grad(loss)(params, x, y), opt_state, params)
    return optax.apply_updates(params, updates), opt_state


def _measure(training: _Training, params: Any, step: int, progress: lab.Progress) -> Arrays:
    config = training.config
    examples = datasets.Dataset(*(part[: config.num_examples] for part in training.train))
    hessian = curvature.Hessian(training.loss, params, mode="reverse_over_forward")
    size = len(examples.labels) if config.whole else config.batch_size
    batches = list(datasets.batches(examples, batch_size=size))
    found = curvature.spectral_density(
        hessian.over(batches, batch_dependent=True),
        key=jax.random.fold_in(jax.random.fold_in(training.key, 2), step),
        num_matvecs=config.num_matvecs,
        num_probes=config.num_probes,
        chunk_size=1,
        on_progress=lambda done, total: progress.update(done, total, "products"),
    )
    shares = np.array([len(batch.labels) for batch in batches]) / len(examples.labels)
    losses = [float(_loss(training.loss, params, *batch)) for batch in batches]
    tests = datasets.batches(training.test, batch_size=min(_TEST_BATCH, len(training.test.labels)))
    hits = [
        float(_accuracy(training.model.apply, params, *batch)) * len(batch.labels)
        for batch in tests
    ]
    return {
        "loss": np.array(shares @ losses),
        "accuracy": np.array(sum(hits) / len(training.test.labels)),
        "nodes": np.asarray(found.nodes),
        "weights": np.asarray(found.weights),
        "residuals": np.asarray(found.residuals),
        "dim": np.array(found.dim),
    }


@jax.jit
def _loss(loss: Any, params: Any, x: Any, y: Any) -> jax.Array:
    return loss(params, x, y)


@functools.partial(jax.jit, static_argnums=0)
def _accuracy(apply: Any, params: Any, x: Any, y: Any) -> jax.Array:
    return models.accuracy(apply(params, jnp.asarray(x)), y)
