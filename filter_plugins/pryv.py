"""Gives Ansible the functions of the package `pryv_platform` as filters; computes nothing itself."""

from __future__ import annotations

import functools
import inspect
import ssl
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError, AnsibleFilterError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import AnsibleVaultError, VaultLib, VaultSecret
from ansible.utils.vars import load_extra_vars
from jinja2 import Undefined, UndefinedError

# Wherever Ansible was installed, these filters get the package of their own checkout.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from pryv_platform import (
    accounts,
    alerting,
    backup_report,
    data_disk,
    docker,
    images,
    monitoring,
    preflight,
    registry,
    scraping,
    topology_svg,
)
from pryv_platform.audit.report import audit_report, audit_summary
from pryv_platform.capacity import inventory as capacity_inventory
from pryv_platform.capacity import measured as capacity_measured
from pryv_platform.capacity import report as capacity_report
from pryv_platform.capacity import worksheet as capacity_worksheet
from pryv_platform.capacity.check import capacity_problems
from pryv_platform.capacity.forecast import capacity_forecast, requirement_problems
from pryv_platform.capacity.machines import metrics_gb
from pryv_platform.capacity.plan import capacity_plan
from pryv_platform.certificate import source
from pryv_platform.checks import data_disk as data_disk_checks
from pryv_platform.checks import (
    dns,
    files,
    hardening,
    machines,
    production,
    secrets,
)
from pryv_platform.checks import docker as docker_checks
from pryv_platform.inventory import Controller, Inventory, Unreadable
from pryv_platform.topology import derivation

CHECKOUT = Path(__file__).resolve().parents[1]
TRUST_STORES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


# -- errors ----------------------------------------------------------------------------------------------------------


def adapted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that says what it refuses as Ansible's filters do."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except ValueError as error:
            raise AnsibleFilterError(str(error)) from error

    return call


# -- variables -------------------------------------------------------------------------------------------------------


class Variables(Mapping[str, Any]):
    """One host's variables in Python's own containers, each templated when it is asked for, and once."""

    def __init__(self, own: Mapping[str, Any]) -> None:
        """Keep Ansible's variables of the host."""
        self._own, self._read = own, dict[str, Any]()

    def __getitem__(self, name: str) -> Any:
        """Return a variable; what cannot be templated is `Unreadable`."""
        if name not in self._own:
            raise KeyError(name)
        if name not in self._read:
            self._read[name] = plain(self._own, name)
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        """Tell whether a variable is set, without a look at it."""
        return name in self._own

    def __iter__(self) -> Iterator[str]:
        """Iterate over the variables' names."""
        return iter(self._own)

    def __len__(self) -> int:
        """Count them."""
        return len(self._own)


def plain(container: Any, key: Any) -> Any:
    """Return an item in Python's own containers: Ansible's hold all variables, and template at each look."""
    try:
        value = container[key]
        if isinstance(value, Undefined):
            str(value)  # raises, with the name of what is missing
    except (AnsibleError, UndefinedError) as error:
        return Unreadable(str(error))
    if isinstance(value, Mapping):
        return {name: plain(value, name) for name in value}
    if isinstance(value, list | tuple):
        return [plain(value, index) for index in range(len(value))]
    return value


class _Raw(Mapping[str, Mapping[str, Any]]):
    """The variables of `hostvars` as they are written."""

    def __init__(self, hostvars: Any) -> None:
        self._hostvars = hostvars

    def __getitem__(self, host: str) -> Mapping[str, Any]:
        raw: Mapping[str, Any] = self._hostvars.raw_get(host)
        return raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._hostvars)

    def __len__(self) -> int:
        return len(self._hostvars)


def inventory(hostvars: Mapping[str, Any], groups: Mapping[str, Sequence[str]] | None = None) -> Inventory:
    """Return what the package calls an inventory.

    Args:
        hostvars: The magic variable `hostvars`, which also has the hosts that a run is not limited to.
        groups: The magic variable `groups`.
    """
    variables = {host: Variables(hostvars[host]) for host in hostvars}
    return Inventory(
        variables,
        groups or {},
        raw=_Raw(hostvars),
        command_line=command_line(),
        options=options(),
        validate=validate,
        exists=lambda path: Path(path).exists(),
        controller=controller(hostvars),
    )


