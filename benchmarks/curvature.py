"""Curvature of a residual network beside PyTorch, PyHessian and matfree.

Run by `make bench`; takes some ten minutes on two cores. First everything is made to agree, then
timed. Every target is a ratio of medians taken in turn in this process. `--record PATH` keeps the
figures, with where they come from; `--only` takes some sections anew; `--depth`, `--batch` and
`--probes` make a smaller run. Wants an idle machine: PyTorch's threads wait for one another, and
another process on one core slows it down many times.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytorch_resnet
import torch
from curvature_agreement import MODES, Problem, agreement, by_pyhessian, problem, pyhessian_of
from matfree import decomp
from measure import Target, report, seconds, with_one_malloc
from pyhessian.utils import group_add, group_product, orthnormal

from adlab.core import trees
from adlab.curvature import Hessian, spectral_density
from adlab.curvature._engine import HOST
from adlab.curvature.lanczos import advance, begin

Rows = list[tuple[str, str, float]]
Found = tuple[Rows, list[Target]]
STEPS = 30  # of a Lanczos run on the network
BLOCK = 4
PACKAGES = ("jax", "jaxlib", "numpy", "torch", "pyhessian", "matfree")


@jax.jit
def matvec(operator: Any, v: Any) -> Any:
    return operator.matvec(v)


@jax.jit
def matvecs(operator: Any, vectors: Any) -> Any:
    return jax.vmap(operator.matvec)(vectors)


@jax.jit
def linearized(operator: Hessian) -> Any:
    return operator.linearize()


@jax.jit
def gradient(operator: Hessian) -> Any:
    return jax.grad(operator.fun)(operator.params, *operator.args)


def products(p: Problem, where: str, modes: Any, repeats: int) -> Found:
    """Time one gradient and one product of the Hessian, in every composition."""
    linear, plain = linearized(p.operator()), p.operator()
    runs: dict[str, Callable[[], Any]] = {"gradient": lambda: gradient(plain)}
    for mode in modes:
        runs[mode] = functools.partial(matvec, p.operator(mode), p.v)
    runs["linearised once"] = lambda: matvec(linear, p.v)
    runs["torch: gradient"] = lambda: pytorch_resnet.gradient(p.net, *p.torch_batch)
    runs["torch: product"] = lambda: pytorch_resnet.product(p.net, *p.torch_batch, p.torch_v)
    with pyhessian_of(p) as view:
        runs["PyHessian: product, graph kept"] = lambda: by_pyhessian(view, p)
        times = seconds(runs, repeats)
    best = min(modes, key=lambda mode: times[mode])
    base = times["gradient"]
    targets = [
        Target(f"{where}: best product ({best}) / gradient", times[best] / base, 2.0),
        Target(f"{where}: linearised product / gradient", times["linearised once"] / base, 1.4),
    ]
    return [(where, name, value) for name, value in times.items()], targets


def blocks(p: Problem, where: str, mode: str, repeats: int) -> Found:
    """Time several products in one call, per vector."""
    vectors = jax.tree.map(lambda a: jnp.stack([a] * BLOCK), p.v)
    operators = {mode: p.operator(mode), "linearised once": linearized(p.operator())}
    runs: dict[str, Callable[[], Any]] = {}
    for name, operator in operators.items():
        runs[f"{name}, single"] = lambda operator=operator: matvec(operator, p.v)
        runs[f"{name}, {BLOCK} blocked"] = lambda operator=operator: matvecs(operator, vectors)
    times = seconds(runs, repeats)
    times |= {n: value / BLOCK for n, value in times.items() if "blocked" in n}
    targets = [
        Target(
            f"{where}: {name}, {BLOCK} blocked, per vector / single",
            times[f"{name}, {BLOCK} blocked"] / times[f"{name}, single"],
            0.8,
        )
        for name in operators
    ]
    return [(where, f"{name}, per vector", value) for name, value in times.items()], targets


def lanczos_step(p: Problem, where: str, mode: str, repeats: int) -> Found:
    """Time a Lanczos run of one probe from the host, beside as many bare products."""
    operator, key = p.operator(mode), jax.random.key(3)
    runs = {
        "bare product": lambda: [matvec(operator, p.v) for _ in range(STEPS)],
        "Lanczos step": lambda: spectral_density(operator, key=key, num_matvecs=STEPS).nodes,
    }
    times = {name: value / STEPS for name, value in seconds(runs, repeats).items()}
    ratio = times["Lanczos step"] / times["bare product"]
    where = f"{where}, {STEPS} steps"
    return [(where, name, value) for name, value in times.items()], [
        Target(f"{where}: Lanczos step / product", ratio, 1.1)
    ]


def orthogonalization(dim: int, num_matvecs: int, repeats: int) -> Found:
    """Time the recurrence alone, on a diagonal matrix with outliers; mean over the run's steps."""
    spectrum = np.random.default_rng(0).random(dim, np.float32)
    spectrum[:10] = 10 * np.arange(1, 11)
    start = np.random.default_rng(1).standard_normal(dim, np.float32)
    ours, theirs = [], []
    for _ in range(repeats):
        seconds_of_steps, rows_of_run = _run(start, spectrum, num_matvecs)
        ours.append(seconds_of_steps)
        lengths, angles = _loss_of_orthogonality(rows_of_run)
        del rows_of_run
        basis: list[Any] = []
        theirs.append(_run_pyhessian(basis, torch.from_numpy(spectrum), start, num_matvecs))
        _, peer = _loss_of_orthogonality(np.stack([v[0].numpy() for v in basis]))
    where = f"recurrence alone, n = {dim}, m = {num_matvecs}"
    rows = [
        (where, "adlab, mean of the steps", statistics.median(np.mean(ours, axis=1))),
        (where, "adlab, last step", statistics.median(np.array(ours)[:, -2])),
        (where, "PyHessian, mean of the steps", statistics.median(np.mean(theirs, axis=1))),
        (where, "PyHessian, last step", statistics.median(np.array(theirs)[:, -1])),
    ]
    return rows, [
        Target(f"{where}: mean step / 10 ms", rows[0][2] / 10e-3, 1.0),
        Target(f"{where}: max|QQ^T - I| off the diagonal / 1e-6", angles / 1e-6, 1.0),
        Target(f"{where}: max|QQ^T - I| on the diagonal / 1e-6", lengths / 1e-6, 1.0),
        Target(f"{where}: off the diagonal, adlab / PyHessian", angles / peer, 1.0),
    ]


