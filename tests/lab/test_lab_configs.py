"""Refusals of bad configs, by their exact texts, and overrides."""

import re
import shlex
import tomllib
from pathlib import Path
from textwrap import dedent

import pytest

from adlab.lab import config, experiment, overrides
from adlab.lab.cli import Run, main
from adlab.lab.errors import ConfigError, LabError, UsageError

METHODS = '''
"""Methods side by side."""

from adlab import lab


class Config(lab.ExperimentConfig):
    """A toy with a problem and methods."""

    problem: lab.ProblemSpec = lab.problems.make("norm", dim=4)
    estimators: list[lab.Estimator] = [lab.estimators.make("two_point", num_probes=3)]
    seeds: tuple[int, ...] = (0,)
    decay: float = 1.0


def run(config, progress):
    built = [e.build(config.problem.build().fun) for e in config.estimators]
    return {"count": len(built), "decay": config.decay}


def verdicts(data, config):
    return []


def plot(data, config):
    return {}
'''


@pytest.fixture
def methods(checkout):
    checkout.experiment("methods", METHODS)
    checkout.config("methods", "")
    return checkout


def problems_of(checkout, text, **options):
    path = checkout.config("bad", 'experiment = "methods"\n' + dedent(text))
    with pytest.raises(ConfigError) as caught:
        config.load(path, **options)
    assert caught.value.exit_code == 2
    return caught.value.problems


KINDS = "finite_difference, forward_gradient, forward_mode, one_sided, reverse_mode, two_point"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "decy = 1.0",
            "unknown key `decy`; did you mean `decay`? "
            "(known: decay, estimators, memory_limit, problem, seed, seeds, x64)",
        ),
        ('seed = "500"', "`seed` must be an integer, got '500'"),
        ("seed = 500.0", "`seed` must be an integer, got 500.0"),
        ("seed = true", "`seed` must be an integer, got true"),
        ("x64 = 1", "`x64` must be true or false, got 1"),
        ('decay = "fast"', "`decay` must be a number, got 'fast'"),
        ("seeds = 3", "`seeds` must be a list, got 3"),
        ('seeds = [1, "2"]', "`seeds.1` must be an integer, got '2'"),
        ("problem = 4", "`problem` must be a table, got 4"),
        ("estimators = [7]", "`estimators.0` must be a table, got 7"),
        ("estimators = [{}]", f"missing key `estimators.0.kind` (one of {KINDS})"),
        ('problem = {kind="norm"}', "missing key `problem.dim`"),
        (
            'estimators = [{kind="twopoint"}]',
            f"`estimators.0.kind` = 'twopoint' is not one of {KINDS}; did you mean 'two_point'?",
        ),
        (
            'estimators = [{kind="two_point", num_probess=2}]',
            "unknown key `estimators.0.num_probess`; did you mean `num_probes`? "
            "(known: chunk_size, kind, law, num_probes, smoothing)",
        ),
        (
            'estimators = [{kind="two_point", smoothing="autoo"}]',
            "`estimators.0.smoothing` must be a number or 'auto' or 'relative', got 'autoo'; "
            "did you mean 'auto'?",
        ),
        (
            'estimators = [{kind="two_point", law="gausian"}]',
            "`estimators.0.law` = 'gausian' is not one of "
            "sphere, gaussian, rademacher, coordinate, orthogonal; did you mean 'gaussian'?",
        ),
        (
            'estimators = [{kind="mine:best"}]',
            "'mine:best' is code of your own: allow it with --plugin mine",
        ),
    ],
)
def test_each_mistake_is_told_in_the_words_of_the_file(methods, text, line):
    assert problems_of(methods, text) == [line]


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ("smoothing=-1.0", "smoothing must be"),
        ("smoothing=0.0", "smoothing must be"),
        ("num_probes=0", "num_probes must be"),
        ("chunk_size=0", "chunk_size must be"),
    ],
)
def test_values_are_refused_by_the_factory_itself(methods, parameters, told):
    text = f'estimators = [{{kind="reverse_mode"}}, {{kind="two_point", {parameters}}}]'
    (line,) = problems_of(methods, text)
    assert line.startswith(f"estimators.1: {told}")


def test_a_problem_with_a_wrong_dimension_is_refused(methods):
    (line,) = problems_of(methods, 'problem = {kind="norm", dim=0}')
    assert line.startswith("problem: dim must be")


def test_all_problems_come_at_once(methods):
    text = """
        decy = 1.0
        seed = "500"
        problem = {kind="norm", dims=4}
        estimators = [{kind="two_point", num_probes=-1}, {kind="twopoint"}]
    """
    with pytest.raises(ConfigError) as caught:
        config.load(
            methods.config("bad", 'experiment = "methods"\n' + dedent(text)),
            changes={"estimators.9.kind": "two_point"},
        )
    lines = str(caught.value).splitlines()
    assert lines[0] == "configs/bad.toml: 7 problems"
    assert len(lines) == 8
    assert all(line.startswith("  ") for line in lines[1:])


