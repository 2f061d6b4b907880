"""Every experiment runs, leaves what it should, repeats bit for bit, and can be looked at."""

import json
import math
import unicodedata
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from adlab import lab
from adlab.figures import colors, style
from adlab.lab import fresh, results, start, store
from adlab.lab.progress import Progress
from adlab.lab.verdict import Basis

ROOT = Path(__file__).parents[2]
# What the lecture says, and our own count refutes at any size of the run.
REFUTED = {f"gpt2_memory.claim.lecture_{name}" for name in ("none", "layer", "work")}
LEAST = 18  # points of type on a slide
FIELDS = {"claim", "measured", "low", "high", "expected", "tolerance", "outcome"}


def test_a_run_leaves_everything_that_its_folder_should_hold(smoke, formats):
    _, folder = smoke
    names = {path.name for path in folder.iterdir()}
    wanted = {"config.toml", "run.json", "data.npz", "verdicts.json", "figures", "log.txt", "DONE"}
    assert wanted <= names
    with np.load(folder / "data.npz", allow_pickle=False) as data:
        assert all(data[name].dtype != object for name in data.files)
    figures = [path.name for path in (folder / "figures").iterdir()]
    stems = {name.partition(".")[0] for name in figures}
    assert stems
    assert sorted(figures) == sorted(f"{stem}.{kind}" for stem in stems for kind in formats)


def test_verdicts_are_strict_json_with_all_fields(smoke):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    _, folder = smoke
    verdicts = json.loads((folder / "verdicts.json").read_text(), parse_constant=refuse)
    assert verdicts
    assert all(verdict.keys() >= FIELDS for verdict in verdicts)
    for verdict in verdicts:
        refuted = verdict["key"] in REFUTED
        assert (verdict["outcome"] == "fails") == refuted, verdict["claim"]


def test_every_verdict_has_a_class_and_a_measured_one_rests_on_the_run_alone(smoke, job):
    """Measured: it moves with the run's arrays, and what it expects doesn't."""
    _, folder = smoke
    data = store.read_arrays(folder / "data.npz")
    if (folder / "timings.npz").exists():
        data |= store.read_arrays(folder / "timings.npz")
    before = named(job.module.verdicts(data, job.config))
    assert {v.basis for v in before.values()} <= set(get_args(Basis))
    told = {k for k, v in before.items() if v.basis == "measured" and math.isfinite(v.measured)}
    stuck = set(told)
    for seed, kinds in enumerate(("f", "fiu", "fiu") if told else ()):
        with np.errstate(all="ignore"):
            after = named(job.module.verdicts(shaken(data, kinds, seed), job.config))
        for name in told & after.keys():
            one, other = before[name], after[name]
            assert one.expected == other.expected, f"what {name} expects derives from the run"
            if (one.measured, one.low, one.high) != (other.measured, other.low, other.high):
                stuck.discard(name)
        if not stuck:
            break
    assert not stuck, "these call themselves measured, whatever the run found"


def named(verdicts):
    """Return the verdicts by their place among those of the same claim."""
    keys = [str(v.claim.key) for v in verdicts]
    return {
        f"{key} {keys[:k].count(key)}": v
        for k, (key, v) in enumerate(zip(keys, verdicts, strict=True))
    }


def shaken(data, kinds, seed):
    """Return arrays of these kinds changed by a few per cent; integers in another order."""
    rng = np.random.default_rng(seed)

    def moved(array):
        if array.dtype.kind == "f":
            return array * np.exp(rng.normal(0, 0.05, array.shape))
        return rng.permutation(array.ravel()).reshape(array.shape)

    return {k: moved(v) if v.dtype.kind in kinds else v for k, v in data.items()}


def test_no_outcome_of_a_smoke_run_depends_on_the_clock(smoke, job):
    _, folder = smoke
    code = "".join(path.read_text() for path in job.sources)
    assert (folder / "timings.npz").exists() == ("progress.timing(" in code)
    times = {}
    if (folder / "timings.npz").exists():
        times = store.read_arrays(folder / "timings.npz")
    data, rng = store.read_arrays(folder / "data.npz"), np.random.default_rng(0)
    found = [
        [v.outcome for v in job.module.verdicts(data | chosen, job.config)
         if v.claim.key not in REFUTED]
        for chosen in (
            times,
            *({k: v * 10 ** rng.uniform(-3, 3, v.shape) for k, v in times.items()} for _ in "ab"),
        )
    ]  # fmt: skip
    assert found[0]
    assert "fails" not in found[0]
    assert found[1:] == found[:1] * 2


def test_another_run_gives_the_same_bytes(smoke, first_job, tmp_path, monkeypatch):
    """Whatever a fresh process tells: that goes to the timings."""
    monkeypatch.setattr(fresh, "peak", lambda *_, **__: "not again")
    _, folder = smoke
    with start.precision(first_job.config.x64):
        again = store.as_arrays(first_job.module.run(first_job.config, Progress.silent()))
    store.write_arrays(tmp_path / "data.npz", again)
    assert (tmp_path / "data.npz").read_bytes() == (folder / "data.npz").read_bytes()


