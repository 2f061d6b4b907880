"""Computational graphs: built from any JAX function, traced in both modes, eliminated."""

from adlab.graphs.build import build
from adlab.graphs.elimination import Elimination, EliminationStep, PathProduct, eliminate
from adlab.graphs.graph import Graph, LiteralOperand, Node, Step
from adlab.graphs.records import LocalPartial, Record, Records
from adlab.graphs.traces import forward_trace, reverse_trace

__all__ = [
    "Elimination",
    "EliminationStep",
    "Graph",
    "LiteralOperand",
    "LocalPartial",
    "Node",
    "PathProduct",
    "Record",
    "Records",
    "Step",
    "build",
    "eliminate",
    "forward_trace",
    "reverse_trace",
]
