"""What all unit tests share."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no bug: examples may take their time.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True, scope="session")
def programs() -> None:
    """Has the programs that are used for real installed, before any test that needs one."""
    subprocess.run([Path(__file__).with_name("install")], check=True, stdin=subprocess.DEVNULL)
