"""What role core writes for its services agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from pryv_platform.ports import PORTS
from pryv_platform.topology.names import service_names
from tests.templates import trusted

ROLE = Path(__file__).resolve().parents[2] / "roles/core"
TREE = ROLE / "templates/root/etc/pryv/core"
FILES = {
    "core": "core/core.yml.j2",
    "hfs": "hfs/hfs.yml.j2",
    "metadata": "hfs/metadata.hjson.j2",
    "preview": "preview/preview.yml.j2",
    "webhooks": "webhooks/webhooks.yml.j2",
    "mfa": "mfa/mfa.yml.j2",
    "mongodb": "mongodb/mongodb.yml.j2",
}
SHARED = ("integrity", "backwardCompatibility", "customExtensions", "custom.systemStreams")
OTHERS = ("hfs", "metadata", "preview", "webhooks")


def rendered(service: str, **variables: Any) -> dict[str, Any]:
    """A service's configuration as the role writes it."""
    values = {
        "inventory_hostname": "co1",
        "pryv_domain": "poc.pryv.test",
        "pryv_data_directory": "/srv/pryv",
        "pryv_mail_provider": "none",
        "pryv_event_types_file": "",
        "pryv_service_info": {},
        "pryv_secrets": {
            name: f"{name} for tests"
            for name in (
                "mail_key",
                "sso_cookie_sign_secret",
                "files_read_token_secret",
            )
        },
        "pryv_core_admin_keys": {"co1": "admin key for tests"},
        "pryv_core_register_keys": {"co1": "register key for tests"},
        "topology": {
            "web": {"url": "https://sw.poc.pryv.test"},
            "ports": PORTS,
            "service_names": service_names("poc.pryv.test"),
        },
        "ansible_facts": {"processor_nproc": 2, "memtotal_mb": 4096},
    }
    for part in ("defaults", "vars"):
        values |= yaml.safe_load((ROLE / part / "main.yml").read_text())
    templar = Templar(DataLoader(), trusted(values) | variables)
    return dict(yaml.safe_load(templar.template(trust_as_template((TREE / FILES[service]).read_text()))))


def lookup(configuration: dict[str, Any], path: str) -> Any:
    value: Any = configuration
    for part in path.split("."):
        value = value[part]
    return value


@pytest.mark.parametrize("service", OTHERS)
@pytest.mark.parametrize(
    "variables",
    [
        {},
        {
            "core_integrity": ["events", "attachments"],
            "core_account_streams": [{"id": "insurance", "type": "number/text"}],
            "core_settings": {
                "core": {
                    "backwardCompatibility": {"systemStreams": {"prefix": {"isActive": True}}},
                    "integrity": {"algorithm": "sha512"},
                }
            },
        },
    ],
)
def test_services_agree_on_what_they_share(service: str, variables: dict[str, Any]) -> None:
    core, other = rendered("core", **variables), rendered(service, **variables)
    for path in SHARED:
        assert lookup(other, path) == lookup(core, path), path


def test_settings_of_core_reach_the_others() -> None:
    settings = {"core": {"integrity": {"isActive": {"events": True}}}}
    assert rendered("hfs", core_settings=settings)["integrity"] == {
        "isActive": {"events": True, "attachments": False, "accesses": False},
        "algorithm": "sha256",
    }


def test_previews_pass_the_same_function_as_other_requests() -> None:
    """Core and preview both look in a folder of their configuration."""
    function = Path("custom-extensions/customAuthStepFn.js.j2")
    assert (TREE / "preview" / function).read_text() == (TREE / "core" / function).read_text()
    assert rendered("preview")["customExtensions"]["defaultFolder"] == "/app/conf/custom-extensions"
