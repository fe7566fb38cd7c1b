"""Test hosts from an inventory: one systemd container per host, with the inventory's own addresses.

Usage: fleet.py up|down|env|list [INVENTORY] [--limit HOST ...]

`up` makes what is missing and leaves the rest alone; `down` removes it; `env` prints what a shell must export so that
Ansible reaches the hosts; `list` shows them. `down` and `list` without an inventory mean every fleet of this checkout.
All fleets of a checkout are opened by one key pair, so `env` needs no inventory.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import io
import ipaddress
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import yaml
from jinja2.nativetypes import NativeEnvironment

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".cache"
#: The key pair that opens every test host of this checkout, and the hosts' own keys.
FLEET = CACHE / "fleet"
KEY = FLEET / "id_ed25519"
KNOWN_HOSTS = FLEET / "known_hosts"
#: For people and tests: `ssh -F .cache/fleet/ssh_config co1.poc`.
SSH_CONFIG = FLEET / "ssh_config"
SSH_PORT = 22
#: Where SSH keeps open connections, followed by the address; a socket's path has to be short.
CONTROL = "~/.ansible/cp/fleet-"
#: What may be shared between checkouts, because its name says what is in it.
USER_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pryv-fleet"
IMAGE_TREE = Path(__file__).resolve().parent / "image"
FIRST_PROCESS = "/usr/local/sbin/fleet-init"

SUITES = {
    "debian-12": "bookworm",
    "debian-13": "trixie",
    "ubuntu-22.04": "jammy",
    "ubuntu-24.04": "noble",
}
ARCHIVES = {"debian": "http://deb.debian.org/debian", "ubuntu": "http://archive.ubuntu.com/ubuntu"}
DEBIAN_SECURITY = "http://deb.debian.org/debian-security"

#: What a cloud provider's minimal server image holds beyond the essential packages; the roles must bring all else.
PACKAGES = (
    *("ca-certificates", "dbus", "e2fsprogs", "gpg", "gpgv", "iproute2", "iputils-ping", "kmod", "less"),
    *("libpam-systemd", "netbase", "openssh-server", "procps", "python3", "python3-apt", "sudo"),
    *("systemd", "systemd-sysv", "tzdata", "udev"),
)

#: What the roles start when it is configured, and an image that has it already leaves alone.
STARTED_BY_ROLES = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "auditd.service", "containerd.service", "docker.service"),
    *("docker.socket", "nginx.service", "usbguard.service", "usbguard-dbus.service"),
)
#: Installs packages as role `packages` does: nothing is started by its installation. A container has no audit rules.
EQUIP = f"""
export SYSTEMD_OFFLINE=1 DEBIAN_FRONTEND=noninteractive
printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; chmod 0755 /usr/sbin/policy-rc.d
apt-get -qq update
site=--path-exclude=/etc/nginx/sites-available/default
apt-get -qq --yes --no-install-recommends -o Dpkg::Options::=$site install "$@"
rm /usr/sbin/policy-rc.d
cd /usr/lib/systemd/system
for unit in {" ".join(STARTED_BY_ROLES)} audit-rules.service mtail* prometheus*; do
    [ ! -e $unit ] || systemctl --quiet disable $unit
