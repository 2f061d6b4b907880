"""Lanczos in a fresh process: its memory is the basis, and a stated handful of vectors."""

import subprocess
import sys
from pathlib import Path

import jax
import pytest

from adlab.curvature import Linear, lanczos_bytes

DIM, STEPS = 2_000_000, 40
COMPILING = 128 * 2**20
PROGRAM = """
import pathlib, re, sys
import jax, jax.numpy as jnp
from adlab.curvature import Linear, spectral_density

dim, steps = int(sys.argv[1]), int(sys.argv[2])
like = jax.ShapeDtypeStruct((dim,), jnp.float32)
operator = Linear(lambda v: v * (jnp.arange(dim, dtype=jnp.float32) / dim), like)
status = pathlib.Path("/proc/self/status")  # getrusage would begin with the parent's own peak
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1])
small = Linear(lambda v: 2 * v, jax.ShapeDtypeStruct((64,), jnp.float32))
key = jax.random.key(0)
run = lambda a, m: spectral_density(a, key=key, num_matvecs=m).bounds()[1][0]
run(small, 4)  # compilers and their threads
before = peak()
largest = run(operator, steps)
print(peak() - before, float(largest))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="read from Linux's /proc")
def test_lanczos_takes_its_basis_and_a_handful_of_vectors():
    vector = 4 * DIM
    operator = Linear(lambda v: v, jax.ShapeDtypeStruct((DIM,), "float32"))
    basis = lanczos_bytes(operator, num_matvecs=STEPS)
    assert basis == STEPS * vector
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(DIM), str(STEPS)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    grown, largest = map(float, done.stdout.split())
    assert 0.95 < largest <= 1.0 + 1e-5
    # 9 vectors: the start, a product, a step's temporaries; and what compiling takes in any size.
    assert basis <= grown <= basis + 9 * vector + COMPILING
