"""Random programs have no nonzero outside of their patterns; many more by the script."""

import numpy as np
import random_patterns

PROGRAMS = range(0, len(random_patterns.RULES), 4)  # each draws four rules more


def test_no_nonzero_is_outside_of_a_pattern():
    found = {seed: random_patterns.faults(seed) for seed in PROGRAMS}
    missed = {seed: places.tolist() for seed, (places, *_) in found.items() if len(places)}
    assert missed == {}
    kept, nonzero, size = np.sum([counts for _, *counts in found.values()], axis=0)
    assert nonzero > 500
    assert kept < 0.6 * size  # not by taking all to be dense