def test_an_integer_is_a_number_and_nothing_else_is_converted(methods):
    path = methods.config("good", 'experiment = "methods"\ndecay = 2\nseeds = [1, 2]\n')
    loaded = config.load(path).config
    assert (loaded.decay, type(loaded.decay)) == (2.0, float)
    assert loaded.seeds == (1, 2)


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
def test_infinities_survive_the_round_trip(methods, value):
    from adlab.lab import toml

    path = methods.config("good", f'experiment = "methods"\ndecay = {value}\n')
    job = config.load(path)
    again = methods.config("again", toml.write(job.resolved))
    assert config.load(again).key == job.key
    assert repr(config.load(again).config.decay) == value


def test_the_key_depends_on_the_resolved_config_alone(methods):
    plain = config.load("configs/methods.toml")
    spelled = methods.config("spelled", 'experiment = "methods"\nseed = 0\ndecay = 1\n')
    assert config.load(spelled).key == plain.key
    assert config.load(spelled, changes={"seed": 1}).key != plain.key
    assert plain.key.startswith("methods-")
    assert plain.resolved["estimators"][0]["num_probes"] == 3


def test_a_missing_experiment_names_the_nearest(checkout):
    path = checkout.config("decai", "")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert str(caught.value) == (
        "configs/decai.toml: 1 problem\n"
        "  no experiment 'decai' in experiments; did you mean 'decay'? (there: decay)"
    )


def test_a_plot_may_demand_verdicts(checkout):
    checkout.experiment(
        "asking",
        "from adlab import lab\nclass Config(lab.ExperimentConfig): ...\n"
        "run = verdicts = lambda *values: None\ndef plot(data, config, *, verdicts): ...",
    )
    assert config.load(checkout.config("asking", "")).name == "asking"


def test_a_missing_experiment_is_looked_for_in_adlabs_own_folder_too(checkout, monkeypatch):
    other = checkout.path / "installed"
    (other / "experiments" / "decades").mkdir(parents=True)
    (other / "experiments" / "decades" / "__init__.py").touch()
    monkeypatch.setattr(experiment, "installed", lambda: other)
    with pytest.raises(ConfigError) as caught:
        config.load(checkout.config("decaes", ""))
    assert str(caught.value) == (
        "configs/decaes.toml: 1 problem\n  no experiment 'decaes' in experiments or "
        "installed/experiments; did you mean 'decades'? (there: decades, decay)"
    )


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("configs/decy.toml", "no config configs/decy.toml; did you mean configs/decay.toml?"),
        ("decay", "no config decay; did you mean configs/decay.toml?"),
        ("configs/zzzzzzzz.toml", "no config configs/zzzzzzzz.toml"),
    ],
)
def test_a_missing_config_names_the_nearest(name, told):
    with pytest.raises(UsageError) as caught:
        config.load(name)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_"),
        ("x = 1", "experiments/half.py must define Config, run, verdicts, plot; missing: Config"),
        ("def f(:", "SyntaxError: "),
        (
            "class Config: pass\nrun = verdicts = plot = lambda *values: None",
            "experiments/half.py: Config must derive from lab.ExperimentConfig",
        ),
        (
            "Config = int\ndef run(config, progress): ...\ndef verdicts(data): ...\nplot = run",
            "experiments/half.py: the lab calls verdicts(data, config), but it is verdicts(data): "
            "too many positional arguments",
        ),
        (
            "Config = int\nrun = verdicts = lambda *values: None\nplot = 5",
            "experiments/half.py: plot(data, config) must be a function, got 5",
        ),
        (
            "Config = int\nrun = verdicts = plot = lambda *values: None\n"
            "def needs(config, more): ...",
            "experiments/half.py: the lab calls needs(config), but it is needs(config, more): "
            "missing a required argument: 'more'",
        ),
    ],
)
def test_an_experiment_that_cannot_be_used_says_why(checkout, source, told):
    checkout.experiment("half", source)
    with pytest.raises(LabError) as caught:
        config.load(checkout.config("half", ""))
    assert told in str(caught.value)


