"""What holds for every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How fast the machine is at the moment decides nothing.
settings.register_profile("gradwire", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gradwire")
