"""Mails what must not be missed, where no host monitors this one. Run by pryv-watch.service."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import smtplib
import ssl
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Any

from pryv_metrics import backups, certificate
from pryv_metrics.problem import CollectorError
from pryv_metrics.samples import write

CONFIGURATION, STATE = Path("/etc/pryv/metrics/watch.json"), Path("/var/lib/pryv/metrics/told.json")
#: Shares of a disk's space, and of a certificate's life, that are to be left.
LEAST_SPACE, LEAST_LIFE, LITTLE_LIFE = 0.05, 0.1, 0.25
HOUR, DAY = 3600, 86400
#: How long the mail server may take for an answer, in seconds; at which port TLS comes first.
PATIENCE, TLS_PORT = 30, 465
CRITICAL, WARNING = "critical", "warning"


@dataclass(frozen=True)
class Alert:
    """Something that a person has to look at.

    Attributes:
        name: As docs/operations/alerts.md has it.
        severity: How bad it is.
        text: What is wrong, in a sentence.
    """

    name: str
    severity: str
    text: str


def alerts(options: Mapping[str, Any], now: float) -> Iterator[Alert]:
    """What is wrong with this host.

    Args:
        options: What to look at: `folders`, `certificate`, and `backup`, the files of its schedule and of the last one;
            empty where there is none.
        now: The time, in seconds since 1970.
    """
    yield from of_disks(options["folders"])
    yield from of_certificate(Path(options["certificate"]), now)
    if options.get("backup"):
        yield from of_backup(options["backup"], now)


def of_disks(folders: Sequence[str]) -> Iterator[Alert]:
    """File systems that are almost full."""
    for folder in folders:
        usage = shutil.disk_usage(folder)
        if usage.free < usage.total * LEAST_SPACE:
            yield Alert("DiskAlmostFull", CRITICAL, f"{folder} has {usage.free / usage.total:.0%} of its space left.")


def of_certificate(path: Path, now: float) -> Iterator[Alert]:
    """A certificate that is near its end."""
    try:
        dates = certificate.validity(certificate.first(path))
    except CollectorError as error:
        yield Alert("CertificateExpires", CRITICAL, f"{error}.")
        return
    left, life = dates.end - now, dates.end - dates.begin
    text = f"The certificate ends {time.strftime('%F %T', time.gmtime(dates.end))} UTC."
    if left < life * LEAST_LIFE:
        yield Alert("CertificateExpires", CRITICAL, text)
    elif left < life * LITTLE_LIFE:
        yield Alert("CertificateNotRenewed", WARNING, text)


def of_backup(files: Mapping[str, str], now: float) -> Iterator[Alert]:
    """A backup that was missed, or has failed.

    Args:
        files: As the collector of backups has them; before that of the schedule is there, nothing is due.
        now: The time.
    """
    try:
        told = {sample.name: sample.value for sample in backups.collect_own(files)}
    except CollectorError as error:
        yield Alert("BackupFailed", WARNING, f"{error}.")
        return
    good = told.get("pryv_backup_time_seconds")
    oldest = told.get("pryv_backup_oldest_seconds", math.inf)
    if now - told.get("pryv_backup_since_seconds" if good is None else "pryv_backup_time_seconds", now) > oldest:
        when = (
            "There is none." if good is None else f"The last one is of {time.strftime('%F %T', time.gmtime(good))} UTC."
        )
        yield Alert("BackupMissed", CRITICAL, f"No backup for {oldest / HOUR:.0f} hours. {when}")
    elif told.get("pryv_backup_ok") == 0:
        yield Alert("BackupFailed", WARNING, "The last backup has failed; the log of pryv-backup.service says why.")


def message(host: str, found: Sequence[Alert], server: Mapping[str, Any], to: Sequence[str]) -> EmailMessage:
    """The mail about what is wrong with a host, or no longer is.

    Args:
        host: Its name, with the domain.
        found: What is wrong.
        server: The mail server, with `from`.
        to: Addresses.
    """
    mail = EmailMessage()
    names = ", ".join(dict.fromkeys(alert.name for alert in found))
    mail["Subject"] = f"{host}: {names or 'all is well again'}"
    mail["From"], mail["To"], mail["Date"] = server["from"], ", ".join(to), formatdate()
    mail["Message-ID"] = make_msgid(domain=host)
    lines = [f"{alert.name} ({alert.severity}): {alert.text}" for alert in found]
    tail = "What to do is in docs/operations/alerts.md." if found else "What was wrong is no longer so."
    mail.set_content("\n".join([*lines, *([""] if lines else []), tail, ""]))
    return mail


def send(server: Mapping[str, Any], mail: EmailMessage) -> None:
    """Hands a mail over, in the clear only where the operator says so.

    Args:
        server: `host`, `port`, `tls`; `user` and `password` where it wants them.
        mail: The mail.

    Raises:
        OSError: When the server is not there, or not the one that it should be.
        smtplib.SMTPException: When it refuses.
    """
    context = ssl.create_default_context()
    port, tls = int(server["port"]), bool(server["tls"])
    if tls and port == TLS_PORT:
        connection: smtplib.SMTP = smtplib.SMTP_SSL(server["host"], port, timeout=PATIENCE, context=context)
    else:
        connection = smtplib.SMTP(server["host"], port, timeout=PATIENCE)
    with connection:
        if tls and port != TLS_PORT:
            connection.starttls(context=context)
        if server.get("user"):
            connection.login(server["user"], server["password"])
        connection.send_message(mail)


def wanted(receiver: Mapping[str, Any], found: Sequence[Alert], zone: str) -> list[Alert]:
    """Which alerts a receiver is told of; one of other zones of none."""
    zones = receiver.get("zones") or []
    if zone and zones and zone not in zones:
        return []
    severities = receiver.get("severities") or [CRITICAL, WARNING]
    return [alert for alert in found if alert.severity in severities]


def tell(options: Mapping[str, Any], state: dict[str, Any], now: float) -> bool:
    """Tells each receiver what is wrong: when that changes, and once a day.

    Args:
        options: The configuration.
        state: What is remembered; what was told is added.
        now: The time.

    Returns:
        Whether all were told that had to be.
    """
    found = list(alerts(options, now))
    good = True
    for receiver in options["receivers"]:
        mine = wanted(receiver, found, options["zone"])
        names = sorted({alert.name for alert in mine})
        known = state["told"].get(receiver["name"], {"names": [], "time": 0})
        if names == known["names"] and (not names or now - known["time"] < DAY):
            continue
        try:
            send(options["server"], message(options["host"], mine, options["server"], receiver["mail"]))
        except (OSError, smtplib.SMTPException) as error:
            good = False
            print(f"pryv-watch: {receiver['name']} could not be told: {type(error).__name__}", file=sys.stderr)
            continue
        state["told"][receiver["name"]] = {"names": names, "time": now}
    return good


def main() -> int:
    """Looks at this host, and tells; 1 when somebody could not be told, who will be the next time."""
    parser = argparse.ArgumentParser(prog="pryv-watch", description=__doc__)
    parser.add_argument("--configuration", type=Path, default=CONFIGURATION)
    parser.add_argument("--state", type=Path, default=STATE)
    given = parser.parse_args()
    options, now = json.loads(given.configuration.read_text()), time.time()
    state = backups.read(given.state) or {"told": {}}
    good = tell(options, state, now)
    write(given.state, json.dumps(state), 0o600)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
