"""Labels that an experiment brings: found when it runs, is drawn again, or only shown."""

from pathlib import Path

import pytest

from adlab import lab
from adlab.figures import labels
from adlab.lab.cli import main

CONFIG = "num_steps = 4\n"
LABELS = """
[spoken]
claim = { en = "terms are halved", ru = "члены уменьшаются вдвое" }
title = { en = "Decay", ru = "Убывание" }
"""


@pytest.fixture
def spoken(checkout):
    """Write an experiment in a folder, whose claim and title are labels of its own."""
    text = (checkout.path / "experiments" / "decay.py").read_text()
    text = text.replace("method.two_point", "spoken.claim")
    drawn = 'figure.subplots().set_title(labels.text("spoken.title"))'
    text = text.replace("figure.subplots().semilogy", f"{drawn}\n    figure.gca().semilogy")
    text = text.replace(
        "from adlab import lab", "from adlab import lab\nfrom adlab.figures import labels"
    )
    folder = checkout.path / "experiments" / "spoken"
    folder.mkdir()
    (folder / "__init__.py").write_text(text)
    (folder / "labels.toml").write_text(LABELS, encoding="utf-8")
    checkout.config("spoken", CONFIG)
    yield checkout
    labels.merge("spoken", Path("no such file"))


def forget():
    labels.merge("spoken", Path("no such file"))
    assert "spoken.claim" not in labels.table()


@pytest.mark.usefixtures("quick_figures")
def test_labels_of_an_experiment_speak_when_it_runs_is_drawn_and_is_shown(spoken, capsys):
    folder = lab.run("configs/spoken.toml")
    forget()
    assert main(["show", str(folder), "--lang", "ru"]) == 0
    assert "члены уменьшаются вдвое" in " ".join(capsys.readouterr().out.split())
    forget()
    assert main(["plot", str(folder), "--lang", "ru"]) == 0
    assert labels.text("spoken.title", "ru") == "Убывание"
    forget()
    (spoken.path / "experiments" / "spoken" / "labels.toml").unlink()
    assert main(["show", str(folder)]) == 0
    assert "terms are halved" in " ".join(capsys.readouterr().out.split())  # as it was stored


def test_a_label_without_its_russian_stops_the_run_and_names_the_file(spoken):
    path = spoken.path / "experiments" / "spoken" / "labels.toml"
    path.write_text(LABELS.replace(', ru = "Убывание"', ""), encoding="utf-8")
    with pytest.raises(lab.LabError, match=r"spoken/labels\.toml: label 'spoken\.title' must hold"):
        lab.run("configs/spoken.toml")


@pytest.mark.usefixtures("quick_figures")
def test_an_experiment_of_one_file_takes_the_labels_beside_it(spoken):
    folder = spoken.path / "experiments"
    text = (folder / "spoken" / "__init__.py").read_text().replace("spoken.", "single.")
    spoken.experiment("single", text)
    words = LABELS.replace("[spoken]", "[single]")
    (folder / "labels.toml").write_text(words, encoding="utf-8")
    spoken.config("single", CONFIG)
    lab.run("configs/single.toml")
    assert labels.text("single.title") == "Decay"
    labels.merge("single", Path("no such file"))
