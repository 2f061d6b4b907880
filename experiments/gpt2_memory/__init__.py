"""GPT-2 of 1.5 B keeps 469 GB of activations, not 60; 14.5 GB, not 8, for 22 % more work, not 33.

At sequence length s = 1024 and batch b = 32, with L = 48 layers of width h = 1600 and a = 25 heads,
12 b s h L numbers of two bytes are the lecture's 60.4 GB (Rajbhandari et al. 2020,
arXiv:1910.02054). One state per layer, 2 b s h L bytes, one layer computed again, 24 b s h, and its
attention matrix, 2 a b s^2, are its 7.97 GB. The forward pass costs a third of the gradient: to
repeat it would make 4/3.

Beside the formula stands the model itself, in which every array kept for the backward pass is
counted from its shape. It keeps more: the formula leaves out the attention matrices of all layers
(Korthikanti et al. 2022, arXiv:2205.05198: b s h L (34 + 5 a s / h) bytes), the logits, and what
differentiating each normalisation and each gelu by its parts keeps in between. And it repeats less:
the last product of each block, which no derivative needs, isn't computed again.

A model small enough for this machine is run: how far one gradient raises the memory of a fresh
process, without checkpoints and with them, stands beside formula, count and the compiler's account.
"""

from __future__ import annotations

from .config import Config
from .formulas import formula
from .measure import run
from .needs import needs
from .plot import plot
from .verdicts import verdicts

__all__ = ["Config", "formula", "needs", "plot", "run", "verdicts"]