done
: >/etc/machine-id; rm -f /etc/ssh/ssh_host_*
"""

#: What the roles' tables of packages are templates of.
NATIVE = NativeEnvironment()

#: Where a host's Docker keeps layers: overlayfs cannot lie on the overlayfs that a container's root is.
VOLUMES = ("/var/lib/docker", "/var/lib/containerd", "/srv/pryv")

#: Capabilities whose effects would reach the controller itself.
DROPPED_CAPABILITIES = ("SYS_MODULE", "SYS_TIME")
CAP_SYS_RESOURCE = 24

BOOT_SECONDS = 90
#: On its way down a host is done within a few; what is left then of its first process does not always end by itself.
SHUTDOWN_SECONDS = 15


class FleetError(Exception):
    """Something the person at the keyboard can mend; the message says how."""


def run(command: Sequence[str], *, stdin: bytes | None = None, check: bool = True) -> str:
    """Runs a command and returns its standard output.

    Args:
        command: The program and its arguments.
        stdin: What the program reads.
        check: Whether a failure of the program is an error.

    Raises:
        FleetError: With the program's own words when it fails.
    """
    # Never the input of this process: ssh may have left that one non-blocking, which Ansible refuses.
    given: Any = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    done: subprocess.CompletedProcess[bytes] = subprocess.run(command, **given, capture_output=True, check=False)
    if check and done.returncode != 0:
        raise FleetError(f"{shlex.join(command)}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode(errors="replace")


@cache
def docker_command() -> tuple[str, ...]:
    """Docker, through sudo where this user may not talk to it."""
    install()
    direct = subprocess.run(["docker", "version"], capture_output=True, check=False)
    return ("docker",) if direct.returncode == 0 else ("sudo", "docker")


def docker(*arguments: str, stdin: bytes | None = None, check: bool = True) -> str:
    """Runs a Docker command and returns its standard output."""
    return run([*docker_command(), *arguments], stdin=stdin, check=check)


def install(*packages: str) -> None:
    """Brings Docker, mmdebstrap and what else test hosts need to this machine."""
    run([str(Path(__file__).with_name("install")), *packages])


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lets one process at a time do what is inside, among all checkouts of this user.

    Args:
        path: The lock's file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def report(message: str) -> None:
    """Says what is going on, beside the output that a shell may evaluate."""
    print(f"fleet: {message}", file=sys.stderr, flush=True)


# --- The inventory ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Host:
    """A host of the inventory.

    Attributes:
        name: Its inventory name.
        addresses: The address that administrators reach first, then distinct private and public ones.
        port: Where its SSH server listens.
    """

    name: str
    addresses: tuple[ipaddress.IPv4Address, ...]
    port: int = SSH_PORT

    @property
    def address(self) -> str:
        """Where SSH answers."""
        return str(self.addresses[0])

    @property
    def networks(self) -> dict[ipaddress.IPv4Network, list[ipaddress.IPv4Address]]:
        """Its addresses by network, the one for administrators first."""
        networks: dict[ipaddress.IPv4Network, list[ipaddress.IPv4Address]] = {}
        for address in self.addresses:
            networks.setdefault(network_of(address), []).append(address)
        return networks


def network_of(address: ipaddress.IPv4Address) -> ipaddress.IPv4Network:
    """The network that an address of an inventory lies in."""
    return ipaddress.IPv4Network((address, 24), strict=False)


def ipv6_network(network: ipaddress.IPv4Network) -> ipaddress.IPv6Network:
    """The IPv6 network beside an IPv4 one: 10.77.20.0/24 has fd0a:4d14::/64.

    Args:
        network: A /24 network.
    """
    prefix = b"\xfd" + network.network_address.packed[:3]
    return ipaddress.IPv6Network((prefix + bytes(12), 64))


def ipv6_address(address: ipaddress.IPv4Address) -> ipaddress.IPv6Address:
    """The IPv6 address beside an IPv4 one, reading alike: 10.77.20.11 has fd0a:4d14::11."""
    network = ipv6_network(network_of(address))
    return network.network_address + int(str(address.packed[3]), 16)


def parse_hosts(inventory: Mapping[str, Any]) -> list[Host]:
    """The hosts in what `ansible-inventory --list` prints.

    Args:
        inventory: The parsed output.

    Raises:
        FleetError: When a host has no plain IPv4 address.
    """
    hosts = []
    variables: dict[str, dict[str, Any]] = inventory["_meta"]["hostvars"]
    names = {name for group, members in inventory.items() if group != "_meta" for name in members.get("hosts", [])}
    for name in sorted(names):
        addresses: dict[ipaddress.IPv4Address, None] = {}
        for variable in ("ansible_host", "private_address", "public_address"):
            value = variables.get(name, {}).get(variable)
            if value is None and variable != "ansible_host":
                continue
            try:
                addresses[ipaddress.IPv4Address(value)] = None
            except ValueError as error:
                raise FleetError(f"{name}: {variable} is {value!r}, and has to be an IPv4 address") from error
        hosts.append(Host(name, tuple(addresses), int(variables.get(name, {}).get("ansible_port", SSH_PORT))))
    return hosts


def read_inventory(inventory: Path) -> list[Host]:
    """Reads an inventory without its vault: addresses are no secrets, and the password may not be here.

    Args:
        inventory: The inventory's directory.

    Raises:
        FleetError: When there is no such inventory, or Ansible cannot read it.
    """

    def vaults(folder: str, names: list[str]) -> set[str]:
        files = [name for name in names if (Path(folder) / name).is_file()]
        return {name for name in files if (Path(folder) / name).read_bytes().startswith(b"$ANSIBLE_VAULT")}

    if not inventory.is_dir():
        raise FleetError(f"{inventory}: no such inventory")
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(inventory, Path(folder) / inventory.name, ignore=vaults)
        program = Path(sys.executable).with_name("ansible-inventory")
        listed = run([str(program), "-i", str(copy), "--list"])
    hosts = parse_hosts(json.loads(listed))
    if not hosts:
        raise FleetError(f"{inventory}: no hosts in it")
    return hosts


class Named(Protocol):
    """What is known by a name in an inventory."""

    @property
    def name(self) -> str:
        """Its name."""


AnyNamed = TypeVar("AnyNamed", bound=Named)


def select(hosts: Sequence[AnyNamed], limit: Sequence[str], inventory: Path) -> list[AnyNamed]:
    """The hosts that were asked for; all when none was named.

    Args:
        hosts: All hosts of the inventory.
        limit: Names of those that were asked for.
        inventory: Where they come from, for the error.

    Raises:
        FleetError: When the inventory has no such host.
    """
    unknown = set(limit) - {host.name for host in hosts}
    if unknown:
        raise FleetError(f"{inventory}: no host {', '.join(sorted(unknown))}")
    return [host for host in hosts if not limit or host.name in limit]


# --- The image -------------------------------------------------------------------------------------------------------


@cache
def controller_archives() -> dict[str, str]:
    """Where this machine gets packages, by apt's label (`Debian`, `Debian-Security`, `Ubuntu`)."""
    listed = run(["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"], check=False)
    pairs = (line.split() for line in listed.splitlines())
    return {pair[0]: pair[1].rstrip("/") for pair in pairs if len(pair) == 2}


