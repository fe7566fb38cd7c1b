"""Virtual machines as test hosts, for what a container cannot show: encrypted disks, a TPM, reboots, power cuts.

Usage, from the checkout's root: python -m tests.vm.vm up|down|env|list|cut|grow INVENTORY ...

Hosts come from an inventory, as in tests/fleet. A host's variables say what its machine has: `vm_memory` (MiB),
`vm_cpus`, `vm_tpm`, and `vm_disks`, a mapping of serial number to size, which the guest sees as
/dev/disk/by-id/virtio-SERIAL. Hosts with none of these have no machine.

A machine has its host's `ansible_host` as its address, on a bridge that has the first address of its /24 network, and
an IPv6 address beside it, as the hosts of a fleet have. What it loads comes through another network card, in a
network that QEMU makes up.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import ipaddress
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

from tests.fleet.fleet import (
    CACHE,
    SSH_PORT,
    STARTED_BY_ROLES,
    SUITES,
    USER_CACHE,
    FleetError,
    Image,
    apt_options,
    await_ssh,
    hang_up,
    install,
    ipv6_address,
    locked,
    make_key,
    network_of,
    packages_of_roles,
    print_exports,
    run,
    select,
)

IMAGE_TREE = Path(__file__).resolve().parent / "image"
#: The machines of this checkout, a folder for each inventory.
MACHINES = CACHE / "vm"

#: What a cloud provider's server image holds, what data disks and backups need, and a scanner. Beside it stands what
#: the roles install on every host, which takes long under emulation and is proven on containers.
PACKAGES = (
    *("apparmor", "ca-certificates", "dbus", "e2fsprogs", "gpg", "iproute2", "iputils-ping", "kmod", "less"),
    *("libpam-systemd", "linux-image-cloud-amd64", "netbase", "openssh-server", "procps", "python3", "python3-apt"),
    *("sudo", "systemd-resolved", "systemd-sysv", "tzdata", "udev"),
    *("cryptsetup-bin", "xfsprogs", "clevis-luks", "tpm2-tools", "tang", "openscap-scanner", "restic"),
)
#: Packages that newer systems split off, and the Docker that an older one has.
SUITE_PACKAGES = {"debian-13": ("systemd-cryptsetup",), "debian-12": ("docker.io", "docker-compose")}

#: What makes a command root's.
SUDO = () if os.geteuid() == 0 else ("sudo",)
#: Who may log in: the one who administers it, and root until it is hardened.
USERS = ("ops", "root")
#: Where SSH keeps a connection open, without whose it is and where to.
CONTROL = "~/.ansible/cp/vm-"
ROOT_SIZE = "8G"
#: Emulated, on a machine that is busy otherwise.
BOOT_SECONDS = 600

#: The processor that QEMU emulates, and what tells the kernel to do without what only a real one needs: together they
#: take a third off all that a machine does. QEMU goes through `rep movsb` byte by byte (erms, fsrm), walks five levels
#: of page tables where four do (la57), takes vectors apart (avx), and has nothing to speculate. On a machine that is
#: busy, the kernel's look at its timer fails by chance, and then it does not start at all.
EMULATED = "max,-erms,-fsrm,-la57,-avx,-avx2"
EMULATED_KERNEL = "mitigations=off init_on_alloc=0 no_timer_check init=/usr/local/sbin/vm-start"

#: How much of what a machine said is told of one that does not start.
CONSOLE_LINES = 10

#: Longer than a kernel takes to find out that it has no file system, in seconds.
PROBE_SECONDS = 20


def report(message: str) -> None:
    """Says what is going on, beside the output that a shell may evaluate."""
    print(f"vm: {message}", file=sys.stderr, flush=True)


def install_programs() -> None:
    """Brings QEMU and a software TPM to this machine."""
    programs = {"qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "swtpm": "swtpm"}
    missing = [package for program, package in programs.items() if not shutil.which(program)]
    if missing:
        install(*missing)


def ip(*arguments: str) -> None:
    """Runs `ip` as root."""
    run([*SUDO, "ip", *arguments])


def exists(interface: str) -> bool:
    """Whether this machine has a network interface of that name."""
    return Path("/sys/class/net", interface).exists()


@cache
def accelerator(kernel: Path) -> str:
    """`kvm` when a kernel really runs with it, else `tcg`.

    Not every machine with /dev/kvm gets a guest anywhere, and on some a guest gets as far as its first kilobytes.

    Args:
        kernel: The machines' own. It ends where it misses its file system.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    command = ["qemu-system-x86_64", "-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256", "-nodefaults"]
    command += ["-display", "none", "-no-reboot", "-serial", "stdio"]
    command += ["-kernel", str(kernel), "-append", "console=ttyS0 panic=-1"]
    try:
        said = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=PROBE_SECONDS
        ).stdout
    except subprocess.TimeoutExpired:
        return "tcg"
    return "kvm" if b"Unable to mount root fs" in said else "tcg"


