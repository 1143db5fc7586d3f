"""The half of the clinic that nobody looks at before a doctor is done.

It was written after the tuning half and without a doctor at hand, of the same parts: `problems`, `networks`, `healthy`,
and the sick ones by what is wrong: `flow` through the network, `training`, or the `plan` (with `broken` networks).
"""

from clinic.held_out import flow, plan, training
from clinic.held_out.healthy import SETTINGS

SICK = (*flow.SICK, *training.SICK, *plan.SICK)

__all__ = ["SETTINGS", "SICK"]