@cache
def apt_options() -> list[str]:
    """How this machine reaches its archives, for the test hosts to do the same."""
    dump = run(["apt-config", "dump"])
    reach = re.compile(r"Acquire::(https?|Check-|Force|Retries|Languages|PDiffs)", re.IGNORECASE)
    options = [line for line in dump.splitlines() if reach.match(line)]
    for scheme in ("http", "https"):
        proxy = os.environ.get(f"{scheme}_proxy", "")
        if proxy and f"Acquire::{scheme}::Proxy " not in dump:
            options.append(f'Acquire::{scheme}::Proxy "{proxy}";')
    # A proxy on this machine's loopback is not there for a test host.
    return [line for line in options if not re.search(r"localhost|127\.0\.0\.1|\[::1\]", line)]


def packages_of_roles(suite: str, *, monitored: bool = False) -> list[str]:
    """What the roles install on every host, registry and core of a system from its distribution.

    Args:
        suite: A key of `SUITES`.
        monitored: Whether with what a host monitors with, or is monitored by.
    """
    groups = {"registry": ["reg1"], "monitoring": ["mon1"] if monitored else []}
    # Of a registry without a data disk and without backups, as far as it depends on a host.
    host = {"inventory_hostname": "reg1", "groups": groups, "group_names": ["registry"], "topology": {"backups": {}}}
    found: set[str] = set()
    for file in sorted(CHECKOUT.glob("roles/*/meta/packages.yml")):
        for need in yaml.safe_load(file.read_text()).values():
            wanted = {
                key: NATIVE.from_string(text).render(host) if isinstance(text, str) else text
                for key, text in need.items()
            }
            here = wanted.get(suite, [])
            # The alternative is what another repository has.
            if wanted["hosts"] in {"all", "core", "registry", *(["monitoring"] if monitored else [])}:
                found.update(wanted.get("all", []), here if here != wanted.get("alternative") else [])
    return sorted(found)


