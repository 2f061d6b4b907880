"""The shapes of `feed_forward` are judged by the widths of the network, not by the trace itself."""

from pathlib import Path

from adlab.lab import config as configs
from adlab.lab import start
from adlab.lab.progress import Progress

ROOT = Path(__file__).parents[2]


def shapes(job, data):
    found = job.module.verdicts(data, job.config)
    return next(v for v in found if v.claim.key.endswith("claim.shapes"))


def test_a_derivative_of_another_shape_fails_even_where_its_value_has_it_too():
    job = configs.load(ROOT / "configs" / "feed_forward.toml", profile="smoke")
    with start.precision(job.config.x64):
        data = job.module.run(job.config, Progress.silent())
    verdict = shapes(job, data)
    assert (verdict.outcome, verdict.basis) == ("holds", "identity")
    turned = {key: data[key].T for key in ("value_a1", "derivative_a1")}
    assert shapes(job, data | turned).outcome == "fails"
