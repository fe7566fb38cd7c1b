"""What the inventory alone shows to be wrong with backups."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pryv_platform.backup import backed_up
from pryv_platform.checks.bounds import bounds_problems
from pryv_platform.inventory import Inventory
from pryv_platform.problems import Problem, make_error, make_problem

#: The least and the greatest value of numbers.
BOUNDS: Mapping[str, Sequence[int]] = {
    "backup_pause_seconds": (5, 600),
    "backup_random_delay_minutes": (0, 1439),
    "backup_shrink_percent": (1, 99),
    "backup_upload_kib": (0, 100_000_000),
    "backup_server_keep_days": (1, 3650),
    "backup_server_shrink_percent": (1, 99),
}
#: A span as restic takes it.
SPAN = re.compile(r"(\d+[ymdh])+")
#: What opens a place on S3, in `backup_environment`.
S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def keep_problems(values: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """Check how long everything is kept.

    Args:
        values: By host, `backup_server_keep`, as far as it is set; what is no mapping is reported with others' types.
    """
    problems = []
    for host, variables in values.items():
        keep = variables.get("backup_server_keep")
        span = keep.get("within", "1d") if isinstance(keep, Mapping) else "1d"
        if not SPAN.fullmatch(str(span)):
            remedy = "give a span as restic takes it, such as 2d or 36h"
            problems.append(make_error(f"{host}: backup_server_keep.within", f"is {span!r}", remedy))
    return problems


def repository_problems(values: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """Check where backups go that no host of group backup takes.

    Args:
        values: By host that is backed up, `backup_repository`, `backup_environment`, `pryv_environment` and
            `pryv_locked_vaults`, as far as they are set.
    """
    problems = []
    for host, variables in values.items():
        repository, where = variables.get("backup_repository"), f"{host}: backup_repository"
        if not isinstance(repository, str) or not repository:
            continue
        if re.search(r"\s", repository) or not re.match(r"/|(sftp|s3|rest|azure|gs|b2|swift|rclone):.", repository):
            remedy = (
                "write it as restic does, such as s3:https://s3.example.com/pryv or sftp:backup@nas.example.com:/pryv"
            )
            problems.append(make_error(where, f"is {repository!r}", remedy))
        elif repository.startswith("/"):
            production = variables.get("pryv_environment") == "production"
            found = f"is {repository}, on the host itself: a backup there is lost with what it is a backup of"
            remedy = "add a host to group backup, or name a place elsewhere"
            problems.append(make_problem("error" if production else "warning", where, found, remedy))
        elif repository.startswith("s3:") and not variables.get("pryv_locked_vaults"):  # reported with the secrets
            environment = variables.get("backup_environment")
            problems += _s3_problems(host, environment if isinstance(environment, Mapping) else {})
    return problems


def _s3_problems(host: str, environment: Mapping[str, Any]) -> list[Problem]:
    """Check what opens a place on S3: without keys, restic asks the machine's role, which only it can tell of."""
    missing = [name for name in S3_KEYS if environment.get(name, "") == ""]
    if len(missing) == len(S3_KEYS):
        found = f"has neither {' nor '.join(S3_KEYS)}"
        remedy = "give them, unless the machine's role or a file that backup_environment names opens the bucket"
        return [make_problem("warning", f"{host}: backup_environment", found, remedy)]
    return [make_error(f"{host}: backup_environment.{name}", "is missing", "give both keys of S3") for name in missing]


def problems(inventory: Inventory) -> list[Problem]:
    """Check the variables of roles `backup` and `backup_server`."""
    hosts = inventory.members("all")
    names = ["backup_repository", "backup_environment", "pryv_environment", "pryv_locked_vaults"]
    senders = inventory.known(backed_up(inventory), names)
    return [
        *bounds_problems(inventory.known(hosts, BOUNDS), BOUNDS),
        *keep_problems(inventory.known(hosts, ["backup_server_keep"])),
        *repository_problems(senders),
    ]