@dataclass(frozen=True)
class Image:
    """The system that test hosts begin with: a fresh server's, without anything that the roles should bring.

    Attributes:
        suite: A key of `SUITES`.
        equipped: Whether it has the packages of all roles nevertheless; nothing of them is configured.
    """

    suite: str
    equipped: bool = False

    @property
    def distribution(self) -> str:
        """`debian` or `ubuntu`."""
        return self.suite.split("-")[0]

    @property
    def keyring(self) -> Path:
        """Whom the archive is trusted by, here and in the image."""
        return Path(f"/usr/share/keyrings/{self.distribution}-archive-keyring.gpg")

    @cached_property
    def sources(self) -> list[str]:
        """Lines of sources.list."""
        known = controller_archives()
        archive = known.get(self.distribution.title(), ARCHIVES[self.distribution])
        name = SUITES[self.suite]
        if self.distribution == "debian":
            security = known.get("Debian-Security", DEBIAN_SECURITY)
            pockets = [(archive, name), (archive, f"{name}-updates"), (security, f"{name}-security")]
            components = "main"
        else:
            pockets = [(archive, f"{name}{pocket}") for pocket in ("", "-updates", "-security")]
            components = "main universe"
        return [f"deb [signed-by={self.keyring}] {uri} {pocket} {components}" for uri, pocket in pockets]

    @cached_property
    def recipe(self) -> list[str]:
        """The mmdebstrap command that writes the root file system to its standard output."""
        customize = [
            # Plain copies: root's, with the modes that they have here.
            f'cp -R {shlex.quote(str(IMAGE_TREE))}/. "$1"',
            'chmod 0440 "$1/etc/sudoers.d/ops"',
            # Authorities that this machine trusts beyond the usual, a company's proxy's for one.
            'find /usr/local/share/ca-certificates -name "*.crt" '
            '-exec cp {} "$1/usr/local/share/ca-certificates/" \\; 2>/dev/null || true',
            'chroot "$1" update-ca-certificates >/dev/null',
            'chroot "$1" useradd --create-home --shell /bin/bash --uid 1000 ops',
            'rm -f "$1"/etc/ssh/ssh_host_*; : >"$1/etc/machine-id"; : >"$1/etc/fleet-addresses"',
            # Timers that would hold apt's lock whenever they like.
            'systemctl --root "$1" --quiet disable apt-daily.timer apt-daily-upgrade.timer',
            'systemctl --root "$1" --quiet enable fleet.service',
        ]
        options = [
            *(f"--customize-hook={hook}" for hook in customize),
            *(f"--aptopt={line}" for line in apt_options()),
            # Test hosts need not survive a power cut, nor does anybody read manuals on them.
            "--dpkgopt=force-unsafe-io",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            # With the package lists in the image, a host's first update fetches only what is new.
            "--skip=cleanup/apt/lists,cleanup/reproducible/machine-id",
        ]
        packages = ",".join(PACKAGES)
        base = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}"]
        return [*base, *options, SUITES[self.suite], "-", *self.sources]

    @cached_property
    def tag(self) -> str:
        """The image's name; another recipe has another one."""
        digest = hashlib.sha256("\n".join(self.recipe).replace(str(IMAGE_TREE), "").encode())
        for path in sorted(IMAGE_TREE.rglob("*")):
            if path.is_file():
                digest.update(str(path.relative_to(IMAGE_TREE)).encode() + path.read_bytes())
        if self.equipped:
            digest.update("\n".join([EQUIP, *packages_of_roles(self.suite, monitored=True)]).encode())
        return f"pryv-fleet/{self.suite}:{digest.hexdigest()[:12]}"

    @property
    def archive(self) -> Path:
        """Where packages are kept that a host with this system has downloaded."""
        return USER_CACHE / "apt" / self.suite

    def build(self) -> str:
        """Makes the image unless Docker has it, and returns its tag.

        Raises:
            FleetError: When the archive cannot be reached or its keyring is missing.
        """
        bare = Image(self.suite).build() if self.equipped else ""
        with locked(USER_CACHE / "lock"):
            if not docker("image", "ls", "--quiet", self.tag).strip():
                self._equip(bare) if self.equipped else self._make()
        return self.tag

    def _equip(self, bare: str) -> None:
        report(f"making the {self.suite} image with all packages (about a minute, once)")
        self.archive.mkdir(parents=True, exist_ok=True)
        name = f"pryv-fleet-{os.getpid()}"
        options = ["--network=host", f"--volume={self.archive}:/var/cache/fleet", f"--name={name}"]
        try:
            docker("run", *options, bare, "sh", "-ec", EQUIP, "sh", *packages_of_roles(self.suite, monitored=True))
            docker("commit", "--change", f"CMD {json.dumps([FIRST_PROCESS])}", name, self.tag)
        finally:
            docker("rm", "--force", name, check=False)

    def _make(self) -> None:
        if not self.keyring.exists():
            install(f"{self.distribution}-keyring" if self.distribution == "ubuntu" else "debian-archive-keyring")
        report(f"making the {self.suite} image (about a minute, once)")
        sudo = [] if os.geteuid() == 0 else ["sudo"]
        importing = [*docker_command(), "import", "--change", f"CMD {json.dumps([FIRST_PROCESS])}"]
        importing += ["-", self.tag]
        with subprocess.Popen([*sudo, *self.recipe], stdout=subprocess.PIPE) as bootstrap:
            imported = subprocess.run(importing, stdin=bootstrap.stdout, stdout=subprocess.DEVNULL, check=False)
        if bootstrap.returncode or imported.returncode:
            docker("image", "rm", "--force", self.tag, check=False)
            raise FleetError(f"making the {self.suite} image failed; the lines above say why")