def test_what_is_drawn_again_has_the_same_bytes(smoke, drawn):
    _, folder = smoke
    # a figure of what the clock, or a process, said has this at the start
    (_, again), timed = drawn, ("seconds", "peaks")
    figures = {f.name for f in folder.glob("figures/*.svg") if not f.stem.startswith(timed)}
    assert {f.name for f in again.iterdir()} == figures
    for name in figures:
        assert (again / name).read_bytes() == (folder / "figures" / name).read_bytes(), name


def test_a_finished_run_is_not_repeated(smoke):
    path, folder = smoke
    before = (folder / "data.npz").stat().st_mtime_ns
    assert lab.run(path, profile="smoke", out=folder.parent) == folder
    assert (folder / "data.npz").stat().st_mtime_ns == before


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_figures_have_large_dark_type_within_the_picture(drawn, lang):
    figures = drawn[0][lang]
    assert figures
    for name, figure in figures.items():
        canvas = FigureCanvasAgg(figure)
        with style.context(lang):  # further ticks are made as it is drawn
            canvas.draw()
        renderer, pixels = canvas.get_renderer(), np.asarray(canvas.buffer_rgba())
        for words in visible_texts(figure):
            box = words.get_window_extent(renderer)
            where = f"{name}: {words.get_text()!r}"
            assert words.get_fontsize() >= LEAST, where
            assert box.x0 >= 0, where
            assert box.y0 >= 0, where
            assert box.x1 <= figure.bbox.x1, where
            assert box.y1 <= figure.bbox.y1, where
            assert contrast(words, box, pixels) >= colors.READABLE, where
        for legend in figure.findobj(Legend):  # its lines are no texts
            box = legend.get_window_extent(renderer)
            assert box.x0 >= 0, name
            assert box.x1 <= figure.bbox.x1, name


def contrast(words, box, pixels):
    """Return the contrast of a text with what most of its box is filled with."""
    rows = slice(len(pixels) - math.ceil(box.y1), len(pixels) - math.floor(box.y0))
    within = pixels[rows, math.floor(box.x0) : math.ceil(box.x1), :3].reshape(-1, 3)
    shades = (within // 8).astype(int) @ [32 * 32, 32, 1]
    most = np.argmax(np.bincount(shades))
    ground = (np.array([most // 1024, most // 32 % 32, most % 32]) * 8 + 7) / 255
    red, green, blue, alpha = to_rgba(words.get_color(), words.get_alpha())
    shown = alpha * np.array([red, green, blue]) + (1 - alpha) * ground
    return colors.contrast(shown, ground)


def test_contrast_is_with_what_most_of_the_box_is_filled_with():
    words, box = Text(0, 0, "a", color="black"), Bbox([[2, 1], [8, 5]])
    pixels = np.full((9, 10, 4), 255, np.uint8)
    pixels[2:7, 2:8, :3] = (231, 119, 39)  # of 8 shades each the lightest
    pixels[4:8, 2:4, :3] = 0
    expected = colors.contrast((0, 0, 0), np.array([231, 119, 39]) / 255)
    assert contrast(words, box, pixels) == pytest.approx(expected)


def visible_texts(figure):
    """Return the texts that are drawn: ticks outside of the axis aren't, nor hidden axes."""
    hidden = set()
    for ax in figure.axes:
        if not ax.get_visible():
            hidden |= set(ax.findobj(Text))
            continue
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not low <= tick.get_loc() <= high:
                    hidden |= {tick.label1, tick.label2}
    for words in figure.findobj(Text):
        if words.get_visible() and words.get_text() and words not in hidden:
            yield words


def test_a_plot_in_russian_speaks_russian(drawn):
    for figure in drawn[0]["ru"].values():
        words = " ".join(t.get_text() for t in visible_texts(figure))
        assert any("CYRILLIC" in unicodedata.name(letter, "") for letter in words)


PLUGIN = '''
"""An estimator of a user's own."""
import jax
from adlab.core.cost import Cost
from adlab.gradients import custom


def pair(fun, *, smoothing: float = 1e-3):
    """Estimate from one Gaussian pair.

    Args:
      smoothing: step of the difference.
    """

    def estimate(fun, x, key):
        u = jax.random.normal(key, x.shape, x.dtype)
        return (fun(x + smoothing * u) - fun(x - smoothing * u)) / (2 * smoothing) * u

    return custom(fun, estimate, cost=lambda d: Cost(evaluations=2), second_moment=lambda d: d + 2)
'''


@pytest.mark.parametrize(
    ("name", "changes"),
    [("rates", {"parts": ["strongly_convex"]}), ("estimator_variance", {"num_draws": 4000})],
)
def test_an_estimator_of_the_users_own_takes_part(name, changes, tmp_path, monkeypatch):
    (tmp_path / "my_estimator.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(style, "FORMATS", ("svg",))
    folder = lab.run(
        ROOT / "configs" / f"{name}.toml", profile="smoke", out=tmp_path,
        overrides=changes | {"estimators": [{"kind": "my_estimator:pair"}]},
        plugins=["my_estimator"],
    )  # fmt: skip
    verdicts = results.read_verdicts(folder)
    about = [v for v in verdicts if "pair" in v.claim.render()]
    assert about
    assert all(math.isfinite(v.measured) for v in about)
    assert all(v.outcome != "fails" for v in about)
