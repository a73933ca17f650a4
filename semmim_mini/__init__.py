"""SemMIM-mini: semantics-enhanced cross-modal masked image modeling, small enough to read and complete enough to run."""

__version__ = "0.1.0"