# --- The fleet -------------------------------------------------------------------------------------------------------


@dataclass
class Fleet:
    """The test hosts of one inventory.

    Attributes:
        inventory: The inventory's directory.
    """

    inventory: Path

    def __post_init__(self) -> None:
        """Makes the path absolute and true, wherever it was given from: a link to an inventory means its hosts."""
        self.inventory = self.inventory.resolve()

    @cached_property
    def hosts(self) -> list[Host]:
        """Its hosts, in the order of their names."""
        return read_inventory(self.inventory)

    @property
    def name(self) -> str:
        """The inventory's name; a folder that is merely called `inventory` is known by its parent's."""
        return self.inventory.parent.name if self.inventory.name == "inventory" else self.inventory.name

    @property
    def prefix(self) -> str:
        """What the names of its containers and networks begin with: other checkouts' begin otherwise."""
        return f"{self.name}-{hashlib.sha256(str(self.inventory).encode()).hexdigest()[:6]}"

    @property
    def labels(self) -> list[str]:
        """What Docker notes on all that belongs to it."""
        return ["--label", f"pryv.fleet={self.prefix}", "--label", f"pryv.checkout={CHECKOUT}"]

    def container(self, host: Host) -> str:
        """The name of a host's container."""
        return f"{self.prefix}-{host.name}"

    def selected(self, limit: Sequence[str]) -> list[Host]:
        """The hosts that were asked for, as `select` does."""
        return select(self.hosts, limit, self.inventory)

    # Up

    def up(self, image: Image = Image("debian-13"), limit: Sequence[str] = ()) -> None:
        """Makes the hosts that are missing and waits until they are up.

        Args:
            image: The new hosts' system.
            limit: Names of hosts; all when empty.

        Raises:
            FleetError: When something is in the way, or a host does not come up whole.
        """
        start = time.monotonic()
        hosts = self.selected(limit)
        docker_command()
        image.build()
        self._make_keys()
        self._make_networks()
        with ThreadPoolExecutor(4) as pool:
            made = [
                host for host, new in zip(hosts, pool.map(lambda h: self._start(h, image), hosts), strict=True) if new
            ]
            list(pool.map(self._await_boot, made))
            list(pool.map(await_ssh, hosts))
        report(f"{self.name}: {len(hosts)} hosts up, {len(made)} of them new, in {time.monotonic() - start:.0f} s")

    def _host_key(self, host: Host) -> Path:
        return FLEET / "hosts" / self.container(host)

    def _make_keys(self) -> None:
        with locked(FLEET / "lock"):
            make_key(KEY, "ops")
            known = KNOWN_HOSTS.read_text().splitlines(keepends=True) if KNOWN_HOSTS.exists() else []
            for host in self.hosts:
                kind, key, *_ = make_key(self._host_key(host), host.name).split()
                names = [*map(str, host.addresses), f"{host.name}.{self.name}"]
                if host.port != SSH_PORT:
                    names.insert(-1, f"[{host.address}]:{host.port}")
                known = [*strangers(known, host, self.name), f"{','.join(names)} {kind} {key}\n"]
            # At once: connections to other fleets are opened meanwhile.
            for path, text in ((KNOWN_HOSTS, "".join(known)), (SSH_CONFIG, ssh_config(known))):
                path.with_suffix(".new").write_text(text)
                path.with_suffix(".new").replace(path)

    def _make_networks(self) -> None:
        wanted = dict.fromkeys(network for host in self.hosts for network in host.networks)
        for network in wanted:
            names = docker("network", "ls", "--quiet").split()
            # One that is gone by now, with another fleet, is no failure.
            existing = json.loads(docker("network", "inspect", *names, check=False))
            taken = next((other for other in existing if network_overlaps(network, other)), None)
            if taken and (taken.get("Labels") or {}).get("pryv.fleet") == self.prefix:
                continue
            if taken and is_abandoned(taken):
                report(f"{network}: removing a stopped fleet of {taken['Labels']['pryv.checkout']}")
                remove_labelled(f"pryv.fleet={taken['Labels']['pryv.fleet']}")
            elif taken:
                raise FleetError(in_the_way(network, taken))
            gateway = network.network_address + 1
            addresses = ["--subnet", str(network), "--gateway", str(gateway)]
            addresses6 = ["--ipv6", "--subnet", str(ipv6_network(network)), "--gateway", str(ipv6_address(gateway))]
            docker("network", "create", *self.labels, *addresses, *addresses6, self._network(network))

    def _network(self, network: ipaddress.IPv4Network) -> str:
        return f"{self.prefix}-{network.network_address}"

    def _start(self, host: Host, image: Image) -> bool:
        """Makes or starts a host; false when it was running."""
        name = self.container(host)
        addresses = " ".join(map(str, host.addresses))
        form = '{{.State.Running}}|{{index .Config.Labels "pryv.addresses"}}'
        state = docker("container", "inspect", "--format", form, name, check=False).strip()
        if state == f"true|{addresses}":
            return False
        if state != f"false|{addresses}":
            docker("rm", "--force", "--volumes", name, check=False)
            self._create(host, image, addresses)
        docker("start", name)
        return True

    def _create(self, host: Host, image: Image, addresses: str) -> None:
        name = self.container(host)
        image.archive.mkdir(parents=True, exist_ok=True)
        (first, own), *others = host.networks.items()
        options = [
            "--name",
            name,
            "--hostname",
            host.name,
            "--stop-signal",
            "SIGRTMIN+3",
            *self.labels,
            "--label",
            f"pryv.addresses={addresses}",
        ]
        options += isolation()
        options += ["--tmpfs=/run:exec,mode=755"]  # as a server mounts it; /tmp is left to systemd
        options += [f"--volume={path}" for path in VOLUMES]
        options += ["--volume", f"{image.archive}:/var/cache/fleet"]
        options += ["--network", self._network(first), "--ip", str(own[0]), "--ip6", str(ipv6_address(own[0]))]
        docker("create", *options, image.tag)
        for network, theirs in others:
            address, address6 = str(theirs[0]), str(ipv6_address(theirs[0]))
            docker("network", "connect", "--ip", address, "--ip6", address6, self._network(network), name)
        docker("cp", "--archive", "-", f"{name}:/", stdin=self._files(host))

    def _files(self, host: Host) -> bytes:
        """The files that are a host's own, as a tar archive."""
        key = self._host_key(host)
        further = [(address, network) for network, own in host.networks.items() for address in own[1:]]
        files = {
            "etc/ssh/ssh_host_ed25519_key": (key.read_bytes(), 0o600, 0),
            "etc/ssh/ssh_host_ed25519_key.pub": (key.with_suffix(".pub").read_bytes(), 0o644, 0),
            "etc/fleet-addresses": ("".join(f"{a}/{n.prefixlen} {n}\n" for a, n in further).encode(), 0o644, 0),
            "home/ops/.ssh/authorized_keys": (KEY.with_suffix(".pub").read_bytes(), 0o600, 1000),
        }
        if host.port != SSH_PORT:
            files["etc/ssh/sshd_config.d/port.conf"] = (f"Port {host.port}\n".encode(), 0o644, 0)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            folder = tarfile.TarInfo("home/ops/.ssh")
            folder.type, folder.mode, folder.uid, folder.gid = tarfile.DIRTYPE, 0o700, 1000, 1000
            archive.addfile(folder)
            for path, (content, mode, owner) in files.items():
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode, entry.uid, entry.gid = len(content), mode, owner, owner
                archive.addfile(entry, io.BytesIO(content))
        return buffer.getvalue()

    def _await_boot(self, host: Host) -> None:
        name = self.container(host)
        deadline = time.monotonic() + BOOT_SECONDS
        state = ""
        while time.monotonic() < deadline:
            # Waits by itself once the system's bus is there; before that it fails at once.
            state = docker("exec", name, "systemctl", "is-system-running", "--wait", check=False).strip()
            if state == "running":
                return
            if state == "degraded":
                failed = docker("exec", name, "systemctl", "list-units", "--failed", "--plain", "--no-legend")
                raise FleetError(f"{host.name} came up with failed units:\n{failed}")
            time.sleep(0.2)
        raise FleetError(f"{host.name} is not up after {BOOT_SECONDS} s ({state}); look: docker logs {name}")

    # Down

    def restart(self, host: Host) -> None:
        """Reboots a host, which is still booting then."""
        docker("restart", "-t", str(SHUTDOWN_SECONDS), self.container(host))

    def down(self, limit: Sequence[str] = ()) -> None:
        """Removes the hosts, and the networks with the last of them.

        Args:
            limit: Names of hosts; all when empty.
        """
        if limit:
            remove([self.container(host) for host in self.selected(limit)], [])
        else:
            remove_labelled(f"pryv.fleet={self.prefix}")


