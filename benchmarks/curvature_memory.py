"""Memory of Lanczos at 20 million parameters: 40 steps in a fresh process, within 8 GiB.

Run by `python benchmarks/curvature_memory.py`. The basis takes 40 vectors of 76 MiB, 3 GiB; the
resident peak of the whole process, jax and its compilers included, is printed and asserted.
"""

from __future__ import annotations

import resource
import sys
import time

import jax
import jax.numpy as jnp

from adlab.curvature import Linear, lanczos_bytes, spectral_density

DIM, STEPS, CEILING = 20_000_000, 40, 8 * 2**30


def main() -> int:
    like = jax.ShapeDtypeStruct((DIM,), jnp.float32)
    operator = Linear(lambda v: v * (jnp.arange(DIM, dtype=jnp.float32) / DIM), like)
    basis = lanczos_bytes(operator, num_matvecs=STEPS)
    start = time.perf_counter()
    spectral_density(operator, key=jax.random.key(0), num_matvecs=STEPS)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"{STEPS} steps in dimension {DIM:,}: {seconds:.1f} s, basis {basis / 2**30:.2f} GiB, "
        f"resident peak {peak / 2**30:.2f} GiB, ceiling {CEILING / 2**30:.0f} GiB"
    )
    return 0 if peak <= CEILING else 1


if __name__ == "__main__":
    sys.exit(main())
