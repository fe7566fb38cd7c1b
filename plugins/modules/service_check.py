"""See whether the services of compose projects run, stay up and answer, and say why one does not."""

from __future__ import annotations

import functools
import http.client
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.named_https import Connection, trust
from ansible.module_utils.services import ANSWER_SECONDS, DockerError, Host

DOCUMENTATION = r"""
module: service_check
author: The Pryv Ansible authors
version_added: "0.1.0"
short_description: See whether the services of compose projects run, stay up and answer
description:
  - Looks at every service of the compose projects of this host until all is well or the time is over. A service is well
    when its container runs, each TCP port that it publishes on 127.0.0.1 gives an answer, and its program has not just
    been started again; one without a port must have run for ten seconds.
  - Sees programs that a container's own init (runit) starts again and again, while Docker says that the container is
    up.
  - Of a service that is not well it shows the last lines of the log, without what looks like a secret.
options:
  folders:
    description: Folders with a C(compose.yml); may have wildcards. Those without one are passed over.
    type: list
    elements: str
    required: true
  seconds:
    description: How long the services may take.
    type: int
    required: true
  name:
    description: Host name by which this host's nginx is asked over HTTPS as well, on 127.0.0.1; empty for not at all.
    type: str
    default: ""
  path:
    description: Path that nginx is asked for; the answer must be no error.
    type: str
    default: /
  authority:
    description: Authorities that nginx's certificate is verified with; needed where it is asked.
    type: path
  ask:
    description: Programs of this host to ask as well, by a name, each with its arguments; what they say is in RV(said).
    type: dict
    default: {}
  report_only:
    description: Whether to succeed in any case, and leave the judgement to who reads RV(checks).
    type: bool
    default: false
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Wait until the services run and answer
  service_check:
    folders: [/etc/pryv/core]
    seconds: 300
    name: co1.pryv.example.com
    authority: /etc/pryv/tls/ca.pem
"""

RETURN = r"""
checks:
  description: What was looked at, each with C(what), C(found) (empty when all is well) and C(remedy).
  returned: success
  type: list
  elements: dict
said:
  description: By the name of each program of O(ask), what it printed; none where it failed.
  returned: success
  type: dict
"""


def nginx_problem(name: str, path: str, authority: str) -> str:
    """Return what is wrong with the answer of this host's nginx; empty when nothing is.

    Args:
        name: Host name.
        path: Path.
        authority: File of the authorities to trust.
    """
    try:
        status = Connection("127.0.0.1", name, trust(authority), ANSWER_SECONDS).status(path)
    except (OSError, http.client.HTTPException) as error:
        return f"gives no answer ({error})"
    return f"answers {status}" if status >= 400 else ""


def wait(host: Host, given: Mapping[str, Any]) -> list[dict[str, str]]:
    """Look until all is well or the time is over.

    Args:
        host: The services.
        given: Parameters of the module.

    Returns:
        What was looked at, with what is wrong with it.

    Raises:
        DockerError: Docker does not answer.
    """
    also = (lambda: nginx_problem(given["name"], given["path"], given["authority"])) if given["name"] else str
    nginx = host.look_until_well(given["seconds"], also)
    projects = dict.fromkeys(service.project for service in host.services)
    well = {
        project: [one.name for one in host.services if one.project == project and not one.found] for project in projects
    }
    checks = [
        {"what": f"{project} runs {', '.join(names)}", "found": "", "remedy": ""}
        for project, names in well.items()
        if names
    ]
    checks += [
        {
            "what": f"service {service.name} of {service.project}",
            "found": service.found,
            "remedy": f"See docker logs {service.project}-{service.name}-1 there, and run site.yml."
            f" The end of its log:{host.log(service)}",
        }
        for service in host.services
        if service.found
    ]
    if given["name"]:
        what = f"nginx as https://{given['name']}{given['path']}"
        checks.append({"what": what, "found": nginx, "remedy": "See the log of the service behind it, and nginx's"})
    return checks


def answers_of(module: AnsibleModule, programs: Mapping[str, Sequence[str]]) -> dict[str, str | None]:
    """Return what programs print, by the name of each; None for one that fails, or is not there.

    Args:
        module: Runs them.
        programs: Each with its arguments.
    """
    said: dict[str, str | None] = {}
    for name, command in programs.items():
        try:
            code, output, _ = module.run_command(list(command), handle_exceptions=False)
        except OSError:
            code, output = 1, ""
        said[name] = None if code else output
    return said


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "folders": {"type": "list", "elements": "str", "required": True},
            "seconds": {"type": "int", "required": True},
            "name": {"type": "str", "default": ""},
            "path": {"type": "str", "default": "/"},
            "authority": {"type": "path"},
            "ask": {"type": "dict", "default": {}},
            "report_only": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    given = module.params
    run = functools.partial(module.run_command, handle_exceptions=False)
    try:
        checks = wait(Host(run, given["folders"]), given)
    except (DockerError, OSError) as error:  # on a host never touched, check mode finds no Docker
        checks = [{"what": "Docker", "found": str(error), "remedy": "See systemctl status docker there"}]
    wrong = [f"{check['what']} {check['found']}. {check['remedy']}" for check in checks if check["found"]]
    if wrong and not given["report_only"]:
        module.fail_json(msg=f"Not well after {given['seconds']} seconds:\n" + "\n".join(wrong))
    module.exit_json(changed=False, checks=checks, said=answers_of(module, given["ask"]))


if __name__ == "__main__":
    main()
