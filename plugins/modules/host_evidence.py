#!/usr/bin/python
"""Collect what an audit has to know of a host, in one call that changes nothing."""

from __future__ import annotations

import calendar
import hashlib
import json
import os
import platform
import re
import shlex
import time
import typing as t
from collections.abc import Iterator, Mapping
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: host_evidence
short_description: Collect what an audit has to know of a host, in one call that changes nothing
description:
  - Reads system, updates, time, units, disks, containers, certificate and the proxy's configuration. Judges nothing.
  - Variables of containers' environments are left out, since they may be secrets; keys in the proxy's configuration
    are masked.
options:
  data_directory:
    description: Where the platform's data lies.
    type: path
    required: true
  certificate:
    description: The platform's certificate, leaf first.
    type: path
    required: true
  firewall_check:
    description: A command that succeeds while every rule of the firewall is as it should be.
    type: str
    default: "false"
  digest_only:
    description: Only compute RV(digest), to see whether something has changed the host meanwhile.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: It never changes anything.
author:
  - Pryv Ansible contributors
"""

EXAMPLES = r"""
- name: Collect evidence
  host_evidence:
    data_directory: /srv/pryv
    certificate: /etc/pryv/tls/fullchain.pem
"""

RETURN = r"""
digest:
  description: Digest of everything below C(/etc) (paths, owners, modes, contents) and of the list of packages.
  type: str
  returned: always
evidence:
  description: What was found, by concern. What a host does not have is null.
  type: dict
  returned: when O(digest_only=false)
"""

ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "LANGUAGE": "C",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
#: Packages whose versions an auditor asks for.
PACKAGES = (
    *("docker.io", "docker-ce", "containerd", "containerd.io", "docker-compose", "docker-compose-v2"),
    *("nginx", "openssl", "openssh-server", "systemd", "sudo", "cryptsetup-bin", "nftables", "apparmor", "auditd"),
)
#: Role backup's unit, and the file in which it says how old the newest backup may be.
OWN_BACKUP, SCHEDULE = "pryv-backup.service", "/var/lib/pryv/backup/schedule.json"
#: Types of the tokens that name what opens a disk at boot: role data_disk's own, the TPM's and tang's.
UNLOCKING = ("pryv-unlock", "systemd-tpm2", "clevis")


class Host:
    """Reads a host.

    Args:
        run: As AnsibleModule.run_command: a command in, its code, output and errors out.
    """

    def __init__(self, run: t.Callable[..., tuple[int, str, str]]) -> None:
        """Keep how commands are run."""
        self._run = run

    def output(self, *command: str) -> str | None:
        """Run a command, in the language of its manual; None when it is not there or fails."""
        try:
            code, text, _ = self._run(list(command), environ_update=ENVIRONMENT, handle_exceptions=False)
        except OSError:
            return None
        return text if code == 0 else None

    def document(self, *command: str) -> t.Any:
        """Run a command that writes JSON."""
        text = self.output(*command)
        try:
            return json.loads(text) if text else None
        except ValueError:
            return None

    def properties(self, *command: str) -> dict[str, str]:
        """Run a command that writes lines of name=value."""
        lines = (self.output(*command) or "").splitlines()
        return {name: value for name, _, value in (line.partition("=") for line in lines) if name}


def text_of(path: str) -> str | None:
    """Return the contents of a file; None when there is none."""
    try:
        return Path(path).read_text()
    except OSError:
        return None


def entries_of(path: str) -> list[str]:
    """Return the lines of a file that say something; none when there is none."""
    lines = [line.strip() for line in (text_of(path) or "").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


# --- what must stay as it is ---------------------------------------------------------------------


def entries(top: Path) -> Iterator[bytes]:
    """Yield a line for everything below a folder: path, mode, owner and what is in it."""
    for folder, folders, files in os.walk(top):
        folders.sort()
        for name in sorted(folders + files):
            path = Path(folder, name)
            status = path.lstat()
            if path.is_symlink():
                content = str(path.readlink())
            elif path.is_file():
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                content = ""
            yield f"{path} {status.st_mode:o} {status.st_uid}:{status.st_gid} {content}\n".encode(
                errors="surrogateescape"
            )


def digest(host: Host) -> str:
    """Return the digest of /etc and of the list of packages."""
    total = hashlib.sha256((host.output("dpkg-query", "-W", "-f", "${Package} ${Version} ${Status}\n") or "").encode())
    for line in entries(Path("/etc")):
        total.update(line)
    return total.hexdigest()


# --- the host ------------------------------------------------------------------------------------


def system(host: Host) -> dict[str, t.Any]:
    """Say what the host is."""
    release = platform.freedesktop_os_release()
    installed = host.output("dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Package} ${Version}\n", *PACKAGES)
    if installed is None:  # some are not there, which is an error for dpkg-query
        listed = host.output("dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Package} ${Version}\n") or ""
        installed = "\n".join(line for line in listed.splitlines() if line.split()[1] in PACKAGES)
    pairs = [line.split()[1:3] for line in installed.splitlines() if line.startswith("ii")]
    return {
        "name": release.get("PRETTY_NAME", ""),
        "id": release["ID"],
        "version": release.get("VERSION_ID", ""),
        "point": (text_of("/etc/debian_version") or "").strip(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "virtualization": (host.output("systemd-detect-virt") or "none").strip(),
        "container": host.output("systemd-detect-virt", "--container", "--quiet") is not None,
        "uptime_days": round(float((text_of("/proc/uptime") or "0").split()[0]) / 86400, 1),
        "packages": dict(pairs),
        "machine_id": hashlib.sha256((text_of("/etc/machine-id") or "").encode()).hexdigest()[:12],
    }


def addresses(host: Host) -> list[str]:
    """Return the addresses that others may reach, without those of Docker's own networks."""
    found = []
    for link in host.document("ip", "-json", "address", "show", "up") or []:
        if re.match(r"lo$|docker|br-|veth", link["ifname"]):
            continue
        found += [one["local"] for one in link["addr_info"] if one["scope"] == "global" and not one.get("deprecated")]
    return found