def controller(hostvars: Any) -> Controller:
    """Return what the package calls the controller.

    Args:
        hostvars: The magic variable `hostvars`, which knows the vault's secrets of this run.
    """
    folder = Path(hostvars[next(iter(hostvars))].get("inventory_dir") or ".")

    def read(path: str) -> bytes:
        file = folder / path
        if not file.exists():
            raise FileNotFoundError(f"{file.absolute()} is not there")
        try:
            return Path(hostvars._loader.get_real_file(str(file.absolute()))).read_bytes()
        except AnsibleError as error:
            raise OSError(str(error)) from error

    stores = (ssl.get_default_verify_paths().cafile, *TRUST_STORES)
    trusted = next((Path(store).read_bytes() for store in stores if store and Path(store).is_file()), b"")
    return Controller(read, trusted)


def platform_certificate(settings: Mapping[str, Any], hostvars: Any) -> dict[str, Any]:
    """Filter: see `source.material`."""
    return vars(source.material(source.Settings(**settings), controller(hostvars)))


@functools.cache
def options() -> dict[str, dict[str, Any]]:
    """Return what roles document of their variables, by name."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(CHECKOUT.glob("roles/*/meta/argument_specs.yml")):
        # libyaml's loader: processes of tasks read them anew, and it takes a tenth of the time.
        for entry in yaml.load(path.read_text(), yaml.CSafeLoader)["argument_specs"].values():
            found |= entry.get("options", {})
    return found


def command_line() -> Sequence[str]:
    """Return the names of the variables that were given for this run alone."""
    return list(load_extra_vars(DataLoader()))


def validate(name: str, option: Mapping[str, Any], value: object) -> str | None:
    """Return what a role's documentation finds wrong with a value.

    Args:
        name: The variable.
        option: What is documented of it.
        value: Its value.
    """
    checked = {key: item for key, item in option.items() if key not in ("description", "default", "required")}
    result = ArgumentSpecValidator({name: checked}).validate({name: value})
    return "; ".join(result.error_messages) or None


# -- filters that take Ansible's own objects -------------------------------------------------------------------------


def inventory_problems(groups: Mapping[str, Sequence[str]], hostvars: Any) -> Any:
    """Filter: see `derivation.inventory_problems`."""
    return derivation.inventory_problems(inventory(hostvars, groups))


def inventory_values(hostvars: Any, hosts: Iterable[str], names: Iterable[str]) -> Any:
    """Filter: see `Inventory.known`."""
    return inventory(hostvars).known(hosts, names)


def lockout_problems(results: Mapping[str, Any], hostvars: Any) -> Any:
    """Filter: see `hardening.lockout_problems`."""
    return hardening.lockout_problems(results, inventory(hostvars))


def platform_topology(groups: Mapping[str, Sequence[str]], hostvars: Any) -> Any:
    """Filter: see `derivation.topology`."""
    return derivation.topology(inventory(hostvars, groups))


def inventory_report(
    groups: Mapping[str, Sequence[str]], hostvars: Any, source: Sequence[Any], archives: Sequence[Any], waivers: object
) -> Any:
    """Filter: see `preflight.inventory_report`."""
    return preflight.inventory_report(inventory(hostvars, groups), source, archives, waivers)


def secret_owners(groups: Mapping[str, Sequence[str]], hostvars: Any) -> dict[str, list[str]]:
    """Filter: see `secrets.secret_owners`."""
    return secrets.secret_owners(inventory(hostvars, groups))


def data_disk_problems(groups: Mapping[str, Sequence[str]], hostvars: Any, hosts: Sequence[str]) -> Any:
    """Filter: see `pryv_platform.checks.data_disk.problems`."""
    return data_disk_checks.problems(inventory(hostvars, groups), hosts)


def docker_host_problems(results: Mapping[str, Any], hostvars: Any) -> Any:
    """Filter: see `pryv_platform.checks.docker.host_problems`."""
    return docker_checks.host_problems(inventory(hostvars), results)


def archive_paths(hostvars: Any) -> list[str]:
    """Filter: return the paths of the image archives that the inventory names and the controller has."""
    found = files.controller_files(inventory(hostvars).known(hostvars, ["pryv_image_archive"]))
    return [file["path"] for file in found if Path(file["path"]).exists()]


def unseal(path: str, keys: Iterable[str]) -> str:
    """Filter: decrypt a file that was encrypted, as ansible-vault does, with one of a host's recovery keys.

    Ansible's own ways to read a file would try the vault's password on it, and fail.

    Args:
        path: The encrypted file.
        keys: The keys to try.

    Raises:
        AnsibleFilterError: When none of them fits.
    """
    sealed = Path(path).read_bytes()
    for key in keys:
        try:
            content: bytes = VaultLib([("default", VaultSecret(key.encode()))]).decrypt(sealed)
        except AnsibleVaultError:
            continue
        return content.decode()
    raise AnsibleFilterError("no recovery key in the vault opens this backup: put the one of its time into the vault")


def for_this_run(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is told, after its other arguments, what was given on the command line."""

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        return function(*arguments, command_line())

    *given, _told = inspect.signature(function).parameters.values()
    call.__signature__ = inspect.Signature(given)  # type: ignore[attr-defined]  # what inspect looks for
    return call


