"""Every way of obtaining a derivative, behind one signature, with an account of its cost."""

__version__ = "0.1.0"
__all__ = ["__version__"]