def updates(host: Host) -> dict[str, t.Any]:
    """Return the security updates that wait, by the package lists that the host has."""
    planned = host.output("apt-get", "--simulate", "--quiet", "dist-upgrade") or ""
    waiting = re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) ([^)]*)\)", planned, re.MULTILINE)
    lists = [file.stat().st_mtime for file in Path("/var/lib/apt/lists").glob("*_Packages*")]
    stamp = Path("/var/lib/apt/periodic/update-success-stamp")
    newest = max([*lists, stamp.stat().st_mtime if stamp.exists() else 0])
    return {
        "security": sorted(name for name, _, origin in waiting if "ecurity" in origin),
        "others": len([name for name, _, origin in waiting if "ecurity" not in origin]),
        "lists_age_hours": round((time.time() - newest) / 3600, 1) if newest else None,
        "reboot_required": any(Path(path).exists() for path in ("/run/reboot-required", "/var/run/reboot-required")),
        "automatic": host.output("systemctl", "is-enabled", "apt-daily-upgrade.timer") is not None
        and "1" in (host.output("apt-config", "shell", "on", "APT::Periodic::Unattended-Upgrade") or ""),
    }


def clock(host: Host) -> dict[str, t.Any]:
    """Say whether the clock follows a time server."""
    return {
        "synchronized": host.properties("timedatectl", "show").get("NTPSynchronized") == "yes",
        "service": next(
            (
                name
                for name in ("chrony.service", "systemd-timesyncd.service", "ntpsec.service")
                if host.output("systemctl", "is-active", name)
            ),
            None,
        ),
    }


