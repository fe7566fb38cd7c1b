"""What all unit tests share."""

from hypothesis import HealthCheck, settings

# A busy machine is no bug: examples may take their time.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
