"""What role packages installs, of what roles need and what a host has."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLES = Path(__file__).parents[2] / "roles"
NEEDS = {
    "docker": yaml.safe_load((ROLES / "docker/meta/packages.yml").read_text())["docker"],
    "nginx": {"hosts": "all", "all": ["nginx"]},
    "redis": {"hosts": "registry", "all": ["redis"]},
}
OWN = ["docker-ce", "docker-ce-cli", "containerd.io", "docker-compose-plugin"]


def missing(system: str, installed: list[str]) -> list[str]:
    """The packages that would be installed."""
    variables: dict[str, Any] = {
        name: trust_as_template(text)
        for name, text in yaml.safe_load((ROLES / "packages/vars/main.yml").read_text()).items()
        if isinstance(text, str)
    }
    variables |= {
        "packages_needs": NEEDS,
        "group_names": ["core"],
        "pryv_system": system,
        "preflight_survey": {"survey": {"packages": " ".join(installed)}},
    }
    found: list[str] = Templar(DataLoader(), variables).template(trust_as_template("{{ packages_missing }}"))
    return found


@pytest.mark.parametrize(
    ("system", "installed", "expected"),
    [
        ("debian-13", [], ["docker-cli", "docker-compose", "docker.io", "nginx"]),
        ("debian-13", ["nginx", "docker.io"], ["docker-cli", "docker-compose"]),
        ("debian-13", ["nginx", *OWN], []),
        ("debian-13", ["nginx", *OWN[:3]], ["docker-cli", "docker-compose", "docker.io"]),
        ("debian-12", ["nginx", *OWN[:3]], ["docker-compose-plugin"]),
    ],
)
def test_an_alternative_does_where_it_is_whole(system: str, installed: list[str], expected: list[str]) -> None:
    assert missing(system, installed) == expected
