"""What Docker's bench asks of the daemon and of every container."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pryv_platform.audit.check import UNKNOWN, Check, judge, unless

#: What Docker publishes may be reached over these addresses only.
LOOPBACK = ("127.", "::1")
#: Capabilities that rule the host.
DANGEROUS = frozenset(
    {"SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYS_MODULE", "DAC_READ_SEARCH", "SYS_RAWIO", "ALL"},
)
#: Folders of the system.
SYSTEM = ("/", "/boot", "/dev", "/etc", "/lib", "/proc", "/sys", "/usr", "/root", "/var/run", "/run")
#: Log drivers that do not fill the disk by themselves.
LIMITED_LOGS = frozenset({"local", "journald", "none"})
#: Registries that Docker takes without TLS by itself.
OWN_REGISTRIES = frozenset({"127.0.0.0/8", "::1/128"})
#: Storage drivers that nobody maintains.
OLD_STORAGE = frozenset({"aufs", "devicemapper", "vfs"})

#: Title, remedy and severity by rule.
DAEMON_RULES = {
    "tcp_socket": ("Docker listens on no network socket", "leave out hosts: tcp", "critical"),
    "socket": ("Docker's socket is root's", "owner root, mode 0660", "high"),
    "group": ("Nobody is in group docker", "its members are root in all but name; use sudo", "high"),
    "live_restore": ("Containers outlive a restart of the daemon", "live-restore: true", "low"),
    "icc": ("Containers on the default bridge cannot reach each other", "icc: false", "medium"),
    "userland_proxy": ("The userland proxy is off", "userland-proxy: false", "low"),
    "daemon_new_privileges": ("No new privileges by default", "no-new-privileges: true", "medium"),
    "daemon_log_limit": ("Logs are limited by default", "log-driver: local", "medium"),
    "registries": ("No registry without TLS", "leave out insecure-registries", "high"),
    "experimental": ("No experimental features", "experimental: false", "low"),
    "swarm": ("Not part of a swarm", "docker swarm leave", "medium"),
    "storage": ("A storage driver that is maintained", "overlay2", "medium"),
    "sandbox": (
        "AppArmor and seccomp confine containers",
        "enable it in the kernel and install apparmor",
        "medium",
    ),
    "userns": ("Root in a container is not root of the host", "userns-remap", "medium"),
}
CONTAINER_RULES = {
    "privileged": ("No container is privileged", "leave out privileged", "critical"),
    "docker_socket": ("No container has Docker's socket", "do not mount it", "critical"),
    "new_privileges": ("Processes cannot gain privileges", "security_opt: [no-new-privileges:true]", "high"),
    "capabilities_dropped": (
        "All capabilities are dropped but those needed",
        "cap_drop: [ALL], cap_add what it needs",
        "medium",
    ),
    "capabilities_added": ("No container has a capability that rules the host", "leave it out of cap_add", "critical"),
    "host_namespaces": (
        "No container shares a namespace with the host",
        "leave out network_mode, pid, ipc: host",
        "high",
    ),
    "memory": ("Memory is limited", "mem_limit", "medium"),
    "pids": ("The number of processes is limited", "pids_limit", "medium"),
    "published": ("Ports are published on loopback only", "publish on 127.0.0.1", "critical"),
    "system_mounts": (
        "No container has a folder of the system",
        "mount only what it needs, below the data directory",
        "high",
    ),
    "devices": ("No container has a device of the host", "leave out devices", "high"),
    "confinement": ("seccomp and AppArmor are not switched off", "leave out unconfined", "high"),
    "log_limit": ("Logs are limited", "log-driver local, or max-size", "medium"),
    "read_only": ("The root file system is read-only", "read_only: true", "low"),
    "user": ("No container starts as root", "user", "low"),
}


def docker_checks(docker: Mapping[str, Any] | None) -> Iterator[Check]:
    """Yield what Docker's bench asks of the daemon and of every container.

    Args:
        docker: What module host_evidence says; None without Docker.
    """
    if docker is None:
        yield Check("docker_bench", "daemon", "Docker answers", UNKNOWN, "Docker is not there, or does not answer")
        return
    of_daemon = daemon_problems(docker)
    for rule, (title, remedy, severity) in DAEMON_RULES.items():
        yield judge("docker_bench", rule, title, of_daemon[rule], remedy, severity)
    of_containers = {one["name"]: container_problems(one, docker["settings"]) for one in docker["containers"]}
    for rule, (title, remedy, severity) in CONTAINER_RULES.items():
        names: dict[str, list[str]] = {}
        for name, said in sorted(of_containers.items()):
            if said[rule]:
                names.setdefault(said[rule], []).append(name)
        found = "; ".join(f"{', '.join(same)}: {said}" for said, same in names.items())
        yield judge("docker_bench", rule, title, found, remedy, severity)


def daemon_problems(docker: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with the daemon, by rule of `DAEMON_RULES`; empty text where nothing is.

    Args:
        docker: What module host_evidence says.
    """
    settings, security, mode = docker["settings"], docker["security"], docker["socket_mode"]
    remote = [host for host in settings.get("hosts", []) if str(host).startswith("tcp:")]
    remote += ["tcp in the unit"] * ("tcp://" in docker["command"])
    is_roots = mode is None or (docker["socket_owner"] == "root" and mode[-1] == "0")
    missing = [name for name in ("apparmor", "seccomp") if not any(f"name={name}" in one for one in security)]
    remapped = any("userns" in option or "rootless" in option for option in security)
    return {
        "tcp_socket": ", ".join(remote),
        "socket": unless(is_roots, f"{docker['socket_owner']}, {mode}"),
        "group": ", ".join(docker["group"]),
        "live_restore": unless(docker["live_restore"], "they do not"),
        "icc": unless(settings.get("icc") is False, "they can"),
        "userland_proxy": unless(settings.get("userland-proxy") is False, "it is on"),
        "daemon_new_privileges": unless(settings.get("no-new-privileges"), "not set"),
        "daemon_log_limit": unless(
            _is_limited(docker["log_driver"], settings.get("log-opts", {})), docker["log_driver"]
        ),
        "registries": ", ".join(name for name in docker["registries"] if name not in OWN_REGISTRIES),
        "experimental": unless(not docker["experimental"], "they are on"),
        "swarm": unless(docker["swarm"] in {"inactive", None, ""}, docker["swarm"]),
        "storage": unless(docker["storage"] not in OLD_STORAGE, docker["storage"]),
        "sandbox": unless(not missing, f"{', '.join(missing)} missing"),
        "userns": unless(remapped, "user namespaces are not remapped"),
    }


