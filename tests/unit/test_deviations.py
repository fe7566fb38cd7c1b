"""The accepted deviations: each has a reason, none is there twice, and the docs show all."""

import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
DEVIATIONS = yaml.safe_load((ROOT / "roles/hardening/vars/deviations.yml").read_text())["hardening_deviations"]
SCANNERS = {"openscap", "lynis", "ssh_audit", "tls", "nginx", "ports", "docker_bench", "host"}


def test_every_deviation_has_a_reason() -> None:
    for deviation in DEVIATIONS:
        assert set(deviation) == {"scanner", "rule", "reason"}
        assert deviation["scanner"] in SCANNERS
        assert len(deviation["reason"]) > 20, deviation
        assert deviation["reason"].endswith("."), deviation


def test_none_is_there_twice() -> None:
    named = [(deviation["scanner"], deviation["rule"]) for deviation in DEVIATIONS]
    assert len(named) == len(set(named))


def test_the_table_in_the_docs_is_up_to_date() -> None:
    done = subprocess.run([ROOT / "scripts/deviations", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
