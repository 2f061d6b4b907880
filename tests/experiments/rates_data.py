"""Arrays of `rates` that bear out every claim of it, or one changed so that it is refuted."""

import numpy as np

SEEDS = 16
TAU = np.geomspace(30, 400, 24)
HITS = np.unique(np.geomspace(1, 1e6, 200).astype(int))
CHANGES = {
    "dims": [8, 16, 32],
    "full_dims": [16, 32, 64],
    "num_seeds": SEEDS,
    "horizons": [30, 100],
    "tables": ["breast_cancer", "digits"],
    "estimators": [{"kind": "reverse_mode"}, {"kind": "two_point"}, {"kind": "forward_gradient"}],
}


def noisy(curve):
    """Return S seeds of a curve that differ by a factor of 1 % or so."""
    factors = np.exp(0.01 * np.linspace(-1, 1, SEEDS))
    return np.asarray(curve)[..., None, :] * factors[:, None]


def tail(power, growth=1.0, factor=1.0, averaged=0.7):
    """A cell whose curves fall as (k/n^growth)^power."""
    dims = np.array(CHANGES["dims"])
    k = np.rint(TAU * dims[:, None])
    scaled = k / dims[:, None] ** growth
    return {
        "k": k,
        "curves": noisy(factor * scaled**power),
        "averages": noisy(scaled**-averaged),
        "gd_k": np.arange(1, 401),
        "gd": np.arange(1.0, 401) ** power,
    }


def quadratic(growths=(0.0, 1.0, 1.0), squares=(0.0, 1.0, 1.0), length=5):
    """Exponential decay, in n^growth iterations for each estimator, of f and of |x - x*|^2."""
    dims = np.array(CHANGES["full_dims"])

    def decay(length, growths):
        return np.array(
            [[noisy(np.exp(-HITS / (length * n**growth))) for n in dims] for growth in growths]
        )

    unknown = np.full(3, np.nan)
    return {
        "k": np.broadcast_to(HITS, (3, 3, HITS.size)),
        "curves": decay(20, growths),
        "squares": decay(length, squares),
        "predicted_squares": np.full((3, 3, HITS.size), np.nan),
        "exact_squares": np.array([unknown, 5 * dims * np.log(1e3), unknown]),
        "factor": np.array([np.ones(3), dims, dims]),
        "calls": np.array([np.ones(3), 2 * dims, np.ones(3)]),
        "evaluations": np.array([np.full(3, 2.3), 2.0 * dims, 2.7 * dims]),
        "operations": np.array([np.full(3, 2.3), 2.0 * dims, 2.7 * dims]) * 3 * dims,
        "exact": np.array([unknown, 20 * dims * np.log(1e3), unknown]),
        "conditions": np.array([1.0, 10.0, 100.0]),
        "margins": np.array([[1.0] * 3, [1.98] * 3, [1.99] * 3]),
    }


def lipschitz(in_dim=0.5, in_steps=-0.5):
    dims, lengths = np.array(CHANGES["dims"]), np.array([1250, 5000, 20000])
    mean = dims[:, None] ** in_dim * lengths**in_steps
    return {"lengths": lengths, "errors": np.moveaxis(noisy(mean), 1, 2), "gd": np.array(5e-3)}


def real(slowdown=4.0):
    """Descent whose best factor takes `slowdown` times the iterations of gradient descent."""
    k = np.geomspace(1, 1e5, 120)
    factors = np.geomspace(1, 66, 8)
    times = slowdown * np.array([5.0, 3, 1, 1.5, 2, 4, 8, 16])
    arrays = {
        "gd_k": k,
        "gd": np.exp(-k / 10),
        "k": np.tile(k, (8, 1)),
        "curves": np.stack([noisy(np.exp(-k / (10 * time))) for time in times]),
        "factors": factors,
        "effective": np.array(4.0),
        "worst": np.array(33.0),
    }
    return {f"{table}_{key}": each for table in CHANGES["tables"] for key, each in arrays.items()}


def controls(chain=-0.5, power=None, growth=0.0, end=1e6):
    k = np.unique(np.geomspace(1, 1e5, 400).astype(int))
    data = {"chain_k": k, "chain": k ** float(chain), "power_k": k, "rank_one_k": HITS}
    data |= {f"power_{p}": k ** (power or -p / (p - 2.0)) for p in (4, 8, 20)}
    dims = np.array(CHANGES["full_dims"])
    data["rank_one"] = noisy(1 / (1 + HITS / dims[:, None] ** growth))
    data["growth"] = np.full((2, 3, SEEDS), end)
    return data | {"rank_one_gd": 1 / (1 + HITS)}


def worst_case(gd=1.0, factor=1.0):
    return {"gd": np.full(2, gd), "scaled": np.full((3, 2, SEEDS), factor)}


def full_dimension(shift=0.0):
    values = np.linspace(0.9, 1.1, 64)
    return {"full": values + shift, "reduced": values}


def effective(equal=1.0, halving=0.0, factor=1.0):
    """Slowdowns over gradient descent's 10 iterations per e that grow as n^power."""
    dims = np.array(CHANGES["full_dims"])
    k = np.geomspace(1, 1e5, 120)
    slow = factor * np.array([dims**equal, 4 * (dims / 16) ** halving])
    return {
        "gd_k": k,
        "gd": np.exp(-k / 10),
        "factors": np.array([dims, np.full(3, 4.0)]),
        "k": np.broadcast_to(k, (2, 3, 120)),
        "curves": np.array([[noisy(np.exp(-k / (10 * each))) for each in row] for row in slow]),
    }


GOOD = {
    "smooth": lambda: tail(-12 / 11, factor=8 / 7),
    "convex": lambda: tail(-1.0),
    "worst_case": worst_case,
    "strongly_convex": quadratic,
    "lipschitz": lipschitz,
    "real_data": real,
    "controls": controls,
    "full_dimension": full_dimension,
    "effective_dimension": effective,
}
