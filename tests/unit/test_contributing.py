"""CONTRIBUTING.md names what is there, and its example does what it says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
TEXT = (CHECKOUT / "CONTRIBUTING.md").read_text()


def test_files_and_folders_that_it_names_are_there() -> None:
    named = [name for name in re.findall(r"`(\.?\w[\w./-]*/[\w./-]*)(?: \w+)?`", TEXT) if not name.startswith(".venv/")]
    assert len(named) > 15
    assert [
        name for name in named if not (CHECKOUT / name).exists() and not list(CHECKOUT.glob(f"roles/*/{name}"))
    ] == []


def test_the_example_of_a_variable_gives_a_role_whose_readme_has_it(tmp_path: Path) -> None:
    option, default = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL))
    shutil.copytree(CHECKOUT / "roles/web", tmp_path / "roles/web")
    shutil.copytree(CHECKOUT / "scripts", tmp_path / "scripts")
    specification = tmp_path / "roles/web/meta/argument_specs.yml"
    written = yaml.safe_load(specification.read_text())
    written["argument_specs"]["main"]["options"] |= option
    specification.write_text(yaml.safe_dump(written, sort_keys=False))

    (name,) = option
    assert name.startswith("web_")
    assert default == {name: option[name]["default"]}
    subprocess.run([sys.executable, tmp_path / "scripts/role-readme"], check=True, capture_output=True)
    assert f"### `{name}`" in (tmp_path / "roles/web/README.md").read_text()
