"""The experiment that CONTRIBUTING.md shows is one."""

import re
from pathlib import Path

from adlab import lab
from adlab.lab import results

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"


def test_the_smallest_experiment_runs_and_its_claim_holds(tmp_path):
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    for folder, name, text in (
        ("experiments", "halving.py", code),
        ("configs", "halving.toml", ""),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text, encoding="utf-8")
    folder = lab.run(tmp_path / "configs" / "halving.toml", out=tmp_path / "results")
    assert [verdict.outcome for verdict in results.read_verdicts(folder)] == ["holds"]
    assert {path.stem for path in results.figures(folder)} == {"errors"}
