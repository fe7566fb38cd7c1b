"""Our own checks of a host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pryv_platform.audit.check import ADVICE, FAILED, PASSED, Check, judge, unless
from pryv_platform.backup_report import HOUR

#: Oldest package lists by which security updates can be told, in hours.
LISTS_HOURS = 48
#: How old the last run of a backup of the operator's own may be, of which no schedule is known, in seconds.
OLDEST_BACKUP = 26 * HOUR
#: The opened data disk.
DATA_DISK = "/dev/mapper/pryv_data"


def host_checks(
    evidence: Mapping[str, Any],
    *,
    changed: bool,
    data_disk: bool,
    core: bool,
    registry: bool,
    production: bool,
    headers: Sequence[str],
    certificate_days: int,
) -> Iterator[Check]:
    """Yield our own checks.

    Args:
        evidence: What module host_evidence said.
        changed: Whether /etc or the list of packages changed during the audit.
        data_disk: Whether the host is configured to have a disk of its own for the data.
        core: Whether people's data lies there.
        registry: Whether it knows, before its followers do, whose data lies where.
        production: Whether the platform is for production.
        headers: Paths of header backups on the controller.
        certificate_days: How many days the certificate must still be valid.
    """
    yield _judge(
        "unchanged",
        "The audit changed nothing",
        unless(not changed, "the digest of /etc or of the packages changed meanwhile"),
        "see whether somebody worked on the host, and run it again",
        "high",
    )
    yield from _disk_checks(evidence["disk"], headers, configured=data_disk, needed=core and production)
    if not evidence["system"]["container"]:
        yield from _machine_checks(evidence)
    yield from _update_checks(evidence["updates"])
    failed = ", ".join(evidence["units"]["failed"])
    yield _judge("units", "No unit failed", failed, "journalctl -u <unit>", "medium")
    yield from _firewall_checks(evidence["firewall"])
    yield from _certificate_checks(evidence["certificate"], certificate_days)
    passwords = ", ".join(person["name"] for person in evidence["people"] if person["password"])
    yield _judge("passwords", "Nobody logs in with a password", passwords, "passwd --lock", "medium")
    yield from _backup_checks(evidence["units"]["backups"], wanted=core or registry, production=production)


def _judge(rule: str, title: str, problem: str, remedy: str, severity: str) -> Check:
    return judge("host", rule, title, problem, remedy, severity)


def _disk_checks(disk: Mapping[str, Any], headers: Sequence[str], *, configured: bool, needed: bool) -> Iterator[Check]:
    """Yield what is known about the disk with the data."""
    if configured:
        mounted = disk["source"] == DATA_DISK
        yield _judge(
            "data_disk",
            "The data disk is mounted",
            unless(mounted, f"the data directory is on {disk['source']}: the disk is locked or missing"),
            "playbooks/unlock.yml; docs/operations/unlock.md",
            "critical",
        )
        if not mounted:  # what lies there instead says nothing about the data
            return
    title = "The data lies on an encrypted disk"
    if disk["luks"] is not None:
        yield Check("host", "luks", title, PASSED)
        yield from _encryption_checks(disk["luks"], headers)
    elif needed:
        found = f"{disk['mount_point']} is {disk['source']}, not encrypted"
        yield _judge("luks", title, found, "set data_disk_device; docs/operations/data-disk.md", "critical")


def _encryption_checks(luks: Mapping[str, Any], headers: Sequence[str]) -> Iterator[Check]:
    """Yield how a disk is encrypted, and whether its header could be restored."""
    yield _judge("luks_version", "LUKS 2", unless(luks["version"] == 2, "LUKS 1"), "renew the disk", "high")
    weak = [cipher for cipher in luks["ciphers"] if cipher != "aes-xts-plain64"]
    weak += [str(bits) for bits in luks["key_bits"] if bits < 512]
    yield _judge("luks_cipher", "AES-XTS with keys of 512 bits", ", ".join(weak), "renew the disk", "high")
    # What opens the disk at boot is not among them: it has a random key, for which pbkdf2 is right.
    kdfs = ", ".join(str(kdf) for kdf in luks["passphrase_kdfs"] if kdf != "argon2id")
    yield _judge("luks_kdf", "Passphrases pass through argon2id", kdfs, "playbooks/rotate_disk_keys.yml", "high")
    # As role data_disk names its copies: HOST-UUID-EPOCH.
    is_backed_up = any(path.endswith(f"-{luks['uuid']}-{luks['epoch']:06d}.vault") for path in headers)
    lacking = (
        f"there is no copy of the header of {luks['uuid']} as it is now (epoch {luks['epoch']}); an older one "
        "lacks its last change, and may open with a key that was removed since"
    )
    yield _judge(
        "luks_header",
        "The disk's header is backed up on the controller",
        unless(is_backed_up, lacking),
        "ansible-playbook site.yml --tags data_disk",
        "high",
    )


def _machine_checks(evidence: Mapping[str, Any]) -> Iterator[Check]:
    """Yield what a container only sees of the machine that it runs on."""
    plain = ", ".join(swap["name"] for swap in evidence["disk"]["swap"] if not swap["encrypted"])
    remedy = "switch swap off, or encrypt it"
    yield _judge("swap", "No memory is written to an unencrypted disk", plain, remedy, "high")
    yield _judge(
        "clock",
        "The clock follows a time server",
        unless(evidence["clock"]["synchronized"], "it is not synchronised"),
        "see systemctl status of the time service, and whether UDP 123 gets out",
        "medium",
    )


def _update_checks(updates: Mapping[str, Any]) -> Iterator[Check]:
    age = updates["lists_age_hours"]
    stale = unless(age is not None and age <= LISTS_HOURS, f"package lists are {age or 'never fetched,'} hours old")
    waiting = ", ".join(updates["security"]) or stale
    yield _judge("updates", "No security update waits", waiting, "apt-get update && apt-get upgrade", "high")
    yield _judge(
        "automatic_updates",
        "Security updates come by themselves",
        unless(updates["automatic"], "unattended-upgrades is not on"),
        "ansible-playbook site.yml --tags hardening",
        "medium",
    )
    reboot = unless(not updates["reboot_required"], "an update waits for one")
    yield _judge("reboot", "No reboot waits", reboot, "reboot in a maintenance window", "medium")


def _firewall_checks(firewall: Mapping[str, Any] | None) -> Iterator[Check]:
    if not firewall or {firewall["policies"].get(chain) for chain in ("input", "forward")} != {"drop"}:
        problem = "table inet pryv is missing, or lets through by default"
    else:
        problem = unless(firewall["as_it_should_be"], "its rules are not those that role firewall wrote")
    remedy = "ansible-playbook site.yml --tags firewall"
    yield _judge("firewall", "The firewall drops what is not allowed", problem, remedy, "critical")
    yield _judge(
        "other_firewall",
        "Nobody else's rules decide what passes",
        ", ".join(firewall["others"]) if firewall else "",
        "nft list ruleset; whatever any of them drops is dropped: take them out, or accept them in audit_deviations",
        "medium",
    )


def _certificate_checks(certificate: Mapping[str, Any] | None, least_days: int) -> Iterator[Check]:
    if certificate is None:
        remedy = "ansible-playbook site.yml --tags certificate"
        yield _judge("certificate", "The certificate is valid", "there is none", remedy, "high")
        return
    days, owner, mode = certificate["days_left"], certificate["key_owner"], certificate["key_mode"]
    yield _judge(
        "certificate",
        f"The certificate is valid for {days} more days",
        unless(days >= least_days, f"it has {days} days left"),
        "docs/operations/certificate.md",
        "high",
    )
    readable = unless((owner, mode) == ("root", "0400"), f"{owner}, {mode}")
    title = "Only root can read the certificate's key"
    yield _judge("certificate_key", title, readable, "owner root, mode 0400", "critical")


def _backup_checks(backups: Mapping[str, Mapping[str, Any]], *, wanted: bool, production: bool) -> Iterator[Check]:
    if not backups and wanted:
        yield Check(
            *("host", "backup", "There are backups", FAILED if production else ADVICE),
            "no unit pryv-backup*.service",
            "have one that copies what is in the data directory to another machine",
            "high",
        )
    for name, backup in backups.items():
        age, result = backup["age_hours"], backup["result"]
        said = "never ran" if age is None else f"last ended {age} hours ago with {result}"
        oldest = backup.get("oldest_seconds") or OLDEST_BACKUP
        is_recent = age is not None and age * HOUR <= oldest and result == "success"
        title, remedy = f"Backup {name} is recent", f"journalctl -u {name}"
        yield _judge(f"backup_{name}", title, unless(is_recent, said), remedy, "high")
