"""Verdicts: a claim, what was measured of it, and whether the one bears out the other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Outcome = Literal["holds", "fails", "undecided"]
Kind = Literal["interval", "range", "exact"]


@dataclass(frozen=True, init=False)
class Text:
    """A text in every language of the label table `adlab.figures.labels`.

    Args:
      key: its key in the table.
      **params: what its placeholders stand for: numbers, strings, or Texts.
    """

    key: str
    params: Mapping[str, Any]

    def __init__(self, key: str, **params: Any) -> None:
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "params", params)

    def render(self, lang: str = "en") -> str:
        """Return the text in `lang`; KeyError where the table has no such key."""
        from adlab.figures import labels

        return str(
            labels.text(self.key, lang, **{k: render(v, lang) for k, v in self.params.items()})
        )

    def to_json(self) -> dict[str, Any]:
        """Return key and params as plain values."""
        return {"key": self.key, "params": {k: _plain(v) for k, v in self.params.items()}}

    @staticmethod
    def from_json(value: Any) -> Any:
        """Undo `to_json`; other values come back as they are."""
        if not (isinstance(value, dict) and value.keys() == {"key", "params"}):
            return value
        params = {k: Text.from_json(v) for k, v in value["params"].items()}
        return Text(value["key"], **params)


def render(value: Any, lang: str) -> Any:
    """Return a Text in `lang`; other values as they are."""
    return value.render(lang) if isinstance(value, Text) else value


@dataclass(frozen=True)
class Verdict:
    """One claim beside its measurement.

    Args:
      claim: what is claimed.
      measured: the estimate.
      low: lower end of its interval; -inf where there is none for want of data.
      high: upper end of its interval; inf where there is none for want of data.
      expected: what the claim says.
      tolerance: how far from it still counts, >= 0.
      control: True for something that is expected to violate the claim: `expected` and
        `tolerance` still describe the claim's band, and the control holds when it lies outside.
      side: "both" for expected +- tolerance, "at_most" and "at_least" for one-sided claims.
      kind: "interval" where low and high are a 95 % confidence interval, "range" where they are the
        least and the greatest over cases (sizes, dtypes); "exact" is set where all three are equal.
    """

    claim: Text | str
    measured: float
    low: float
    high: float
    expected: float
    tolerance: float
    control: bool = False
    side: Literal["both", "at_most", "at_least"] = "both"
    kind: Kind = "interval"

    def __post_init__(self) -> None:
        for name in ("measured", "low", "high", "expected", "tolerance"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if self.low > self.high:
            raise ValueError(f"low must be <= high, got low={self.low}, high={self.high}")
        if not self.tolerance >= 0:
            raise ValueError(f"tolerance must be >= 0, got {self.tolerance}")
        if not math.isfinite(self.expected):
            raise ValueError(f"expected must be finite, got {self.expected}")
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {get_args(Kind)}, got {self.kind!r}")
        if self.low == self.measured == self.high:
            object.__setattr__(self, "kind", "exact")

    @classmethod
    def at_most(
        cls, claim: Text | str, measured: float, low: float, high: float, bound: float,
        *, control: bool = False, kind: Kind = "interval",
    ) -> Verdict:  # fmt: skip
        """Return the verdict on "the quantity is at most `bound`"."""
        return cls(claim, measured, low, high, bound, 0.0, control, "at_most", kind)

    @classmethod
    def at_least(
        cls, claim: Text | str, measured: float, low: float, high: float, bound: float,
        *, control: bool = False, kind: Kind = "interval",
    ) -> Verdict:  # fmt: skip
        """Return the verdict on "the quantity is at least `bound`"."""
        return cls(claim, measured, low, high, bound, 0.0, control, "at_least", kind)

    @property
    def band(self) -> tuple[float, float]:
        """What the claim allows, from and to."""
        below = -math.inf if self.side == "at_most" else self.expected - self.tolerance
        above = math.inf if self.side == "at_least" else self.expected + self.tolerance
        return below, above

    @property
    def outcome(self) -> Outcome:
        """`holds` when the interval lies within the band, `fails` when outside, else `undecided`.

        For a control the other way round. NaN is undecided. A diverged (infinite) measurement
        never holds, except for a control, where it is a violation of the claim.
        """
        if self.control and math.isinf(self.measured):
            return "holds"
        if any(math.isnan(x) for x in (self.measured, self.low, self.high)):
            return "undecided"
        below, above = self.band
        outside = self.high < below or self.low > above
        inside = below <= self.low and self.high <= above and not math.isinf(self.measured)
        if self.control:
            inside, outside = outside, inside
        return "holds" if inside else "fails" if outside else "undecided"

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as values of strict JSON; infinities and NaN become strings.

        `kind` is left out where low and high are a confidence interval.
        """
        numbers = ("measured", "low", "high", "expected", "tolerance")
        text = self.claim.to_json() if isinstance(self.claim, Text) else {}
        return {
            "claim": render(self.claim, "en"),
            **{name: _number(getattr(self, name)) for name in numbers},
            "side": self.side,
            "control": self.control,
            "outcome": self.outcome,
            **({} if self.kind == "interval" else {"kind": self.kind}),
            **text,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Verdict:
        """Undo `to_json`."""
        claim = value["claim"]
        if "key" in value:
            claim = Text.from_json({"key": value["key"], "params": value["params"]})
        numbers = ("measured", "low", "high", "expected", "tolerance")
        fields = {name: float(value[name]) for name in numbers}
        kind = value.get("kind", "interval")
        return cls(claim, **fields, control=value["control"], side=value["side"], kind=kind)


def _plain(value: Any) -> Any:
    if isinstance(value, Text):
        return value.to_json()
    value = value.item() if hasattr(value, "item") else value  # a NumPy scalar
    return _number(value) if isinstance(value, float) else value


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
