"""See a platform as its clients do, and say what is not as it should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.platform_client import DNS_ERROR, Check, Client, Record
from ansible.module_utils.platform_surface import Surface, do_all
from ansible.module_utils.platform_user import Place, Visitor

DOCUMENTATION = r"""
module: platform_check
author: The Pryv Ansible authors
version_added: "0.1.0"
short_description: See a platform as its clients do
description:
  - Runs on a machine that clients could be on, usually the controller, and asks every host by its public address; the
    system's resolver is not used, so the platform need not be delegated yet.
  - Looks at DNS on every registry host, at TLS, certificate, headers and closed ports of every host, and at the service
    information.
  - On each core it registers a throw-away user, finds it through every registry host, uses the core as an app does
    (login, streams, events, attachments, previews, series, socket.io) and removes the user again, also when a step
    fails. A user left by a run that was killed is recognised and removed.
  - It never fails because of what it finds; look at RV(failed_checks).
options:
  topology:
    description: The C(topology) fact.
    type: dict
    required: true
  ca:
    description: PEM text of authorities to trust beside the system's.
    type: str
  core_admin_keys:
    description: By core, the key with which it lets users be deleted.
    type: dict
    required: true
  register_admin_key:
    description: Key with which the registry tells about users and forgets them.
    type: str
    required: true
  cores:
    description: By core, what the inventory says of C(core_mfa_mode) and C(core_trusted_apps).
    type: dict
  services:
    description: By host, the result of M(service_check), which becomes part of the report.
    type: dict
  checks:
    description: What was looked at besides, as in RV(checks), which becomes part of the report.
    type: list
    elements: dict
    default: []
  invitation_token:
    description: What new users need to register, when the platform asks for it.
    type: str
  users:
    description: Whether to register users. In check mode none are registered in any case.
    type: bool
    default: true
  minimum_days:
    description: For how many days the certificate must still be valid.
    type: int
    default: 14
  timeout:
    description: How long one answer may take, in seconds.
    type: int
    default: 10
requirements: [dnspython]
attributes:
  check_mode:
    description: Registers no users in check mode.
    support: partial
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Look at the platform from outside
  platform_check:
    topology: "{{ topology }}"
    ca: "{{ lookup('ansible.builtin.file', inventory_dir ~ '/ca/ca.pem') }}"
    core_admin_keys: "{{ pryv_core_admin_keys }}"
    register_admin_key: "{{ pryv_secrets.register_admin_key }}"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
checks:
  description: What was looked at, each with C(where), C(what), C(found) (empty when all is well) and C(remedy).
  returned: always
  type: list
  elements: dict
failed_checks:
  description: Number of checks that found something wrong.
  returned: always
  type: int
report:
  description: The checks as lines of text, what is wrong first.
  returned: always
  type: list
  elements: str
"""


class Platform:
    """All checks of one platform.

    Args:
        parameters: The module's.
        client: Talks to the hosts.
    """

    def __init__(self, parameters: Mapping[str, Any], client: Client) -> None:
        """Keep what is given; nothing is looked at yet."""
        self.parameters, self.client, self.record = parameters, client, Record()
        self.surface = Surface(parameters["topology"], client, self.record, parameters["minimum_days"])

    def run(self, with_users: bool) -> None:
        """Look at everything."""
        # What takes longest comes first.
        cores = [host for host, entry in self.surface.hosts.items() if with_users and "core" in entry["roles"]]
        do_all([*(partial(self.visit, core) for core in cores), *self.surface.jobs()])

    def visit(self, core: str) -> None:
        """Use a core, also one that is drained: its users are still there."""
        Visitor(self.client, self.record, self._place(core)).visit()

    def _place(self, core: str) -> Place:
        settings = (self.parameters["cores"] or {}).get(core, {})
        return Place(
            core,
            self.surface.domain,
            self.surface.registry_name,
            {host: self.surface.address(host) for host in self.surface.hosts},
            self.surface.registry,
            self.parameters["core_admin_keys"][core],
            self.parameters["register_admin_key"],
            self.parameters["invitation_token"] or "no-token",
            settings.get("core_mfa_mode", "disabled") != "disabled",
            settings.get("core_trusted_apps") or (),
        )


def services_of(results: Mapping[str, Mapping[str, Any]]) -> list[Check]:
    """Return what hosts have said of their services.

    Args:
        results: Results of the module `service_check` by host.
    """
    checks = []
    for host, result in results.items():
        if "checks" in result:
            checks += [Check(host, one["what"], one["found"], one["remedy"]) for one in result["checks"]]
        elif not result.get("skipped"):
            found = " ".join(str(result.get("module_stderr") or result.get("msg", "")).split())[:300]
            checks.append(Check(host, "services", f"it cannot be asked: {found}", "See if it can be reached by SSH"))
    return checks


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "topology": {"type": "dict", "required": True},
            "ca": {"type": "str"},
            "core_admin_keys": {"type": "dict", "required": True, "no_log": True},
            "register_admin_key": {"type": "str", "required": True, "no_log": True},
            "cores": {"type": "dict"},
            "services": {"type": "dict"},
            "checks": {"type": "list", "elements": "dict", "default": []},
            "invitation_token": {"type": "str", "no_log": True},
            "users": {"type": "bool", "default": True},
            "minimum_days": {"type": "int", "default": 14},
            "timeout": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    if DNS_ERROR:
        module.fail_json(msg=missing_required_lib("dnspython"), exception=DNS_ERROR)
    platform = Platform(module.params, Client(module.params["ca"], module.params["timeout"]))
    platform.run(with_users=module.params["users"] and not module.check_mode)
    checks = sorted(
        platform.record.checks
        + services_of(module.params["services"] or {})
        + [Check(**check) for check in module.params["checks"]],
        key=lambda check: (not check.found, check.where, check.what),
    )
    failed = sum(bool(check.found) for check in checks)
    module.exit_json(
        changed=False,
        checks=[asdict(check) for check in checks],
        failed_checks=failed,
        report=[str(check) for check in checks],
    )


if __name__ == "__main__":
    main()