def container_problems(container: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with a container, by rule of `CONTAINER_RULES`; empty text where nothing is.

    Args:
        container: What module host_evidence says about it.
        settings: daemon.json.
    """
    # However the value of an option is written.
    options = [option.replace("=", ":") for option in container["security"]]
    keeps_privileges = "no-new-privileges" in [option.removesuffix(":true") for option in options]
    added = sorted(DANGEROUS & {name.removeprefix("CAP_") for name in container["capabilities_added"]})
    sources = {mount["source"].rstrip("/") or "/": None for mount in container["mounts"]}
    sockets = [source for source in sources if source.endswith(("docker.sock", "containerd.sock"))]
    outside = sorted(
        {address for address in map(_published_on, container["published"]) if not address.startswith(LOOPBACK)}
    )
    switched_off = [
        written
        for written, option in zip(container["security"], options, strict=True)
        if option.endswith((":unconfined", ":disable"))
    ]
    return {
        "privileged": unless(not container["privileged"], "it is privileged"),
        "docker_socket": unless(not sockets, f"it has {', '.join(sockets)}"),
        "new_privileges": unless(
            keeps_privileges or settings.get("no-new-privileges"), "its processes may gain privileges"
        ),
        "capabilities_dropped": unless(
            {"ALL", "CAP_ALL"} & set(container["capabilities_dropped"]), "it keeps Docker's default capabilities"
        ),
        "capabilities_added": unless(not added, f"it has {', '.join(added)}"),
        "host_namespaces": ", ".join(sorted(name for name, mode in container["namespaces"].items() if mode == "host")),
        "memory": unless(container["memory"], "it may use all memory"),
        "pids": unless(container["pids"] > 0, "it may start any number of processes"),
        "published": unless(not outside, f"published on {', '.join(outside)}"),
        "system_mounts": ", ".join(sorted(source for source in sources if source in SYSTEM)),
        "devices": ", ".join(device or "?" for device in container["devices"]),
        "confinement": ", ".join(switched_off),
        "log_limit": unless(
            _is_limited(container["log_driver"], container["log_options"]), "its log may fill the disk"
        ),
        "read_only": unless(container["read_only"], "its root file system can be written"),
        "user": unless(container["user"].split(":")[0] not in {"", "0", "root"}, "it starts as root"),
    }


def _is_limited(driver: str, options: Mapping[str, Any]) -> bool:
    """Tell whether a log cannot fill the disk."""
    return driver in LIMITED_LOGS or "max-size" in options


def _published_on(port: str) -> str:
    """Return the address of a published port."""
    return port.partition("|")[0] or "every address"
