"""What puts old files back unless the changes are confirmed in time."""

from __future__ import annotations

import os
import shlex
import tarfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.config_tree_changes import Change
from ansible.module_utils.config_tree_commands import ENVIRONMENT, Rule, run
from ansible.module_utils.config_tree_files import TreeError, remove, write

#: Where units are that outlive a reboot.
UNITS = "/etc/systemd/system"
#: Ends what was kept, in the script that brings it back.
KEPT = "--- what was kept ends here ---"
#: Undoes unconfirmed changes. It must be able to put back any file, set-user-ID ones too, and to run actions: talk to
#: systemd, load firewall rules, check a configuration.
UNDO_SERVICE = """\
[Unit]
Description=Put old files back, whose successors no connection has confirmed
CollectMode=inactive-or-failed

[Service]
Type=oneshot
ExecStart=/bin/sh "{script}"
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_NET_ADMIN
NoNewPrivileges=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
"""
#: When it does so; where the host is booted meanwhile, so long after its boot.
UNDO_TIMER = """\
[Unit]
Description=Wait for a connection that confirms new files
CollectMode=inactive-or-failed

[Timer]
OnActiveSec={seconds}s
AccuracySec=1s
RemainAfterElapse=no

[Install]
WantedBy=timers.target
"""


class Provision:
    """What puts the old files back unless the changes are confirmed in time."""

    def __init__(self, module: AnsibleModule, folder: str, name: str) -> None:
        """Name the files and the timer.

        Args:
            module: The module, to run commands.
            folder: The state directory.
            name: The tree's name.
        """
        self.module = module
        self.unit = f"config_tree-{name}-undo"
        self.service, self.timer = f"{UNITS}/{self.unit}.service", f"{UNITS}/{self.unit}.timer"
        self.archive, self.script = f"{folder}/{name}.undo.tar", f"{folder}/{name}.undo"
        #: In the order in which they may go: what begins the undoing first.
        self.files = (
            f"{UNITS}/timers.target.wants/{self.unit}.timer",
            *(self.timer, self.service, self.archive, self.script),
        )

    @property
    def pending(self) -> bool:
        """Whether changes wait for their confirmation."""
        return Path(self.script).exists()

    @property
    def armed(self) -> bool:
        """Whether the changes will undo themselves, or are just doing it."""
        return run(self.module, f"systemctl --quiet is-active {self.unit}.timer {self.unit}.service")[0] == 0

    def arm(self, changes: list[Change], rules: list[Rule], commands: list[str], marker: str, seconds: int) -> None:
        """Keep the old files and start the timer, before anything is replaced.

        Args:
            changes: What is about to be made.
            rules: All actions, for what undoes them.
            commands: The actions that are due.
            marker: File of the marker, to be removed with the changes.
            seconds: Time until the changes undo themselves.
        """
        Path(self.archive).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tarfile.open(self.archive, "w") as archive:
            Path(self.archive).chmod(0o600)
            for change in changes:
                if change.before is not None:
                    archive.add(change.path.rstrip("/"), recursive=False)
        made = [change.path for change in changes if change.before is None]
        by_command = {rule.command: rule for rule in rules}
        lines = [
            "#!/bin/sh",
            f"tar --extract --preserve-permissions --numeric-owner --file {shlex.quote(self.archive)} --directory /",
            *(f"rm -f {shlex.quote(path)}" for path in made if not path.endswith("/")),
            *(self._undo(by_command[command]) for command in commands),
            f"rm -f {' '.join(map(shlex.quote, (marker, *self.files)))}",
        ]
        for path, text, mode in (
            (self.script, "\n".join([*lines, ""]), 0o700),
            (self.service, UNDO_SERVICE.format(script=self.script), 0o644),
            (self.timer, UNDO_TIMER.format(seconds=seconds), 0o644),
        ):
            write(path, text.encode(), os.geteuid(), os.getegid(), mode)
        code, output = run(self.module, f"systemctl enable --now --quiet {self.unit}.timer")
        if code != 0:
            self.forget()
            raise TreeError(f"nothing can undo the change if it goes wrong, so nothing was replaced: {output.strip()}")

    def _undo(self, rule: Rule) -> str:
        """Lines of a shell script that undo an action, after the old files are back."""
        if not rule.keep:
            return f"{rule.command} || {rule.undo or 'true'}"
        # Where there was nothing to keep, the command fails and prints nothing.
        _, kept, _ = self.module.run_command(shlex.split(rule.keep), environ_update=ENVIRONMENT)
        return "\n".join([f"{rule.undo or 'true'} <<'{KEPT}'", *kept.splitlines(), KEPT])

    def confirm(self) -> None:
        """Keep the changes.

        Raises:
            TreeError: They have been undone already.
        """
        code, output = run(self.module, f"systemctl disable --now --quiet {self.unit}.timer")
        if not self.pending:
            raise TreeError("the changes were not confirmed in time, and the old files are back")
        if self.armed:
            raise TreeError(f"the timer that undoes the changes cannot be stopped: {output.strip() or code}")
        self.forget()

    def forget(self) -> None:
        """Drop what would undo the changes."""
        remove(self.files)