def environment() -> dict[str, str]:
    """What Ansible has to know to reach the test hosts of this checkout; molecule's base config says the same."""
    return {
        "ANSIBLE_PRIVATE_KEY_FILE": str(KEY),
        "ANSIBLE_SSH_COMMON_ARGS": f"-o UserKnownHostsFile={KNOWN_HOSTS} -o StrictHostKeyChecking=yes",
        # Named by address, so that connections to hosts that go can be ended.
        "ANSIBLE_SSH_CONTROL_PATH": f"{CONTROL}%%h",
        "ANSIBLE_VAULT_PASSWORD_FILE": str(Path(__file__).with_name("vault-password")),
    }


def isolation() -> list[str]:
    """The options that let systemd and Docker run in a container and keep them from the rest of this machine."""
    dropped = list(DROPPED_CAPABILITIES)
    lines = Path("/proc/self/status").read_text().splitlines()
    bounding = next(int(line.split()[1], 16) for line in lines if line.startswith("CapBnd:"))
    if not bounding >> CAP_SYS_RESOURCE & 1:
        dropped.append("SYS_RESOURCE")  # nobody can give what he has not
    options = ["--cap-add", "ALL", *(f"--cap-drop={capability}" for capability in dropped)]
    options += [f"--security-opt={part}=unconfined" for part in ("seccomp", "apparmor", "systempaths")]
    if docker("info", "--format", "{{.CgroupVersion}}").strip() == "1":
        return [*options, "--cgroupns=host", "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw"]
    return [*options, "--cgroupns=private"]


