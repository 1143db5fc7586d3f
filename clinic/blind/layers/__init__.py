"""MLPs and convolutions: healthy settings and what is wrong with them.

In the parts of `clinic.wider`, with `data` and `losses` of their own beside them.
"""

from clinic.blind.layers import flow, plan, training
from clinic.blind.layers.healthy import SETTINGS

SICK = (*flow.SICK, *training.SICK, *plan.SICK)

__all__ = ["SETTINGS", "SICK"]
