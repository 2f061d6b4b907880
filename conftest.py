"""Names that the examples in docstrings use without importing them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adlab import gradients


@pytest.fixture(autouse=True)
def _examples(doctest_namespace: dict[str, object]) -> None:
    doctest_namespace |= {"jax": jax, "jnp": jnp, "np": np}
    doctest_namespace |= {name: getattr(gradients, name) for name in gradients.__all__}