def _run(
    start: np.ndarray, spectrum: np.ndarray, num_matvecs: int
) -> tuple[list[float], np.ndarray]:
    """Return the seconds of the steps, and the basis."""
    times, run = [], begin(HOST, start[None], num_matvecs)
    fresh = HOST.directions(jax.random.key(0), (1, start.size), start.dtype)
    for step in range(num_matvecs):
        product = spectrum * run.vectors[:, step]
        size = np.linalg.norm(product, axis=1)
        before = time.perf_counter()
        run = advance(HOST, run, step, product, size, fresh)
        times.append(time.perf_counter() - before)
    return times, run.vectors[0]


def _run_pyhessian(
    basis: list[Any], spectrum: torch.Tensor, start: np.ndarray, num_matvecs: int
) -> list[float]:
    times = []
    w = [torch.from_numpy(start.copy())]
    for _ in range(num_matvecs):
        begin = time.perf_counter()
        before, norm = basis[-1:], group_product(w, w) ** 0.5
        v = orthnormal(w, basis)
        basis.append(v)
        spent = time.perf_counter() - begin
        product = [spectrum * v[0]]
        begin = time.perf_counter()
        w = group_add(product, v, alpha=-group_product(product, v))
        w = group_add(w, before[0], alpha=-norm) if before else w
        times.append(spent + time.perf_counter() - begin)
    return times


def _loss_of_orthogonality(basis: np.ndarray) -> tuple[float, float]:
    """Return the largest |Q Q^T - I| on the diagonal and off it, summed in float64."""
    gram = -np.eye(len(basis))
    for start in range(0, basis.shape[1], 1 << 15):
        part = basis[:, start : start + (1 << 15)].astype(np.float64)
        gram += part @ part.T
    diagonal = abs(np.diag(gram))
    return float(diagonal.max()), float(abs(gram - np.diag(np.diag(gram))).max())


def density(p: Problem, where: str, probes: int) -> Found:
    """Time a whole spectral density, from the operator to the nodes; once, after a short run."""

    def ours(chunk_size: Any, steps: int = STEPS) -> Any:
        return spectral_density(
            linearized(p.operator()), key=jax.random.key(4), num_matvecs=steps, num_probes=probes,
            chunk_size=chunk_size,
        ).nodes  # fmt: skip

    def theirs() -> Any:
        with pyhessian_of(p) as view:
            return view.density(iter=STEPS, n_v=probes)

    times = {}
    for chunk in (1, "auto"):
        ours(chunk, steps=2)  # compiles
        times[f"linearised, chunk_size={chunk}"] = _clock(functools.partial(ours, chunk))
    automatic, best = times["linearised, chunk_size=auto"], min(times.values())
    times["PyHessian"] = _clock(theirs)
    where = f"density, {probes} probes x {STEPS} steps, {where}"
    return [(where, name, value) for name, value in times.items()], [
        Target(f"{where}: adlab, best chunk / PyHessian", best / times["PyHessian"], 1.0),
        Target(f"{where}: adlab, automatic chunk / best chunk", automatic / best, 1.1),
    ]