def network_overlaps(network: ipaddress.IPv4Network, other: Mapping[str, Any]) -> bool:
    """Whether a network of Docker's has addresses of ours.

    Args:
        network: Ours.
        other: What `docker network inspect` says of the other.
    """
    subnets = (ipaddress.ip_network(part["Subnet"]) for part in other["IPAM"]["Config"] or [])
    return any(subnet.version == 4 and network.overlaps(subnet) for subnet in subnets)


def is_abandoned(other: Mapping[str, Any]) -> bool:
    """Whether a network is of a fleet that nobody uses: all its hosts stand still, as after the machine's restart.

    A fleet without any host is one that is just being made.

    Args:
        other: What `docker network inspect` says of it.
    """
    if "pryv.fleet" not in (other.get("Labels") or {}):
        return False
    containers = ["ps", "--quiet", "--filter", f"label=pryv.fleet={other['Labels']['pryv.fleet']}"]
    return bool(docker(*containers, "--all")) and not docker(*containers)


def in_the_way(network: ipaddress.IPv4Network, other: Mapping[str, Any]) -> str:
    """Whose network has our addresses, and how to be rid of it."""
    labels = other.get("Labels") or {}
    fleet = labels.get("pryv.fleet")
    if not fleet:
        name = other["Name"]
        return f"{network} is taken by Docker network {name}; if nobody needs it: docker network rm {name}"
    return (
        f"{network} is taken by fleet {fleet} of {labels.get('pryv.checkout')}; if nobody needs it:\n"
        f"  docker rm -fv $(docker ps -aq --filter label=pryv.fleet={fleet})\n"
        f"  docker network rm $(docker network ls -q --filter label=pryv.fleet={fleet})"
    )


def remove_labelled(label: str) -> None:
    """Removes all containers and networks with a label.

    Args:
        label: A Docker label, as `name=value`.
    """
    containers = docker("ps", "--all", "--quiet", "--filter", f"label={label}").split()
    networks = docker("network", "ls", "--quiet", "--filter", f"label={label}").split()
    remove(containers, networks)


def remove(containers: Sequence[str], networks: Sequence[str]) -> None:
    """Removes test hosts, their data and their networks."""
    if containers:
        form = '{{index .Config.Labels "pryv.addresses"}}'
        for address in docker("container", "inspect", "--format", form, *containers, check=False).split():
            hang_up(CONTROL, address)
        docker("rm", "--force", "--volumes", *containers)
    if networks:
        docker("network", "rm", *networks)


def strangers(known: Sequence[str], host: Host, fleet: str) -> list[str]:
    """The hosts that are neither at a host's address nor called as it is: an inventory's addresses may change.

    Args:
        known: Lines of known_hosts: the address first, the name last.
        host: The host.
        fleet: Its fleet's name.
    """
    return [
        line
        for line in known
        if host.address != line.split()[0].split(",")[0] and f"{host.name}.{fleet}" != line.split()[0].split(",")[-1]
    ]


