"""How hard the property tests look: HYPOTHESIS_PROFILE=ci (the default; the same examples every time)
or HYPOTHESIS_PROFILE=dev (other and more examples each time)."""

import os

from hypothesis import HealthCheck, settings

# A slow machine is no failure: no deadline, and no complaint that examples take long to draw.
_patient = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", _patient, derandomize=True, max_examples=30)
settings.register_profile("dev", _patient, max_examples=300)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
