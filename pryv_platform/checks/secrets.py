"""Whether the keys that machines share are there, strong, and each of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pryv_platform.backup import SECRETS as BACKUP_SECRETS
from pryv_platform.backup import backed_up
from pryv_platform.inventory import Inventory
from pryv_platform.monitoring import log_senders, page_readers
from pryv_platform.problems import Problem, make_error

# Pryv asks for keys of 20 to 50 letters and digits where it says so; our own have 43.
SHORTEST_SECRET, LONGEST_SECRET = 20, 50
FEWEST_DIFFERENT_CHARACTERS = 10
# What all cores shared once; see playbooks/secrets.yml.
SHARED_KEYS = ("core_system_key", "register_system_key")


def _weakness(secret: object, owners: Mapping[str, str]) -> str:
    """Return what is wrong with a secret; nothing when it is strong and nobody else's."""
    text = str(secret)
    if not isinstance(secret, str) or not (text.isascii() and text.isalnum()):
        return "has other characters than letters and digits"
    if not SHORTEST_SECRET <= len(text) <= LONGEST_SECRET:
        return f"has {len(text)} characters, not {SHORTEST_SECRET} to {LONGEST_SECRET}"
    if len(set(text)) < FEWEST_DIFFERENT_CHARACTERS:
        return "repeats few characters"
    return f"is the same as {owners[text]}" if text in owners else ""


def secret_problems(
    given: Mapping[str, object],
    wanted: Mapping[str, Iterable[str]],
    locked: Iterable[str] = (),
    complete: Iterable[str] = (),
) -> list[Problem]:
    """Check that the keys which machines share are there, strong, and each of its own; no value is ever named.

    Args:
        given: The variables that hold keys; None for one that the inventory has not.
        wanted: The names of the keys that each of these variables should have.
        locked: Paths of vaults that could not be read; what is missing may be in there.
        complete: Of these variables, those that may have no other names.
    """
    making = "run playbooks/secrets.yml, which makes it and leaves all others as they are"
    unlocking = "give its password: --ask-vault-pass or ANSIBLE_VAULT_PASSWORD_FILE"
    problems, owners = [make_error(path, "is locked", unlocking) for path in locked], dict[str, str]()
    is_locked = bool(problems)
    for variable, wanted_names in wanted.items():
        secrets, names = given[variable], list(wanted_names)
        if secrets is not None and not isinstance(secrets, Mapping):
            problems.append(make_error(variable, "is not a mapping", "write it as one `name: value` line each"))
            continue
        for name in names:
            where, value = f"{variable}.{name}", (secrets or {}).get(name)
            if value is None or value == "":
                if not is_locked:
                    problems.append(make_error(where, "is missing", making))
                continue
            weakness = _weakness(value, owners)
            if weakness:
                problems.append(make_error(where, weakness, f"take it out of the vault and {making}"))
            owners.setdefault(str(value), where)
        if variable in complete:
            problems += [_unwanted_secret(variable, name) for name in secrets or {} if name not in names]
    return problems


def _unwanted_secret(variable: str, name: object) -> Problem:
    remedy = "take it out, or give it a variable of its own"
    if name in SHARED_KEYS:
        remedy = "run playbooks/secrets.yml, which retires it (docs/operations/rotate-keys.md)"
    return make_error(f"{variable}.{name}", "is no secret of this toolkit", remedy)


def secret_owners(inventory: Inventory) -> dict[str, list[str]]:
    """Return whose secrets the vault should have.

    Args:
        inventory: What the operator wrote down.

    Returns:
        By variable, the names in it: of hosts, or of people.
    """
    cores = list(inventory.members("core"))
    return {
        "pryv_core_admin_keys": cores,
        "pryv_core_register_keys": cores,
        **dict.fromkeys(BACKUP_SECRETS, backed_up(inventory)),
        "pryv_metrics_passwords": list(inventory.members("monitoring")),
        "pryv_monitoring_passwords": page_readers(inventory),
        "pryv_log_passwords": log_senders(inventory),
    }


def problems(inventory: Inventory) -> list[Problem]:
    """Check the keys that machines share."""
    hosts = inventory.members("all")
    wanted = {"pryv_secrets": list(inventory.options["pryv_secrets"]["options"]), **secret_owners(inventory)}
    given = inventory.known(hosts[:1], wanted).get(hosts[0], {}) if hosts else {}
    locked = [
        path
        for of_host in inventory.known(hosts, ["pryv_locked_vaults"]).values()
        for paths in of_host.values()
        for path in paths
    ]
    # The others' names are hosts', also of cores that are gone.
    return secret_problems({**dict.fromkeys(wanted), **given}, wanted, dict.fromkeys(locked), ["pryv_secrets"])
