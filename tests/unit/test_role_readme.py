"""The READMEs of roles say what their specifications say."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ROLES = sorted(path.parents[1] for path in ROOT.glob("roles/*/tasks/main.yml"))


def test_no_readme_is_stale() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/role-readme", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_default_is_specified_with_the_same_value(role: Path) -> None:
    specification = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]
    options = specification.get("options", {})
    file = role / "defaults/main.yml"
    defaults = yaml.safe_load(file.read_text()) or {} if file.is_file() else {}
    stated = {name: option["default"] for name, option in options.items() if "default" in option}
    assert set(defaults) <= set(options)
    assert {name: defaults.get(name) for name in stated} == stated


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_variables_carry_the_role_s_name_and_a_description(role: Path) -> None:
    """`topology` is a fact of the whole platform and `administrators` a variable of it; neither is a role's own."""
    specification = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]
    for name, option in specification.get("options", {}).items():
        assert name.startswith(f"{role.name}_") or name in {"administrators", "topology"}
        assert option["description"], name


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_no_description_is_a_template(role: Path) -> None:
    """Ansible would fill it in when it checks a role's variables, and end the run where it cannot."""
    lines = (role / "meta/argument_specs.yml").read_text().splitlines()
    assert [line for line in lines if "{{" in line and not line.lstrip().startswith("default: ")] == []
