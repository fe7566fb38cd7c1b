"""What breaks on hosts of inventories/load, and how it is mended: what test_monitoring.py wants people to be told of.

Most is broken as it breaks in life. What a container shares with the machine that runs it cannot be: its clock, memory,
swap and disk are the machine's, and everybody's there. Of these four the exporter is made to tell, from a file, beside
the machine's own values: what asks the host, the rule and the message are the real ones. What node_exporter reads from
the kernel is not proven.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.hosts.conftest import Platform

CERTIFICATE = "/etc/pryv/tls/fullchain.pem"
BACKUP, SCHEDULE = "/var/lib/pryv/backup/last.json", "/var/lib/pryv/backup/schedule.json"
METRICS = "/etc/pryv/metrics/metrics.json"
ALERTMANAGER = "/etc/prometheus/alertmanager.yml"
TEXT = "/var/lib/prometheus/node-exporter/fault.prom"
#: A life of 90 days that ends in three: less than a tenth of it is left.
LIFE, LEFT = timedelta(days=90), timedelta(days=3)


@dataclass(frozen=True)
class Fault:
    """Something that is broken on a host.

    Attributes:
        host: Where.
        alert: What people are told.
        breaks: The shell command that breaks it.
        mends: The one that mends it.
        builds: How many seconds it takes until it is as bad as the rule says.
        lasts: How many seconds of the past the rule looks at, and still sees it after it was mended.
    """

    host: str
    alert: str
    breaks: str
    mends: str
    builds: int = 0
    lasts: int = 0


def cut(name: str, hook: str, packets: str) -> tuple[str, str]:
    """Commands that stop packets, in a table of their own beside the firewall's, and let them through again."""
    chain = f"add chain inet {name} cut {{ type filter hook {hook} priority -150; }}"
    return f"nft 'add table inet {name}; {chain}; add rule inet {name} cut {packets}'", f"nft delete table inet {name}"


def replaced(path: str, content: str, then: str = "true") -> tuple[str, str]:
    """Commands that write a file whether or not it is there, and put back what was; after each, another command."""
    keep = f"test ! -e {path} || cp -p {path} {path}.kept"
    back = f"if test -e {path}.kept; then mv {path}.kept {path}; else rm {path}; fi"
    write = f"mkdir -p {Path(path).parent} && printf %s {shlex.quote(content)} >{path}"
    return f"{keep}; {write} && {then}", f"{back} && {then}"


def in_background(name: str, command: str) -> str:
    """A command that starts another, as a unit that can be stopped."""
    return f"systemd-run --quiet --collect --expand-environment=no --unit {name} sh -c {shlex.quote(command)}"


def told(values: Mapping[str, str]) -> tuple[str, str]:
    """Commands that have the exporter tell more than it sees, and no more; shell expressions by names of metrics.

    They are evaluated each few seconds, so that what counts can grow.
    """
    # What kind of metric each is, as the exporter says: all of a name have to be of one kind.
    kinds = "; ".join(
        f'kind_{name}=$(curl -s 127.0.0.1:9101/metrics | grep -E "^# (HELP|TYPE) {name} ")' for name in values
    )
    lines = "; ".join(
        f'echo "$kind_{name}"; echo "{name}{{source=\\"fault\\"}} {value}"' for name, value in values.items()
    )
    loop = f"{kinds}; while :; do {{ {lines}; }} >/run/fault && install -m 0644 /run/fault {TEXT}; sleep 5; done"
    return in_background("fault", loop), f"systemctl stop fault; rm -f {TEXT}"