def units(host: Host) -> dict[str, t.Any]:
    """Return units that failed, and when the platform's backups last ran."""
    failed = host.output("systemctl", "list-units", "--failed", "--plain", "--no-legend") or ""
    listed = host.output("systemctl", "list-unit-files", "--plain", "--no-legend", "pryv-backup*.service") or ""
    backups, due = {}, host.document("cat", SCHEDULE) or {}
    for name in (line.split()[0] for line in listed.splitlines() if "@." not in line):
        shown = host.properties("systemctl", "show", "--timestamp=unix", name)
        ended = re.fullmatch(r"@(\d+)", shown.get("ExecMainExitTimestamp", ""))
        backups[name] = {
            "result": shown.get("Result"),
            "age_hours": round((time.time() - int(ended[1])) / 3600, 1) if ended else None,
            "oldest_seconds": due.get("oldest_seconds") if name == OWN_BACKUP else None,
        }
    return {"failed": sorted(line.split()[0] for line in failed.splitlines() if line), "backups": backups}


def disk(host: Host, directory: str) -> dict[str, t.Any]:
    """Say on what the data lies."""
    target = directory if Path(directory).exists() else "/"
    mounted = host.document("findmnt", "--json", "--output", "SOURCE,TARGET,FSTYPE", "--target", target) or {}
    file_system = mounted.get("filesystems", [{}])[0]
    found: dict[str, t.Any] = {
        "source": file_system.get("source"),
        "mount_point": file_system.get("target"),
        "filesystem": file_system.get("fstype"),
        "luks": None,
        "swap": [
            {
                "name": line.split()[0],
                "encrypted": "crypt" in (host.output("lsblk", "-nso", "TYPE", line.split()[0]) or ""),
            }
            for line in (host.output("swapon", "--noheadings", "--show=NAME") or "").splitlines()
        ],
    }
    status = host.output("cryptsetup", "status", found["source"] or "") or ""
    device = re.search(r"^\s*device:\s*(\S+)", status, re.MULTILINE)
    if device:
        header = host.document("cryptsetup", "luksDump", "--dump-json-metadata", device[1]) or {}
        dump = host.output("cryptsetup", "luksDump", device[1]) or ""
        fields = dict(re.findall(r"^(UUID|Epoch):\s*(\S+)", dump, re.MULTILINE))
        slots, tokens = header.get("keyslots", {}), header.get("tokens", {}).values()
        unlocking = {slot for token in tokens if token["type"] in UNLOCKING for slot in token["keyslots"]}
        found["luks"] = {
            "device": device[1],
            "uuid": fields.get("UUID", ""),
            "epoch": int(fields.get("Epoch", 0)),  # LUKS 1 has none
            "version": 2 if header else 1,
            "ciphers": sorted({segment.get("encryption", "") for segment in header.get("segments", {}).values()}),
            "key_bits": [8 * slot.get("key_size", 0) for slot in slots.values()],
            "passphrase_kdfs": [
                slot.get("kdf", {}).get("type") for number, slot in slots.items() if number not in unlocking
            ],
        }
    return found


