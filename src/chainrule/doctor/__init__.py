"""The doctor: what is wrong with a network's gradients, why, and what cures it.

    report = cr.diagnose(model, loss_fn, (x, y), optimizer=optimizer)

From the ground up: a network of either framework is a subject (`subjects`); an observer (`observation`) is told what
passes through it in one step; layers are made of that (`anatomy`), and plain numbers (`measurements`, `examination`);
`rules` turn numbers into findings (`finding`), by `limits` that are stated; a `report` tells them. `monitor` does the
same to a training loop that is running. `remedies` cure a copy, `trial` and `training` train one, and `prescription`
ranks the remedies by what they measurably do.
"""

from chainrule.doctor.diagnosis import diagnose
from chainrule.doctor.finding import CODES, Finding, Severity
from chainrule.doctor.flow import LayerFlow
from chainrule.doctor.limits import Limits
from chainrule.doctor.prescription import Prescription, Repair, prescribe, repair
from chainrule.doctor.report import Report
from chainrule.doctor.subjects import DoctorError
from chainrule.doctor.watch import DoctorWarning, Monitor, flow_monitor, monitor

__all__ = [
    "CODES",
    "DoctorError",
    "DoctorWarning",
    "Finding",
    "LayerFlow",
    "Limits",
    "Monitor",
    "Prescription",
    "Repair",
    "Report",
    "Severity",
    "diagnose",
    "flow_monitor",
    "monitor",
    "prescribe",
    "repair",
]
