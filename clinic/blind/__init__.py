"""Cases written without a doctor at hand.

In two parts: networks of `layers` (MLPs and convolutions) and of `sequences` (recurrence and attention).
"""

from clinic.blind import layers, sequences

SETTINGS = (*layers.SETTINGS, *sequences.SETTINGS)
SICK = (*layers.SICK, *sequences.SICK)

__all__ = ["SETTINGS", "SICK"]
