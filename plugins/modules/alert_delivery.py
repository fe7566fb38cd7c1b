"""See whether alerts reach those who should be told."""

from __future__ import annotations

import http.client
import json
import re
import secrets
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: alert_delivery
author: The Pryv Ansible authors
version_added: "0.1.0"
short_description: See whether alerts reach those who should be told
description:
  - Runs on a monitoring host. Sends an alert of each severity through its Alertmanager, waits until each receiver has
    got it, as Alertmanager counts, and ends the alerts again.
  - It never fails because of what it finds; look at RV(receivers).
options:
  port:
    description: At which port of loopback Alertmanager listens.
    type: int
    required: true
  summary:
    description: What the alert says.
    type: str
    required: true
  severities:
    description: With which severities.
    type: list
    elements: str
    default: [critical, warning]
  seconds:
    description: How long to wait. Alertmanager gathers alerts for a while, and longer after a first test.
    type: int
    default: 150
attributes:
  check_mode:
    description: Sends nothing in check mode.
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: See whether alerts reach people
  alert_delivery:
    port: "{{ topology.ports.alertmanager }}"
    summary: A test
"""

RETURN = r"""
receivers:
  description:
    - By receiver and way, such as C(duty by email), C(delivered), C(refused) or C(nothing sent).
    - Receivers to whom no way leads are not among them.
  returned: always
  type: dict
"""

#: A line of Alertmanager's own metrics: which of its two counts, of which labels, how many.
COUNT = re.compile(r"^alertmanager_notifications(_failed)?_total\{(.*)\} (\S+)$", re.MULTILINE)
Counts = Mapping[str, tuple[float, float]]


class Alertmanager:
    """Alertmanager, by what it answers over HTTP.

    Args:
        port: At which port of loopback it listens.
    """

    def __init__(self, port: int) -> None:
        """Note where it is."""
        self._port = port

    def _ask(self, method: str, path: str, body: object = None) -> str:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)) as connection:
            connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode()
        if answer.status != http.client.OK:
            raise http.client.HTTPException(f"{path} answers {answer.status} {text[:200]}")
        return text

    def send(self, labels: Mapping[str, str], summary: str, until: datetime) -> None:
        """Send an alert that ends at a time.

        Raises:
            OSError: It does not answer.
            http.client.HTTPException: It does not take it.
        """
        alert = {"labels": dict(labels), "annotations": {"summary": summary}, "endsAt": until.isoformat()}
        self._ask("POST", "/api/v2/alerts", [alert])

    def counts(self) -> Counts:
        """Return how many messages were attempted and how many of them failed, by receiver and way.

        Raises:
            OSError: It does not answer.
            http.client.HTTPException: Its answer is not what it should be.
        """
        return read_counts(self._ask("GET", "/metrics"))


def read_counts(text: str) -> Counts:
    """Return how many messages were attempted and how many of them failed, by receiver and way.

    Args:
        text: Alertmanager's metrics.
    """
    found: dict[str, tuple[float, float]] = {}
    for failed, labels, value in COUNT.findall(text):
        named = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if named.get("receiver_name"):
            way = f"{named['receiver_name']} by {named['integration']}"
            attempted, lost = found.get(way, (0.0, 0.0))
            found[way] = (attempted, lost + float(value)) if failed else (attempted + float(value), lost)
    return found


def verdicts(before: Counts, after: Counts) -> dict[str, str]:
    """Say of each receiver what has become of the alert.

    Args:
        before: Counts from before it was sent.
        after: Counts from now.
    """
    said = {}
    for way, (attempted, failed) in after.items():
        attempts, failures = attempted - before.get(way, (0, 0))[0], failed - before.get(way, (0, 0))[1]
        said[way] = "delivered" if attempts > failures else "refused" if failures else "nothing sent"
    return said


def deliver(manager: Alertmanager, given: Mapping[str, Any]) -> dict[str, str]:
    """Send the alerts, wait for what becomes of them, and end them.

    Args:
        manager: Whom to send them to.
        given: The module's arguments.

    Raises:
        OSError: Alertmanager does not answer.
        http.client.HTTPException: It does not take them.
    """
    now = datetime.now(timezone.utc)
    before, test, deadline = manager.counts(), secrets.token_hex(4), time.monotonic() + given["seconds"]
    each = [{"alertname": "TestAlert", "severity": severity, "test": test} for severity in given["severities"]]
    for labels in each:
        manager.send(labels, given["summary"], now + timedelta(seconds=given["seconds"] + 60))
    try:
        said = verdicts(before, manager.counts())
        while set(said.values()) - {"delivered"} and time.monotonic() < deadline:
            time.sleep(2)
            said = verdicts(before, manager.counts())
    finally:
        for labels in each:
            manager.send(labels, given["summary"], datetime.now(timezone.utc))
    return said


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "port": {"type": "int", "required": True},
            "summary": {"type": "str", "required": True},
            "severities": {"type": "list", "elements": "str", "default": ["critical", "warning"]},
            "seconds": {"type": "int", "default": 150},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, receivers={})
    try:
        receivers = deliver(Alertmanager(module.params["port"]), module.params)
    except (OSError, http.client.HTTPException) as error:
        module.fail_json(msg=f"Alertmanager does not answer at port {module.params['port']}: {error}")
    module.exit_json(changed=False, receivers=receivers)


if __name__ == "__main__":
    main()
