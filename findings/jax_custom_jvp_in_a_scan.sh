#!/usr/bin/env bash
# jax 0.10.2: in a scan, the second derivative of a function with a rule of its own may be 0.
#
# The rule of `value` (sin x, worked out before and handed in) uses a second function, `slope`, with
# a rule of its own. One would guess that the second derivative is the same in a scan of one step as
# without it: -sin x. Reverse over reverse and forward over reverse give 0 in the scan, and nobody
# says so; reverse over forward is right. jax 0.12.0 gives -sin x everywhere.
#
# Why: the body of a scan is split by partial evaluation into what is known and what is linear in
# the tangents. JaxprTrace.process_custom_jvp_call (jax.interpreters.partial_eval) assumes that such
# a split only builds linear functions: where an argument isn't known it evaluates the function
# without its rule. What is left of `slope` is the number that was handed in, a constant. On 0.12
# the rule is met again when the outer derivative is taken.
# So a rule that has to survive must not hang on custom_jvp alone; one that goes through
# lax.custom_linear_solve does.
#
# Output seen (Python 3.11, CPU; -sin 1 = -0.84147):
#   0.10.2 plain: reverse over reverse -0.84147, forward over reverse -0.84147
#   0.10.2 in a scan: reverse over reverse 0.00000, forward over reverse 0.00000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2
JAX_PLATFORMS=cpu "$work/venv/bin/python" - <<'PYTHON'
import math

import jax
import jax.numpy as jnp
from jax import lax


@jax.custom_jvp
def value(known, x):
    return known


@jax.custom_jvp
def slope(known, x):
    return known


@value.defjvp
def value_rule(primals, tangents):
    known, x = primals
    return value(known, x), slope(lax.stop_gradient(jnp.cos(x)), x) * tangents[1]


@slope.defjvp
def slope_rule(primals, tangents):
    known, x = primals
    return slope(known, x), -lax.stop_gradient(jnp.sin(x)) * tangents[1]


def sine(x):
    return value(lax.stop_gradient(jnp.sin(x)), x)


def scanned(x):
    return lax.scan(lambda c, _: (sine(c), None), x, None, length=1)[0]


found = {}
for name, fun in {"plain": sine, "in a scan": scanned}.items():
    twice = float(jax.grad(jax.grad(fun))(1.0))
    mixed = float(jax.jvp(jax.grad(fun), (1.0,), (1.0,))[1])
    found[name] = twice, mixed
    print(f"{jax.__version__} {name}: reverse over reverse {twice:.5f}, "
          f"forward over reverse {mixed:.5f}")
expected = -math.sin(1.0)
assert all(abs(each - expected) < 1e-6 for each in found["plain"]), found
assert found["in a scan"] == (0.0, 0.0), found
PYTHON