def near_its_end(authority: Path, served: bytes) -> str:
    """A certificate like the one that is served, for the same key, which is about to expire.

    Args:
        authority: Folder of the authority that signs it.
        served: The platform's, as PEM.
    """
    leaf = x509.load_pem_x509_certificate(served)
    key = serialization.load_pem_private_key((authority / "ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    end = datetime.now(timezone.utc) + LEFT
    made = x509.CertificateBuilder(leaf.issuer, leaf.subject, leaf.public_key(), x509.random_serial_number())
    made = made.not_valid_before(end - LIFE).not_valid_after(end)
    for extension in leaf.extensions:
        made = made.add_extension(extension.value, extension.critical)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def foremost(platform: Platform) -> list[Fault]:
    """The five that matter most, on a host each.

    A core's database, as its status stays green; a host, and the nginx of one, behind which nothing is reached; the
    copy of the registry, and the backup, whose lack nobody notices until it is needed.
    """
    leader, us = platform.address(platform.topology["leader"]), platform.client("mon1")
    database = "pryv-core-mongodb-1"
    to_leader = f"ip daddr {leader} tcp dport {platform.topology['ports']['replication']} reject with tcp reset"
    old = (datetime.now(timezone.utc) - timedelta(hours=27)).isoformat()
    due = replaced(SCHEDULE, f'{{"oldest_seconds": 93600, "since": "{old}"}}')
    missed = replaced(BACKUP, f'{{"ok": false, "newest": "{old}"}}')
    # This inventory has no host for backups, so its hosts are not told to look at any.
    look = f's|"collectors": {{|&"backup": {{"schedule": "{SCHEDULE}", "file": "{BACKUP}"}},|'
    asked = f"cp -p {METRICS} {METRICS}.kept && sed -i {shlex.quote(look)} {METRICS}"
    return [
        Fault("co1", "CoreDatabaseDown", f"docker kill {database}", f"docker start {database}"),
        Fault("co2", "HostDown", *cut("gone", "input", f'iif != "lo" ip saddr != {us} drop')),
        Fault(
            "co3",
            "BackupMissed",
            f"{due[0]} && {missed[0]} && {asked}",
            f"{due[1]}; {missed[1]}; mv {METRICS}.kept {METRICS}",
        ),
        Fault("co4", "HostSilent", "systemctl stop nginx", "systemctl start nginx"),
        Fault("reg2", "ReplicationBroken", *cut("unlinked", "output", to_leader)),
    ]


def others(platform: Platform) -> list[Fault]:
    """Five more."""
    served = platform.machine("co1").file(CERTIFICATE).content
    certificate = near_its_end(platform.inventory / "ca", served)
    crash = (
        'while :; do first=$(docker inspect --format "{{.State.Pid}}" pryv-core-hfs-1); '
        'test "$first" = 0 || kill -9 $first; sleep 2; done'
    )
    full = {"node_filesystem_avail_bytes": "1", "node_filesystem_size_bytes": "100"}
    return [
        Fault("co1", "CertificateExpires", *replaced(CERTIFICATE, certificate, "systemctl reload nginx")),
        Fault(
            "co2",
            "ContainerCrashLoop",
            in_background("crash", crash),
            "systemctl stop crash; docker start pryv-core-hfs-1",
            builds=60,
            lasts=600,
        ),
        Fault(
            "co3",
            "FirewallChanged",
            "nft add rule inet pryv input tcp dport 4444 accept",
            "systemctl reload pryv-firewall",
        ),
        Fault("co4", "DiskAlmostFull", *told(full)),
        Fault("reg3", "DnsDown", "docker stop pryv-registry-dns-1", "docker start pryv-registry-dns-1"),
    ]


def slow(platform: Platform) -> list[Fault]:
    """What rules wait for, a clock, memory, swap, and a mail server that takes nothing; and what watches.

    That is stopped with nothing beside it that it has to see.
    """
    unheard = "{to: duty@example.com, from: pryv@example.com, smarthost: '127.0.0.1:9', require_tls: false}"
    reload = "systemctl reload prometheus-alertmanager"
    mail = f"/webhook_configs:/a \\    email_configs: [{unheard}]"
    return [
        Fault("co1", "ClockOff", *told({"node_timex_offset_seconds": "0.2"})),
        Fault("co2", "MemoryLow", *told({"node_memory_MemAvailable_bytes": "1", "node_memory_MemTotal_bytes": "100"})),
        Fault(
            *("co3", "Swapping"),
            *told({"node_vmstat_pswpin": "$(($(date +%s) % 1000000 * 1000))"}),
            builds=30,
            lasts=300,
        ),
        Fault(
            platform.topology["monitoring"][0],
            "AlertsNotDelivered",
            f"cp -p {ALERTMANAGER} {ALERTMANAGER}.fault; sed -i {shlex.quote(mail)} {ALERTMANAGER} && {reload}",
            f"mv {ALERTMANAGER}.fault {ALERTMANAGER} && {reload}",
            # It tries for a while before it gives up.
            builds=60,
            lasts=300,
        ),
        Fault(
            "mon1",
            "MonitoringPartDown",
            "systemctl stop prometheus-blackbox-exporter",
            "systemctl start prometheus-blackbox-exporter",
        ),
    ]
