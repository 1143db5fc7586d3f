"""Recurrent networks and attention: healthy settings and what is wrong with them.

In the parts that `clinic.wider` has.
"""

from clinic.blind.sequences import flow, plan, training
from clinic.blind.sequences.healthy import SETTINGS

SICK = (*flow.SICK, *training.SICK, *plan.SICK)

__all__ = ["SETTINGS", "SICK"]
