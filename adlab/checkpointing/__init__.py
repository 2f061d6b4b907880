"""Activation checkpointing: schedules as data, and scans that obey them."""

from adlab.checkpointing.actions import (
    Advance,
    Backward,
    Moment,
    Restore,
    Store,
    timeline,
    validate,
)
from adlab.checkpointing.scan import checkpointed_scan
from adlab.checkpointing.schedules import (
    Schedule,
    binomial,
    every,
    fixed,
    optimal,
    sqrt,
    store_all,
)

__all__ = [
    "Advance",
    "Backward",
    "Moment",
    "Restore",
    "Schedule",
    "Store",
    "binomial",
    "checkpointed_scan",
    "every",
    "fixed",
    "optimal",
    "sqrt",
    "store_all",
    "timeline",
    "validate",
]
