"""The errors that chainrule raises about derivatives. Wrong shapes and types raise NumPy's own kinds."""

from __future__ import annotations


class GradientError(RuntimeError):
    """A derivative was asked for that the recorded graph cannot give."""


class AnomalyError(FloatingPointError):
    """A value or gradient stopped being finite inside `detect_anomaly`."""