FILTERS: dict[str, Callable[..., Any]] = {
    "alert_checks": alerting.alert_checks,
    "alertmanager_configuration": alerting.alertmanager_configuration,
    "archive_paths": archive_paths,
    "as_warnings": preflight.as_warnings,
    "audit_forwarding_problems": production.audit_forwarding_problems,
    "audit_judgement": audit_report,
    "audit_summary": audit_summary,
    "backup_checks": backup_report.checks,
    "backup_overview": backup_report.overview,
    "backup_table": backup_report.table,
    "basic_auth_accounts": accounts.basic_auth_accounts,
    "blackbox_configuration": scraping.blackbox_configuration,
    "capacity_chart": capacity_report.capacity_chart,
    "capacity_diagram": capacity_report.capacity_diagram,
    "capacity_forecast": capacity_forecast,
    "capacity_inventory": capacity_inventory.capacity_inventory,
    "capacity_measured": capacity_measured.capacity_measured,
    "capacity_months": capacity_report.months,
    "capacity_number": capacity_report.number,
    "capacity_percent": capacity_report.percent,
    "capacity_plan": capacity_plan,
    "capacity_problems": capacity_problems,
    "capacity_table": capacity_report.capacity_table,
    "capacity_worksheet": capacity_worksheet.capacity_worksheet,
    "capacity_worksheet_rows": capacity_worksheet.capacity_worksheet_rows,
    "data_disk_destroy_wanted": for_this_run(data_disk.destroy_wanted),
    "data_disk_host_keys": data_disk.recovery_keys,
    "data_disk_next_key": data_disk.next_recovery_key,
    "data_disk_problems": data_disk_problems,
    "data_disk_unseal": unseal,
    "delegation_problems": dns.delegation_problems,
    "docker_host_problems": docker_host_problems,
    "docker_pool_networks": docker.docker_networks,
    "docker_take_over_wanted": for_this_run(docker.take_over_wanted),
    "images_to_load": images.images_to_load,
    "inventory_problems": inventory_problems,
    "inventory_report": inventory_report,
    "inventory_rules": scraping.inventory_rules,
    "inventory_values": inventory_values,
    "lockout_problems": lockout_problems,
    "measured_address": capacity_measured.measured_address,
    "measured_problems": capacity_measured.measured_problems,
    "measured_table": capacity_measured.measured_table,
    "metrics_gb": metrics_gb,
    "monitoring_platform": monitoring.monitoring_platform,
    "platform_certificate": platform_certificate,
    "platform_topology": platform_topology,
    "preflight_report": preflight.preflight_report,
    "prometheus_configuration": scraping.prometheus_configuration,
    "public_key": hardening.public_key,
    "registry_keys": registry.registry_keys,
    "registry_names": registry.registry_names,
    "registry_net": registry.registry_net,
    "requirement_problems": requirement_problems,
    "secret_owners": secret_owners,
    "secret_problems": secrets.secret_problems,
    "survey_problems": machines.survey_problems,
    "topology_svg": topology_svg.topology_svg,
    "worksheet_problems": capacity_worksheet.worksheet_problems,
}


class FilterModule:
    """Makes the filters known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {name: adapted(function) for name, function in FILTERS.items()}
