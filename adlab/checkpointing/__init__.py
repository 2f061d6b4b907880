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
from adlab.checkpointing.chain import checkpointed_chain
from adlab.checkpointing.memory import MemoryReport, SavedArray, memory_report, plan
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
    "MemoryReport",
    "Moment",
    "Restore",
    "SavedArray",
    "Schedule",
    "Store",
    "binomial",
    "checkpointed_chain",
    "checkpointed_scan",
    "every",
    "fixed",
    "memory_report",
    "optimal",
    "plan",
    "sqrt",
    "store_all",
    "timeline",
    "validate",
]