def ssh_config(known: Sequence[str]) -> str:
    """SSH's configuration for test hosts, named `host.fleet`.

    Args:
        known: Lines of known_hosts: the address first, the name last.
    """
    hosts = (line.split()[0].split(",") for line in known)
    lines = [
        f"Host {names[-1]}\n  HostName {names[0]}\n"
        + "".join(f"  Port {name.rpartition(':')[2]}\n" for name in names if name.startswith("["))
        for names in hosts
    ]
    return "".join(lines) + (
        f"Host *\n  User ops\n  IdentityFile {KEY}\n  IdentitiesOnly yes\n  UserKnownHostsFile {KNOWN_HOSTS}\n"
        f"  ControlMaster auto\n  ControlPath {CONTROL}%h\n  ControlPersist 60\n"
    )


def make_key(path: Path, comment: str) -> str:
    """Makes a key pair unless it is there, and returns its public half."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])
    return path.with_suffix(".pub").read_text()


class Reachable(Named, Protocol):
    """What has an SSH server."""

    @property
    def address(self) -> str:
        """Where it answers."""

    @property
    def port(self) -> int:
        """At which port."""


def await_ssh(host: Reachable, seconds: float = BOOT_SECONDS, is_up: Callable[[], bool] = lambda: True) -> None:
    """Waits until a host's SSH server answers.

    Args:
        host: The host.
        seconds: How long it may take.
        is_up: Whether there is still something to wait for.

    Raises:
        FleetError: When it does not.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and is_up():
        try:
            with socket.create_connection((host.address, host.port), timeout=5) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        time.sleep(0.2)
    raise FleetError(f"{host.name}: no SSH server answers at {host.address}")


def hang_up(control: str, address: str) -> None:
    """Ends SSH's open connection to a host that goes: the next one at its address is another.

    Args:
        control: Where SSH keeps it, without the address.
        address: The host's.
    """
    path = Path(f"{control}{address}").expanduser()
    if path.exists():
        run(["ssh", "-O", "exit", "-o", f"ControlPath={path}", address], check=False)


def print_exports(variables: Mapping[str, str]) -> None:
    """Prints what a shell must evaluate for Ansible to reach the hosts."""
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")


def show(label: str) -> None:
    """Prints the hosts with a label: fleet, host, addresses, state.

    Args:
        label: A Docker label, as `name=value`.
    """
    form = '{{.Label "pryv.fleet"}}|{{.Names}}|{{.Label "pryv.addresses"}}|{{.Status}}'
    rows = docker("ps", "--all", "--filter", f"label={label}", "--format", form).split("\n")
    for fleet, container, addresses, state in sorted(tuple(row.split("|")) for row in rows if row):
        print(f"{fleet:24} {container.removeprefix(f'{fleet}-'):8} {addresses:32} {state:24} {container}")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="fleet", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for command, described in (
        ("up", "make the hosts that are missing, and wait for them"),
        ("down", "remove hosts and networks; without an inventory, all of this checkout's"),
        ("env", "print what a shell must export for Ansible to reach the hosts of any fleet"),
        ("list", "show hosts; without an inventory, all of this checkout's"),
    ):
        sub = commands.add_parser(command, help=described, description=described)
        sub.add_argument("inventory", type=Path, nargs=None if command == "up" else "?")
        if command in {"up", "down"}:
            sub.add_argument("--limit", nargs="+", default=[], metavar="HOST", help="only these hosts")
        if command == "up":
            sub.add_argument("--suite", choices=SUITES, default="debian-13", help="the hosts' system")
            sub.add_argument("--equipped", action="store_true", help="hosts that have the packages of all roles")
    return parser.parse_args(arguments)


def main() -> int:
    """Does what the command line asks."""
    options = parse()
    try:
        if options.command == "env":
            print_exports(environment())
        elif options.command == "up":
            Fleet(options.inventory).up(Image(options.suite, options.equipped), options.limit)
        elif options.command == "down" and options.inventory:
            Fleet(options.inventory).down(options.limit)
        else:
            prefix = f"fleet={Fleet(options.inventory).prefix}" if options.inventory else f"checkout={CHECKOUT}"
            (remove_labelled if options.command == "down" else show)(f"pryv.{prefix}")
    except FleetError as error:
        print(f"fleet: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
