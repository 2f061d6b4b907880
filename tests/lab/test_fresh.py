"""A fresh process tells what one call holds at most, and says why where it can't."""

import sys

import pytest

from adlab.lab import fresh

MEGA = 10**6
CALL = """
import jax
import numpy as np

def prepare(megabytes):
    print("this is no answer")
    jax.devices()
    np.ones(60 * 10**6, np.uint8)  # before the call: doesn't count
    def call():
        return np.ones(megabytes * 10**6, np.uint8)[:1].copy()
    return call

def broken():
    raise ValueError("no such model")
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("fresh") / "call.py"
    path.write_text(CALL)
    return path


@pytest.mark.skipif(not fresh._RESET.exists(), reason="the system doesn't tell a process's memory")
def test_the_peak_is_what_the_call_itself_holds_at_most(file):
    found = fresh.peak(file, "prepare", {"megabytes": 40}, repeats=2)
    assert isinstance(found, fresh.Peak), found
    assert 39 * MEGA < found.peak_bytes < 45 * MEGA  # not the 60 MB held before; a page or a few
    assert found.held_bytes > 20 * MEGA  # Python and jax
    assert len(found.seconds) == 2
    assert found.platform == "cpu"


def test_a_failure_is_told_in_one_line(file, monkeypatch):
    found = fresh.peak(file, "broken", {})
    assert found == "the fresh process ended with 1: ValueError: no such model"
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert str(fresh.peak(file, "broken", {})).startswith("no fresh process: FileNotFoundError")


def test_memory_that_the_system_does_not_tell_is_said_to_be_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(fresh, "_STATUS", tmp_path / "missing")
    assert fresh._measured(lambda: 0, 0) == "the memory held on cpu can't be told here"