def _clock(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - begin


def fused_peer(p: Problem, where: str, mode: str, num_matvecs: int, repeats: int) -> Found:
    """Time matfree's tridiagonalisation, which is one compiled loop, beside ours from the host."""
    operator, like = p.operator(mode), trees.probe_like(p.operator().like)
    start = trees.ravel(p.v)

    def product(vector: Any, operator: Any) -> Any:
        return trees.ravel(operator.matvec(trees.unravel(vector, like)))

    method = decomp.tridiag_sym(num_matvecs, reortho="full", materialize=False)
    fused = jax.jit(lambda vector, operator: method(product, vector, operator).J_small)
    key = jax.random.key(5)
    runs = {
        "adlab": lambda: spectral_density(operator, key=key, num_matvecs=num_matvecs).nodes,
        "matfree": lambda: fused(start, operator),
    }
    times = {name: value / num_matvecs for name, value in seconds(runs, repeats).items()}
    where = f"{where}, {num_matvecs} steps"
    ratio = times["adlab"] / times["matfree"]
    return [(where, f"{name}, per step", value) for name, value in times.items()], [
        Target(f"{where}: adlab / matfree", ratio, 1 / 5)
    ]


def sections(options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """Return all that is measured, by name."""
    few, fewest = max(1, options.batch // 4), max(2, options.batch // 16)
    many, repeats, mode = options.batch, options.repeats, MODES[0]
    less = max(1, repeats // 2)

    def network(batch: int) -> tuple[Problem, str]:
        return problem(batch, options.depth), f"ResNet-{options.depth}, batch {batch}"

    return {
        "agreement": lambda: agreement(fewest, options.depth),
        "products, large batch": lambda: products(*network(many), MODES[:2], repeats),
        "products": lambda: products(*network(few), MODES, repeats),
        "blocks": lambda: blocks(*network(few), mode, repeats),
        "Lanczos step": lambda: lanczos_step(*network(few), mode, less),
        "density": lambda: density(*network(few), options.probes),
        "fused": lambda: fused_peer(*network(fewest), mode, 8, less),
        "orthogonalization": lambda: orthogonalization(trees.size(network(1)[0].params), 90, less),
    }


def provenance() -> dict[str, Any]:
    """Return what the figures depend on, apart from this code."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": model,
        "cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "load before (1, 5, 15 min)": os.getloadavg(),
    }


def taken_by_others(since: tuple[float, float, float] | None = None) -> Any:
    """Return (busy, own, all) seconds of this machine's cores, or others' share of it `since`."""
    ticks = [int(n) for n in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    scale = os.sysconf("SC_CLK_TCK")
    idle = ticks[3] + ticks[4]
    own = sum(os.times()[:2])
    now = (sum(ticks) - idle) / scale, own, sum(ticks) / scale
    if since is None:
        return now
    busy, mine, whole = (a - b for a, b in zip(now, since, strict=True))
    return max(0.0, busy - mine) / whole


def main() -> int:
    """Run the benchmarks, print their tables and keep them where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", type=Path, help="a file whose other sections are kept")
    parser.add_argument("--only", nargs="*", help="names of sections")
    parser.add_argument("--depth", type=int, default=32)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--probes", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rows: Rows = []
    targets: list[Target] = []
    for name, run in sections(options).items():
        if options.only and name not in options.only:
            continue
        where, before = provenance(), taken_by_others()
        found = run()
        where["share of the cores that other processes took"] = round(taken_by_others(before), 3)
        if isinstance(found, tuple):
            rows, targets = rows + found[0], targets + found[1]
            found = _entry(*found)
        print(json.dumps({name: where | found}, indent=1), flush=True)
        if options.record is not None:
            kept = json.loads(options.record.read_text()) if options.record.exists() else {}
            options.record.write_text(json.dumps(kept | {name: where | found}, indent=1) + "\n")
    return report(rows, targets)


def _entry(rows: Rows, targets: list[Target]) -> dict[str, Any]:
    return {
        "medians, ms": {f"{w}: {name}": float(f"{value * 1e3:.4g}") for w, name, value in rows},
        "ratios": [
            {
                "what": t.what, "measured": float(f"{t.ratio:.4g}"),
                "at most": float(f"{t.most:.4g}"), "met": bool(t.met),
            }
            for t in targets
        ],
    }  # fmt: skip


if __name__ == "__main__":
    with_one_malloc()
    sys.exit(main())
