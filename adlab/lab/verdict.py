"""Verdicts: a claim, what was measured of it, and whether the one bears out the other."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Outcome = Literal["holds", "fails", "undecided"]
Kind = Literal["interval", "range", "exact"]
Side = Literal["both", "at_most", "at_least"]
Basis = Literal["measured", "identity", "arithmetic"]


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

    def render(self, lang: str | None = "en") -> str:
        """Return the text in `lang`, None being that of the surrounding `labels.speak`.

        Raises:
          KeyError: no label has this key.
        """
        from adlab.figures import labels

        return str(
            labels.text(self.key, lang, **{k: render(v, lang) for k, v in self.params.items()})
        )

    def to_json(self) -> dict[str, Any]:
        """Return key and params as plain values."""
        return {"key": self.key, "params": {k: _plain(v) for k, v in self.params.items()}}

    @staticmethod
    def from_json(value: Any) -> Any:
        """Undo `to_json`; other values come back as they are.

        Raises:
          TypeError: the key isn't a string, or the params aren't a mapping.
        """
        if not (isinstance(value, dict) and value.keys() == {"key", "params"}):
            return value
        if not (isinstance(value["key"], str) and isinstance(value["params"], dict)):
            raise TypeError(f"a text has a key and a table of params, got {value}")
        params = {k: Text.from_json(v) for k, v in value["params"].items()}
        return Text(value["key"], **params)


def render(value: Any, lang: str | None) -> Any:
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
      basis: what the verdict rests on. "measured": a run produced `measured`, `expected` doesn't
        derive from it, and it could have come out otherwise. "identity": two computations that must
        agree on any machine, exactly or to round-off. "arithmetic": a formula evaluated, or counts
        and bytes that no run produced. None where nobody said, as in results stored before.
    """

    claim: Text | str
    measured: float
    low: float
    high: float
    expected: float
    tolerance: float
    control: bool = False
    side: Side = "both"
    kind: Kind = "interval"
    basis: Basis | None = None

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
        if self.basis not in (None, *get_args(Basis)):
            raise ValueError(f"basis must be one of {get_args(Basis)}, got {self.basis!r}")
        if self.low == self.measured == self.high:
            object.__setattr__(self, "kind", "exact")

    @classmethod
    def at_most(
        cls, claim: Text | str, measured: float, low: float, high: float, bound: float,
        *, control: bool = False, kind: Kind = "interval", basis: Basis | None = None,
    ) -> Verdict:  # fmt: skip
        """Return the verdict on "the quantity is at most `bound`"."""
        return cls(claim, measured, low, high, bound, 0.0, control, "at_most", kind, basis)

    @classmethod
    def at_least(
        cls, claim: Text | str, measured: float, low: float, high: float, bound: float,
        *, control: bool = False, kind: Kind = "interval", basis: Basis | None = None,
    ) -> Verdict:  # fmt: skip
        """Return the verdict on "the quantity is at least `bound`"."""
        return cls(claim, measured, low, high, bound, 0.0, control, "at_least", kind, basis)

    @classmethod
    def worst(
        cls, claim: Text | str, values: ArrayLike, expected: float, tolerance: float = 0.0,
        *, side: Side = "both", control: bool = False, kind: Literal["exact", "range"] = "exact",
        basis: Basis | None = None,
    ) -> Verdict:  # fmt: skip
        """Return the verdict on the same claim of several cases: it holds where all of them do.

        The worst case is the one that speaks most against the verdict: the greatest of what should
        be at most `expected`, the least of what should be at least that, else the farthest from it;
        for a control, the other way round. With "exact" that case alone is kept, so that one that
        violates the claim makes it fail. With "range" low and high are the least and the greatest,
        so that a claim of which some cases hold and some don't is undecided; measured is the worst
        end of a one-sided claim, the median of others and of controls.

        >>> Verdict.worst("errors stay below 2", [0.5, 2.5, 1.0], 2.0, side="at_most").measured
        2.5

        Args:
          claim: what is claimed of each case.
          values: one number per case, in any shape. A NaN, or no case at all, leaves it undecided.
          expected: as in `Verdict`, and so are `tolerance`, `side` and `control`.
          tolerance: how far from `expected` still counts.
          side: which deviation speaks against the claim.
          control: whether the claim is expected to be violated, by all cases.
          kind: what is kept.
          basis: as in `Verdict`.
        """
        import numpy as np

        cases = np.ravel(np.asarray(values, np.float64))
        cases = cases if cases.size else np.full(1, np.nan)
        low, high = np.min(cases), np.max(cases)  # NaN where one is
        if kind == "range":
            worst = {"at_most": high, "at_least": low}
            measured = np.median(cases) if control or side == "both" else worst[side]
            ends = (measured, low, high)
            return cls(claim, *ends, expected, tolerance, control, side, "range", basis)
        against = {"at_most": cases, "at_least": -cases, "both": np.abs(cases - expected)}[side]
        place = np.argmin(against) if control else np.argmax(against)  # the NaN where one is
        case = cases[place]
        ends = (case, case, case)
        return cls(claim, *ends, expected, tolerance, control, side, basis=basis)

    def __repr__(self) -> str:
        """Return the outcome, the claim and its numbers in one line."""
        parts = f"{self._said('en')!r}, measured {self._measured()}, expected {self._expected()}"
        return f"<Verdict {self.outcome}: {parts}>"

    def _repr_html_(self) -> str:
        """Return a table of one row, for notebooks."""
        cells = (self._said(None), self._measured(), self._expected(), self.outcome)
        row = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        head = "".join(f"<th>{name}</th>" for name in ("claim", "measured", "expected", "outcome"))
        return f"<table><tr>{head}</tr><tr>{row}</tr></table>"

    def _said(self, lang: str | None) -> str:
        """Return the claim in words; its key where the labels of its experiment aren't loaded."""
        try:
            return str(render(self.claim, lang))
        except KeyError:
            return str(getattr(self.claim, "key", self.claim))

    def _measured(self) -> str:
        ends = f" [{self.low:.4g}, {self.high:.4g}]" if self.kind != "exact" else ""
        return f"{self.measured:.4g}{ends}"

    def _expected(self) -> str:
        sign = {"both": "", "at_most": "<= ", "at_least": ">= "}[self.side]
        off = f" +- {self.tolerance:.3g}" if self.side == "both" else ""
        return f"{'not ' if self.control else ''}{sign}{self.expected:.4g}{off}"

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

        `kind` is left out where low and high are a confidence interval, `basis` where it is None.
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
            **({} if self.basis is None else {"basis": self.basis}),
            **text,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Verdict:
        """Undo `to_json`."""
        claim = value["claim"]
        if "key" in value:
            claim = Text.from_json({"key": value["key"], "params": value["params"]})
        numbers = ("measured", "low", "high", "expected", "tolerance")
        fields: dict[str, Any] = {name: float(value[name]) for name in numbers}
        fields |= {"kind": value.get("kind", "interval"), "basis": value.get("basis")}
        return cls(claim, **fields, control=value["control"], side=value["side"])


def _plain(value: Any) -> Any:
    if isinstance(value, Text):
        return value.to_json()
    value = value.item() if hasattr(value, "item") else value  # a NumPy scalar
    return _number(value) if isinstance(value, float) else value


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
