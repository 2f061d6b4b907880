import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adlab.lab import toml
from adlab.lab.errors import ConfigError

scalars = st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), values, max_size=4))
def test_what_is_written_reads_back(tables):
    assert tomllib.loads(toml.write(tables)) == tables


def test_none_is_left_out_and_nan_survives():
    back = tomllib.loads(toml.write({"a": None, "b": float("nan"), "c": [{"d": None, "e": 1}]}))
    assert back.keys() == {"b", "c"}
    assert back["b"] != back["b"]
    assert back["c"] == [{"e": 1}]


def test_a_float_stays_one_and_an_integer_too():
    numbers = {"a": 1.0, "b": 1, "c": 1e300, "d": -0.0, "e": True, "f": [2.0, 2], "g": 2**63}
    back = tomllib.loads(toml.write(numbers))
    assert repr(back) == repr(numbers)


def test_only_plain_values_can_be_written():
    with pytest.raises(TypeError, match="type 'object' is not TOML serializable"):
        toml.write({"a": object()})


def test_profiles_are_merged_deeply_and_lists_replaced():
    tables = {
        "n": 1,
        "problem": {"kind": "a", "dim": 3, "scale": 1.0},
        "seeds": [1, 2],
        "profiles": {
            "deep": {"problem": {"dim": 5}, "seeds": [3]},
            "other": {"problem": {"kind": "b"}},
        },
    }
    assert toml.with_profile(tables, "deep", "x") == {
        "n": 1,
        "problem": {"kind": "a", "dim": 5, "scale": 1.0},
        "seeds": [3],
    }
    assert toml.with_profile(tables, "other", "x")["problem"] == {"kind": "b"}
    assert toml.with_profile(tables, None, "x")["problem"]["dim"] == 3


@pytest.mark.parametrize(
    ("profiles", "profile", "line"),
    [
        ({"smoke": {}}, "smke", "no profile 'smke'; did you mean 'smoke'? (known: smoke)"),
        ({}, "smoke", "no profile 'smoke' (the file has none)"),
        ({"smoke": 3}, None, "`profiles` must hold tables: [profiles.NAME]"),
        (3, None, "`profiles` must hold tables: [profiles.NAME]"),
    ],
)
def test_wrong_profiles_are_refused(profiles, profile, line):
    with pytest.raises(ConfigError) as caught:
        toml.with_profile({"profiles": profiles}, profile, "f.toml")
    assert str(caught.value) == f"f.toml: 1 problem\n  {line}"


def test_a_broken_file_is_told_with_its_line(tmp_path):
    file = tmp_path / "broken.toml"
    file.write_text("a = 1\nb = \n")
    with pytest.raises(ConfigError, match=r"(?s)1 problem.*not valid TOML: .*line 2"):
        toml.read(file)
    file.write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match="not valid TOML"):
        toml.read(file)