def container(found: Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return what decides how far a container is confined."""
    settings = found["HostConfig"]
    ports = found["NetworkSettings"].get("Ports") or {}
    return {
        "name": found["Name"].lstrip("/"),
        "image": found["Config"]["Image"],
        "user": found["Config"].get("User") or "root",
        "privileged": settings["Privileged"],
        "capabilities_added": settings.get("CapAdd") or [],
        "capabilities_dropped": settings.get("CapDrop") or [],
        "security": settings.get("SecurityOpt") or [],
        "read_only": settings["ReadonlyRootfs"],
        "memory": settings.get("Memory") or 0,
        "pids": settings.get("PidsLimit") or 0,
        "namespaces": {name: settings.get(f"{name}Mode") or "" for name in ("Network", "Pid", "Ipc", "UTS", "Userns")},
        "devices": [device.get("PathOnHost") for device in settings.get("Devices") or []],
        "restart": settings["RestartPolicy"]["Name"],
        "log_driver": settings["LogConfig"]["Type"],
        "log_options": settings["LogConfig"].get("Config") or {},
        "mounts": [{"source": one.get("Source", ""), "writable": one["RW"]} for one in found["Mounts"]],
        "published": sorted(
            {f"{binding['HostIp']}|{binding['HostPort']}" for bindings in ports.values() for binding in bindings or []}
        ),
        "health": "Healthcheck" in found["Config"] or "Health" in found["State"],
        "apparmor": found.get("AppArmorProfile", ""),
    }


def docker(host: Host) -> dict[str, t.Any] | None:
    """Return what decides how far Docker and its containers are confined; None without Docker."""
    info = host.document("docker", "info", "--format", "{{json .}}")
    if not info:
        return None
    names = (host.output("docker", "ps", "--quiet", "--no-trunc") or "").split()
    socket = Path("/run/docker.sock")
    service = host.properties("systemctl", "show", "docker.service", "--property=ExecStart")
    group = re.search(r"^docker:[^:]*:\d+:(\S*)$", text_of("/etc/group") or "", re.MULTILINE)
    return {
        "version": info.get("ServerVersion"),
        "storage": info.get("Driver"),
        "live_restore": info.get("LiveRestoreEnabled", False),
        "log_driver": info.get("LoggingDriver"),
        "security": info.get("SecurityOptions") or [],
        "experimental": info.get("ExperimentalBuild", False),
        "registries": (info.get("RegistryConfig") or {}).get("InsecureRegistryCIDRs") or [],
        "swarm": (info.get("Swarm") or {}).get("LocalNodeState"),
        "settings": json.loads(text_of("/etc/docker/daemon.json") or "{}"),
        "command": service.get("ExecStart", ""),
        "socket_mode": f"{socket.stat().st_mode & 0o7777:04o}" if socket.exists() else None,
        "socket_owner": socket.owner() if socket.exists() else None,
        "group": [name for name in (group[1].split(",") if group else []) if name],
        "containers": [container(one) for one in host.document("docker", "inspect", *names) or []] if names else [],
    }


def certificate(host: Host, path: str) -> dict[str, t.Any] | None:
    """Return until when the certificate is valid; None without one."""
    ends = host.properties("openssl", "x509", "-enddate", "-noout", "-dateopt", "iso_8601", "-in", path).get("notAfter")
    if ends is None:
        return None
    until = time.strptime(ends, "%Y-%m-%d %H:%M:%SZ")
    key = Path(path).with_name("privkey.pem")
    seconds = calendar.timegm(until) - time.time()
    return {
        "days_left": int(seconds // 86400),
        "not_after": ends,
        "key_mode": f"{key.stat().st_mode & 0o7777:04o}" if key.exists() else None,
        "key_owner": key.owner() if key.exists() else None,
    }


def people() -> list[dict[str, t.Any]]:
    """Return the accounts that somebody could log in to, how many keys open each, and whom role hardening lets be root.

    Where that role names administrators, their keys are in its file, and those in homes open nothing.
    """
    lines = [line.split(":") for line in (text_of("/etc/passwd") or "").splitlines()]
    groups = {
        name: set(members.split(","))
        for name, _, _, members in (line.split(":") for line in (text_of("/etc/group") or "").splitlines())
    }
    passwords = {line.split(":")[0]: line.split(":")[1] for line in (text_of("/etc/shadow") or "").splitlines()}
    administrators = [line.split()[0] for line in entries_of("/etc/ssh/administrators")]
    superusers = re.findall(
        r"^(\S+) ALL=\(ALL:ALL\) NOPASSWD: ALL$", text_of("/etc/sudoers.d/zz-pryv") or "", re.MULTILINE
    )
    found = []
    for name, _, _, _, _, home, shell in lines:
        if shell.endswith(("nologin", "false", "sync")):
            continue
        in_home = entries_of(f"{home}/.ssh/authorized_keys")
        found.append(
            {
                "name": name,
                "groups": sorted(group for group, members in groups.items() if name in members),
                "keys": administrators.count(name) if administrators else len(in_home),
                "root": name in superusers,
                "password": passwords.get(name, "")[:1] not in {"!", "*"},
            }
        )
    return found


#: Chains in which Docker puts its own rules, as ``family table chain``; the family alone where a table is all its own.
DOCKERS_CHAINS = re.compile(r"ip6? (nat \w+|filter FORWARD|raw PREROUTING|docker-bridges \S+)")


def other_chains(nft: t.Mapping[str, t.Any]) -> list[str]:
    """Return where rules that are neither ours nor Docker's decide what passes, as ``family table chain``.

    Args:
        nft: What ``nft --json list ruleset`` says.
    """
    objects = nft["nftables"]
    with_rules = {
        (rule["family"], rule["table"], rule["chain"]) for rule in (entry.get("rule") for entry in objects) if rule
    }
    names = [
        f"{chain['family']} {chain['table']} {chain['name']}"
        for chain in (entry.get("chain") for entry in objects)
        if chain and "hook" in chain
        if chain.get("policy") == "drop" or (chain["family"], chain["table"], chain["name"]) in with_rules
    ]
    return [name for name in names if not name.startswith("inet pryv ") and not DOCKERS_CHAINS.fullmatch(name)]


def firewall(host: Host, check: str) -> dict[str, t.Any] | None:
    """Return what the firewall is; None without our own table.

    Args:
        host: The host.
        check: A command that succeeds while every rule of the table is as it should be.
    """
    rules = host.output("nft", "list", "table", "inet", "pryv")
    if rules is None:
        return None
    policies = re.findall(r"chain (\w+) \{\s*(?:#.*\s*)*type filter hook \w+ priority [^;]*; policy (\w+);", rules)
    return {
        "policies": dict(policies),
        "as_it_should_be": host.output(*shlex.split(check)) is not None,
        "others": other_chains(host.document("nft", "--json", "list", "ruleset") or {"nftables": []}),
    }


#: What ``nginx -T`` shows of the file with the keys of the registry's administrators, up to the next file.
KEYS_FILE = re.compile(r"(?<=/registry_keys\.conf:\n).*?(?=^# configuration file /|\Z)", re.MULTILINE | re.DOTALL)
#: Its lines that hold no key.
WITHOUT_KEY = re.compile(r"\s*(#.*|map \$\w+ \$\w+ \{|default 0;|\})?")


def proxy(host: Host) -> str | None:
    """Return the proxy's configuration, keys masked; None when it is not in order or there is no proxy."""
    text = host.output("nginx", "-T", "-q")

    def masked(found: re.Match[str]) -> str:
        lines = found[0].split("\n")
        return "\n".join(line if WITHOUT_KEY.fullmatch(line) else "    masked 1;" for line in lines)

    return KEYS_FILE.sub(masked, text) if text else text


def main() -> None:
    """Collect."""
    module = AnsibleModule(
        argument_spec={
            "data_directory": {"type": "path", "required": True},
            "certificate": {"type": "path", "required": True},
            "digest_only": {"type": "bool", "default": False},
            "firewall_check": {"type": "str", "default": "false"},
        },
        supports_check_mode=True,
    )
    host = Host(module.run_command)
    if module.params["digest_only"]:
        module.exit_json(changed=False, digest=digest(host))
    before = digest(host)
    module.exit_json(
        changed=False,
        digest=before,
        evidence={
            "system": system(host),
            "addresses": addresses(host),
            "updates": updates(host),
            "clock": clock(host),
            "units": units(host),
            "disk": disk(host, module.params["data_directory"]),
            "docker": docker(host),
            "certificate": certificate(host, module.params["certificate"]),
            "people": people(),
            "firewall": firewall(host, module.params["firewall_check"]),
            "nginx": proxy(host),
        },
    )


if __name__ == "__main__":
    main()
