"""Computational graphs: built from any JAX function, traced in both modes, eliminated."""

from adlab.graphs.build import build
from adlab.graphs.elimination import Elimination, eliminate
from adlab.graphs.graph import Fixed, Graph, Node, Step
from adlab.graphs.traces import Partial, Record, forward_trace, reverse_trace

__all__ = [
    "Elimination",
    "Fixed",
    "Graph",
    "Node",
    "Partial",
    "Record",
    "Step",
    "build",
    "eliminate",
    "forward_trace",
    "reverse_trace",
]