def test_flags_become_paths_and_values():
    argv = shlex.split(
        "--a-b 1 --c.0.d=x --e 1.5 2 --f --g.no-h --i true --j False --k -3 --l [1,2]"
    )
    assert overrides.parse_flags(argv) == {
        "a_b": 1,
        "c.0.d": "x",
        "e": [1.5, 2],
        "f": True,
        "g.h": False,
        "i": True,
        "j": False,
        "k": -3,
        "l": [1, 2],
    }


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--seeds 1 2 --x64 3", "unexpected argument '3'; overrides look like --num-steps 5"),
        ("--decay 1 --decay 2", "--decay stands there twice"),
        ("--decay 1 --lang en 2", "unexpected argument '2'; overrides look like --num-steps 5"),
    ],
)
@pytest.mark.usefixtures("methods")
def test_no_word_is_dropped_or_taken_for_another_flags(line, told, capsys):
    assert main(["run", "configs/methods.toml", *shlex.split(line)]) == 2
    assert capsys.readouterr().err == f"error: {told}\n"


@pytest.mark.usefixtures("quick_figures")
def test_the_commands_flags_are_told_from_the_configs(checkout, capsys):
    flags = "--widths 3 4 --check --num-steps=5 --out r --ratio 5e-1"
    assert main(shlex.split(f"run --x64 configs/decay.toml {flags}")) == 0
    capsys.readouterr()
    (folder,) = (checkout.path / "r").iterdir()
    resolved = tomllib.loads((folder / "config.toml").read_text())
    assert (resolved["x64"], resolved["widths"], resolved["num_steps"]) == (True, [3, 4], 5)
    assert overrides.parse_flags(["--decay", "-1e-3"]) == {"decay": -0.001}


@pytest.mark.usefixtures("methods")
def test_overrides_reach_into_what_the_file_leaves_out():
    changes = {"estimators.0.num_probes": 7, "problem.dim": 9, "seeds": 5}
    job = config.load("configs/methods.toml", changes=changes)
    assert job.config.estimators[0].num_probes == 7
    assert job.config.problem.dim == 9
    assert job.config.seeds == (5,)


def test_flat_flags_take_the_shape_of_their_fields():
    class Shaped(config.ExperimentConfig):
        pairs: tuple[tuple[int, int], ...] = ()
        words: tuple[str, ...] = ()
        flags: tuple[bool, ...] = ()
        limit: float | None = None

    argv = shlex.split("--pairs 4 2 8 2 --words --flags --limit None --other")
    found = overrides.shaped(overrides.parse_flags(argv), Shaped)
    assert found == {
        "pairs": [[4, 2], [8, 2]], "words": [], "flags": True, "limit": None, "other": True,
    }  # fmt: skip


@pytest.mark.usefixtures("methods")
def test_switching_the_kind_drops_the_old_parameters():
    changes = {"problem.dim": 9, "problem.kind": "rosenbrock", "estimators.0.kind": "reverse_mode"}
    job = config.load("configs/methods.toml", changes=changes)
    assert job.config.problem.model_dump() == {"kind": "rosenbrock", "dim": 9}
    assert job.config.estimators[0].model_dump() == {"kind": "reverse_mode"}
    same = config.load("configs/methods.toml", changes={"problem.kind": "norm"})
    assert same.config.problem.dim == 4  # no switch, nothing dropped


@pytest.mark.usefixtures("methods")
@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("estimators.7.law", "--estimators.7.law: `estimators` has entries 0 to 0, got 7"),
        ("estimators.3", "--estimators.3: the list has entries 0 to 0, got 3"),
        ("decay.x", "--decay.x: `decay` is a value, not a table"),
        ("decay.x.y", "--decay.x.y: `decay` is a value, not a table"),
    ],
)
def test_overrides_that_lead_nowhere_are_refused(path, told):
    with pytest.raises(ConfigError) as caught:
        config.load("configs/methods.toml", changes={path: 1})
    assert caught.value.problems == [told]


@pytest.mark.parametrize("flags", [[], ["--x64"]])
def test_estimators_look_at_the_starting_point_before_anything_runs(methods, capsys, flags):
    text = """
        experiment = "methods"
        problem = {kind="norm", dim=3}
        estimators = [{kind="reverse_mode"}, {kind="two_point", smoothing=1e-10}]
    """
    path = methods.config("tiny", dedent(text))
    code = main(["run", str(path), *flags])
    told = capsys.readouterr().err
    if flags:  # in float64 the step is well above the noise
        assert (code, told) == (0, "")
    else:
        assert code == 2
        assert "error: configs/tiny.toml: 1 problem\n  estimators.1: two_point: smoothing" in told
        assert not (methods.path / "results").exists()


PLUGIN = '''
def best(fun, *, scale: float = 1.0):
    """The user's own."""
    if scale <= 0:
        raise ValueError(f"scale must be > 0, got {scale}")
    return lambda x, key=None: scale * x


def bowl(*, dim: int = 2):
    """A user's problem."""


def odd(a, b):
    """Neither."""


def loose(fun, *, scale):
    """No annotation."""
'''


@pytest.fixture
def plugin(methods):
    import sys

    name = f"plugin_{methods.path.name.replace('-', '_')}"
    (methods.path / f"{name}.py").write_text(PLUGIN)
    yield name
    sys.modules.pop(name, None)