@dataclass(frozen=True)
class Base:
    """The disk image that machines begin with, kernel and initial RAM disk beside it.

    Attributes:
        suite: The system, as tests/fleet names it.
    """

    suite: str

    @cached_property
    def recipe(self) -> list[str]:
        """The mmdebstrap command that fills a directory, which is still to be appended."""
        customize = [
            f'cp -R {shlex.quote(str(IMAGE_TREE))}/. "$1"',
            'chmod 0440 "$1/etc/sudoers.d/ops"',
            'chroot "$1" useradd --create-home --shell /bin/bash --uid 1000 ops',
            'rm -f "$1"/etc/ssh/ssh_host_*; : >"$1/etc/machine-id"',
            'echo "LABEL=root / ext4 defaults 0 1" >"$1/etc/fstab"',
            'systemctl --root "$1" --quiet enable systemd-networkd.service vm.service',
            # As the role `packages` installs them: nothing is started by its installation.
            f'systemctl --root "$1" --quiet disable {" ".join(STARTED_BY_ROLES)} tangd.socket',
            # Who logs in has no services of one's own, which an emulated machine takes seconds to be ready for.
            'systemctl --root "$1" --quiet mask user@.service',
            'ln -sf ../run/systemd/resolve/stub-resolv.conf "$1/etc/resolv.conf"',
        ]
        # Emulated, apt takes a minute to make its cache.
        customize.append('chroot "$1" apt-cache gencaches --quiet=2')
        # Its first boot shall not make anew what is as the packages' installation has made it.
        customize.append('touch "$1/etc/.updated" "$1/var/.updated"')
        packages = ",".join((*PACKAGES, *SUITE_PACKAGES[self.suite], *packages_of_roles(self.suite)))
        return [
            *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}"),
            *(f"--customize-hook={hook}" for hook in customize),
            *(f"--aptopt={line}" for line in apt_options()),
            "--dpkgopt=force-unsafe-io",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            "--skip=cleanup/apt/lists,cleanup/apt/cache,cleanup/reproducible/machine-id",
            SUITES[self.suite],
        ]

    @cached_property
    def folder(self) -> Path:
        """Where the image is kept; another recipe has another place."""
        digest = hashlib.sha256("\n".join([*self.recipe, *Image(self.suite).sources, ROOT_SIZE]).encode())
        for path in sorted(IMAGE_TREE.rglob("*")):
            if path.is_file():
                digest.update(str(path.relative_to(IMAGE_TREE)).encode() + path.read_bytes())
        return USER_CACHE / "vm" / f"{self.suite}-{digest.hexdigest()[:12]}"

    def build(self) -> Path:
        """Makes the image unless it is there, and returns its folder.

        Raises:
            FleetError: When the archive cannot be reached.
        """
        with locked(USER_CACHE / "vm.lock"):
            if not self.folder.exists():
                report(f"making the {self.suite} image (a few minutes, once)")
                self._make()
        return self.folder

    def _make(self) -> None:
        partial = self.folder.with_suffix(".partial")
        run([*SUDO, "rm", "-rf", str(partial)])
        partial.mkdir(parents=True)
        tree, disk = partial / "tree", partial / "root.img"
        made = subprocess.run(
            [*SUDO, *self.recipe, str(tree), *Image(self.suite).sources], stdout=sys.stderr, check=False
        )
        if made.returncode:
            raise FleetError(f"making the {self.suite} image failed; the lines above say why")
        run([*SUDO, "mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(tree), str(disk), ROOT_SIZE])
        for name in ("vmlinuz", "initrd.img"):
            run([*SUDO, "cp", "--dereference", str(tree / name), str(partial / name)])
        run([*SUDO, "rm", "-rf", str(tree)])
        run([*SUDO, "chown", "-R", f"{os.getuid()}:{os.getgid()}", str(partial)])
        partial.rename(self.folder)


@dataclass(frozen=True)
class Machine:
    """A host's virtual machine.

    Attributes:
        name: Its inventory name.
        address: Its address.
        folder: Its disks, its TPM's state, its console's log.
        memory: In MiB.
        cpus: How many. With more than one, an emulated kernel that changes its own code panics by chance.
        tpm: Whether it has a TPM 2.0.
        disks: Sizes, as QEMU writes them, by serial number.
    """

    name: str
    address: str
    folder: Path
    memory: int = 1024
    cpus: int = 1
    tpm: bool = False
    disks: Mapping[str, str] = field(default_factory=dict)
    port: ClassVar[int] = SSH_PORT

    @property
    def _ip(self) -> ipaddress.IPv4Address:
        return ipaddress.IPv4Address(self.address)

    @property
    def _cable(self) -> str:
        return f"vm{int(self._ip):08x}"

    @property
    def _bridge(self) -> str:
        return f"br{int(network_of(self._ip).network_address):08x}"

    def connect(self) -> None:
        """Connects the machine's network card with its network's bridge, and makes both unless they are there."""
        if not exists(self._bridge):
            gateway = network_of(self._ip).network_address + 1
            ip("link", "add", self._bridge, "type", "bridge")
            ip("address", "add", f"{gateway}/24", "dev", self._bridge)
            ip("address", "add", f"{ipv6_address(gateway)}/64", "dev", self._bridge, "nodad")
            ip("link", "set", self._bridge, "up")
        if not exists(self._cable):
            ip("tuntap", "add", "dev", self._cable, "mode", "tap", "user", str(os.getuid()))
            ip("link", "set", self._cable, "master", self._bridge, "up")

    def disconnect(self) -> None:
        """Removes the connection, and the bridge with its last one."""
        if exists(self._cable):
            ip("link", "delete", self._cable)
        if exists(self._bridge) and not list(Path("/sys/class/net", self._bridge, "brif").iterdir()):
            ip("link", "delete", self._bridge)

    def _process(self, file: str) -> int | None:
        """The process whose number is in a file of the machine's, or None when there is none."""
        try:
            pid = int((self.folder / file).read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if str(self.folder).encode() in command else None

    @property
    def pid(self) -> int | None:
        """QEMU's process, or None when the machine is off."""
        return self._process("pid")

    @property
    def kernel(self) -> Path:
        """The file with the kernel that the machine starts."""
        return self.folder / "vmlinuz"

    def disk(self, serial: str) -> Path:
        """The file that holds a disk's content."""
        return self.folder / f"disk-{serial}.img"

    def create(self, base: Path) -> None:
        """Makes the machine's disks unless they are there: its system a throw-away layer over the common image."""
        self.folder.mkdir(parents=True, exist_ok=True)
        system = self.folder / "root.qcow2"
        if not system.exists():
            run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base / "root.img"), str(system)])
            shutil.copy(base / "vmlinuz", self.kernel)
            shutil.copy(base / "initrd.img", self.folder)
        for serial, size in self.disks.items():
            if not self.disk(serial).exists():
                run(["qemu-img", "create", "-q", "-f", "raw", str(self.disk(serial)), size])

    def start(self, key: str, order: Sequence[str] = ()) -> None:
        """Switches the machine on.

        Args:
            key: The public key that may log in.
            order: Serial numbers of the disks to attach first; else the system's, named `root`, is the first of all.
        """
        if self.tpm:
            self._start_tpm()
        files = {"root": (self.folder / "root.qcow2", "qcow2")}
        files |= {serial: (self.disk(serial), "raw") for serial in self.disks}
        arguments: list[str] = []
        for serial in dict.fromkeys([*order, *files]):
            path, form = files[serial]
            # What the guest was told is on the disk survives a power cut, as it does on a real disk.
            arguments += ["-drive", f"if=none,id={serial},file={path},format={form},cache=writeback"]
            arguments += ["-device", f"virtio-blk-pci,drive={serial},serial={serial}"]
        arguments += ["-netdev", f"tap,id=own,ifname={self._cable},script=no,downscript=no"]
        arguments += ["-device", f"virtio-net-pci,netdev=own,mac=52:54:{self._ip.packed.hex(':')}"]
        arguments += ["-netdev", "user,id=outside,ipv6=off", "-device", "virtio-net-pci,netdev=outside"]
        arguments += ["-device", "virtio-rng-pci"]
        if self.tpm:
            arguments += ["-chardev", f"socket,id=tpm,path={self.folder / 'tpm.sock'}"]
            arguments += ["-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm"]
        kind, data = key.split()[:2]
        if kind != "ssh-ed25519":
            raise FleetError(f"{self.name}: the key has to be an ed25519 one, and is {kind}")
        accelerated = accelerator(self.kernel)
        append = (
            "root=LABEL=root rw console=ttyS0 quiet apparmor=1 security=apparmor "
            f"vm.name={self.name} vm.address={self.address} vm.address6={ipv6_address(self._ip)} vm.key={data}"
            + (f" {EMULATED_KERNEL}" if accelerated == "tcg" else "")
        )
        run(
            [
                "qemu-system-x86_64",
                *("-machine", "q35", "-accel", accelerated),
                *("-cpu", "host" if accelerated == "kvm" else EMULATED),
                *("-m", str(self.memory), "-smp", str(self.cpus), "-nodefaults", "-display", "none", "-daemonize"),
                *("-kernel", str(self.kernel), "-initrd", str(self.folder / "initrd.img")),
                *("-append", append, "-serial", f"file:{self.folder / 'console.log'}"),
                *("-pidfile", str(self.folder / "pid"), "-qmp", f"unix:{self.folder / 'qmp.sock'},server,nowait"),
                *arguments,
            ]
        )

    def _start_tpm(self) -> None:
        state = self.folder / "tpm"
        state.mkdir(exist_ok=True)
        control = self.folder / "tpm.sock"
        # Ends with QEMU's connection, and starts with the same state when the machine does.
        command = ["swtpm", "socket", "--tpm2", "--daemon", "--terminate", "--tpmstate", f"dir={state}"]
        command += ["--pid", f"file={self.folder / 'tpm.pid'}"]
        run([*command, "--ctrl", f"type=unixio,path={control}", "--flags", "not-need-init,startup-clear"])

    def cut(self) -> None:
        """Cuts the power: whatever the guest had not written to its disks is lost."""
        # The TPM ends with QEMU, but a moment later, and another cannot have its state before.
        for file, ending in (("pid", signal.SIGKILL), ("tpm.pid", signal.SIGTERM)):
            while (pid := self._process(file)) is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, ending)
                time.sleep(0.05)
        # Nobody says good-bye to an open connection of a machine that is off.
        for user in USERS:
            hang_up(f"{CONTROL}{user}-", self.address)

    def grow(self, serial: str, size: str) -> None:
        """Makes a disk larger, while the machine runs or not.

        Args:
            serial: The disk's serial number.
            size: The new size in bytes, or with a suffix as QEMU takes it.
        """
        if self.pid is None:
            run(["qemu-img", "resize", "-q", "-f", "raw", str(self.disk(serial)), size])
            return
        units = {"M": 2**20, "G": 2**30}
        count = int(size[:-1]) * units[size[-1]] if size[-1] in units else int(size)
        self._command("block_resize", device=serial, size=count)

    def _command(self, name: str, **arguments: Any) -> None:
        """Sends QEMU a command of its machine protocol."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.folder / "qmp.sock"))
            stream = connection.makefile("rw")
            for command in ({"execute": "qmp_capabilities"}, {"execute": name, "arguments": arguments}):
                stream.write(json.dumps(command) + "\n")
                stream.flush()
                while "return" not in (answer := json.loads(stream.readline())):
                    if "error" in answer:
                        raise FleetError(f"{self.name}: {name}: {answer['error']['desc']}")

    def await_ssh(self) -> None:
        """Waits until the machine's SSH server answers.

        Raises:
            FleetError: When it does not within `BOOT_SECONDS`, or the machine goes off.
        """
        try:
            await_ssh(self, BOOT_SECONDS, lambda: self.pid is not None)
        except FleetError as error:
            said = (self.folder / "console.log").read_text(errors="replace").splitlines()
            raise FleetError(f"{error}; its console said at last: {said[-CONSOLE_LINES:]}") from error


@dataclass(frozen=True)
class Machines:
    """The machines of one inventory.

    Attributes:
        inventory: The inventory's directory.
    """

    inventory: Path

    @property
    def folder(self) -> Path:
        """Where all that is theirs lies."""
        name = self.inventory.parent.name if self.inventory.name == "inventory" else self.inventory.name
        return MACHINES / name

    @cached_property
    def all(self) -> list[Machine]:
        """One machine per host that says what its machine has.

        Raises:
            FleetError: When there is no such inventory or it has no hosts.
        """
        if not self.inventory.is_dir():
            raise FleetError(f"{self.inventory}: no such inventory")
        program = Path(sys.executable).with_name("ansible-inventory")
        hosts = json.loads(run([str(program), "-i", str(self.inventory), "--list"]))["_meta"]["hostvars"]
        machines = []
        for name, variables in sorted(hosts.items()):
            own = {key.removeprefix("vm_"): value for key, value in variables.items() if key.startswith("vm_")}
            if own:
                machines.append(Machine(name, variables["ansible_host"], self.folder / name, **own))
        return machines

    def select(self, names: Sequence[str]) -> list[Machine]:
        """The machines that were asked for, as the fleet's `select` does."""
        return select(self.all, names, self.inventory)

    def up(self, names: Sequence[str] = (), suite: str = "debian-13", order: Sequence[str] = ()) -> None:
        """Makes machines that are missing, switches on those that are off, and waits until SSH answers.

        Args:
            names: Inventory names; all when empty.
            suite: The new machines' system.
            order: Serial numbers of disks in the order of their attachment, `root` being the system's.
        """
        start = time.monotonic()
        install_programs()
        base = Base(suite).build()
        self.folder.mkdir(parents=True, exist_ok=True)
        key = make_key(self.folder / "id_ed25519", "vm")
        self.ssh_config.write_text(self._ssh_config())
        machines = self.select(names)
        for machine in machines:
            machine.create(base)
            machine.connect()
            if machine.pid is None:
                machine.start(key, order)
        for machine in machines:
            machine.await_ssh()
        kinds = ", ".join({accelerator(machine.kernel) for machine in machines})
        report(f"{len(machines)} machines up ({kinds}) in {time.monotonic() - start:.0f} s")

    def down(self, names: Sequence[str] = ()) -> None:
        """Removes machines with all their disks."""
        for machine in self.select(names):
            machine.cut()
            shutil.rmtree(machine.folder, ignore_errors=True)
            machine.disconnect()
        (self.folder / "known_hosts").unlink(missing_ok=True)
        if not names:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def ssh_config(self) -> Path:
        """For people and tests: `ssh -F .cache/vm/disk/ssh_config co1.disk`."""
        return self.folder / "ssh_config"

    def _ssh_config(self) -> str:
        name, hosts = self.folder.name, self.folder / "known_hosts"
        lines = [f"Host {machine.name}.{name}\n  HostName {machine.address}\n" for machine in self.all]
        return "".join(lines) + (
            "Host *\n  User ops\n"
            f"  IdentityFile {self.folder / 'id_ed25519'}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {hosts}\n  StrictHostKeyChecking accept-new\n"
            f"  ControlMaster auto\n  ControlPath {CONTROL}%r-%h\n  ControlPersist 60\n"
        )

    def env(self) -> dict[str, str]:
        """What Ansible has to know to reach the machines; molecule/vm/molecule.yml says the same."""
        hosts = self.folder / "known_hosts"
        return {
            "ANSIBLE_PRIVATE_KEY_FILE": str(self.folder / "id_ed25519"),
            "ANSIBLE_SSH_COMMON_ARGS": f"-o UserKnownHostsFile={hosts} -o StrictHostKeyChecking=accept-new",
            "ANSIBLE_SSH_CONTROL_PATH": f"{CONTROL}%%r-%%h",
            # An emulated machine may be slow to greet.
            "ANSIBLE_TIMEOUT": "60",
        }


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="vm", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for command, described in (
        ("up", "make machines that are missing, switch them on, and wait for them"),
        ("down", "remove machines with their disks"),
        ("cut", "cut the power"),
        ("grow", "make a disk larger, on a running machine too"),
        ("env", "print what a shell must export for Ansible to reach the machines"),
        ("list", "show machines"),
    ):
        sub = commands.add_parser(command, help=described, description=described)
        sub.add_argument("inventory", type=Path)
        if command == "grow":
            sub.add_argument("host")
            sub.add_argument("disk", help="its serial number")
            sub.add_argument("size", help="the new size, such as 4G")
        elif command != "env":
            sub.add_argument("--limit", nargs="+", default=[], metavar="HOST", help="only these hosts")
        if command == "up":
            sub.add_argument("--suite", choices=SUITE_PACKAGES, default="debian-13", help="the machines' system")
            sub.add_argument("--order", nargs="+", default=[], metavar="DISK", help="which disks to attach first")
    return parser.parse_args(arguments)


def main() -> int:
    """Does what the command line asks."""
    options = parse()
    machines = Machines(options.inventory.resolve())
    try:
        if options.command == "up":
            machines.up(options.limit, options.suite, options.order)
        elif options.command == "down":
            machines.down(options.limit)
        elif options.command == "cut":
            for machine in machines.select(options.limit):
                machine.cut()
        elif options.command == "grow":
            machines.select([options.host])[0].grow(options.disk, options.size)
        elif options.command == "env":
            print_exports(machines.env())
        else:
            for machine in machines.select(options.limit):
                print(f"{machine.name:8} {machine.address:15} {'on' if machine.pid else 'off':4} {machine.folder}")
    except FleetError as error:
        print(f"vm: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
