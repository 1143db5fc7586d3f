"""More networks, data and faults, written blind when the doctor had been made on the first ones.

They were held out once; what they showed has been mended since, so that they are for tuning now. Of the same parts:
`problems`, `networks`, `healthy`, and the sick ones by what is wrong: `flow` through the network, `training`, or the
`plan` (with `broken` networks).
"""

from clinic.wider import flow, plan, training
from clinic.wider.healthy import SETTINGS

SICK = (*flow.SICK, *training.SICK, *plan.SICK)

__all__ = ["SETTINGS", "SICK"]