def test_a_users_own_estimator_is_a_kind_with_a_schema(methods, plugin):
    own = {"estimators.0.kind": f"{plugin}:best", "estimators.0.scale": 2}
    job = config.load("configs/methods.toml", changes=own, plugins=[plugin])
    assert job.config.estimators[0].name == "best(scale=2)"
    assert job.config.estimators[0].build(abs)(3.0) == 6.0
    assert [source.name for source in job.sources] == ["methods.py", f"{plugin}.py"]
    lines = problems_of(
        methods, f'estimators = [{{kind="{plugin}:best", scale=-1.0}}]', plugins=[plugin]
    )
    assert lines == ["estimators.0: scale must be > 0, got -1.0"]


def test_a_users_own_estimator_runs_and_its_result_asks_for_it_again(methods, plugin, capsys):
    own = ["--estimators.0.kind", f"{plugin}:best", "--plugin", plugin]
    assert main(["run", "configs/methods.toml", *own]) == 0
    capsys.readouterr()
    assert main(["plot", "methods"]) == 2
    assert f"allow it with --plugin {plugin}" in capsys.readouterr().err
    assert main(["plot", "methods", "--plugin", plugin]) == 0
    assert main(["export", "methods", "--plugin", plugin]) == 0
    (methods.path / f"{plugin}.py").write_text(PLUGIN + "CHANGED = 1\n")
    main(["show", "methods"])
    assert "state     stale" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("bst", "'{plugin}:bst': {plugin} has no function bst; did you mean 'best'?"),
        (
            "odd",
            "'{plugin}:odd' must take one positional argument (an estimator: fun) "
            "or none (a problem)",
        ),
        ("loose", "{plugin}:loose: parameter `scale` must have an annotation"),
        (
            "bowl",
            "`estimators.0.kind` = '{plugin}:bowl' is not one of "
            + KINDS
            + "; your own must take the positional arguments that these take",
        ),
    ],
)
def test_what_is_no_estimator_is_refused(methods, plugin, function, told):
    text = f'estimators = [{{kind="{plugin}:{function}"}}]'
    assert problems_of(methods, text, plugins=[plugin]) == [told.format(plugin=plugin)]


def test_a_plugin_is_allowed_for_one_run_only(methods, plugin):
    own = {"estimators.0.kind": f"{plugin}:best"}
    config.load("configs/methods.toml", changes=own, plugins=[plugin])
    told = [f"'{plugin}:best' is code of your own: allow it with --plugin {plugin}"]
    text = f'estimators = [{{kind="{plugin}:best"}}]'
    assert problems_of(methods, text) == told
    assert f"{plugin}:best" not in "".join(problems_of(methods, 'estimators = [{kind="x"}]'))


def test_a_plugin_that_is_missing_is_told(methods):
    lines = problems_of(methods, 'problem = {kind="no_such:f"}', plugins=["no_such"])
    assert lines == ["'no_such:f': No module named 'no_such'"]


@pytest.mark.usefixtures("methods")
def test_help_shows_the_values_of_file_profile_and_flags(capsys):
    code = main(
        shlex.split("run configs/methods.toml --help --estimators.0.num-probes 41 --decay 0.5")
    )
    shown = capsys.readouterr().out
    assert code == 0
    for part in ("Methods side by side.", "--estimators.0.num-probes INT", "41", "--decay FLOAT"):
        assert part in shown


ROOT = Path(__file__).parents[2]


def test_the_flags_that_help_gives_as_examples_work(monkeypatch):
    monkeypatch.chdir(ROOT)
    told = " ".join((Run.__doc__ or "").split())
    flags = re.findall(r"(--[\w.-]+ [^\s,.]+)[,.]", told.replace("CONFIG --help", ""))
    assert len(flags) == 3
    changes = overrides.parse_flags(shlex.split(" ".join(flags)))
    job = config.load("configs/rates.toml", changes=changes)
    assert (job.config.num_seeds, job.config.estimators[0].name) == (4, "one_sided(num_probes=4)")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda p: p.stem)
def test_every_flag_that_help_lists_takes_the_value_that_it_shows(path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(["run", str(path), "--help"]) == 0
    told = " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    flags = re.findall(r"(--[\w.-]+)(?:, --no-[\w-]+)?(?: (?!--)\S+)*? \(default: ?(.*?)\)", told)
    job = config.load(path)
    known = {flag for flag, _ in flags}
    for field in type(job.config).model_fields:
        assert any(flag.startswith(f"--{field.replace('_', '-')}") for flag in known), field
    typed = [token for flag, value in flags for token in (flag, *shlex.split(value))]
    assert config.load(path, changes=overrides.parse_flags(typed)).resolved == job.resolved
