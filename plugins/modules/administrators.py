#!/usr/bin/python
"""Give accounts to a host's administrators, and end the access of those who are none any more."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: administrators
short_description: Give accounts to a host's administrators, and end the access of those who are none any more
description:
  - Every administrator has an account, is a member of O(group), and has a locked password, so that a key is the only
    way in.
  - A member of O(group) who is not named loses all groups, is locked, and all its processes end. The home stays, as
    evidence.
  - An administrator who may not become root loses all groups that are as good as root, and then all processes, which
    would keep them. What sudo allows is not its business.
  - Keys are not its business. C(root) is given nothing but the group, and loses nothing else.
  - Nobody is to lose a way to become root before there is another one. Hence two steps, between which sudo's rules are
    made, see O(revoke).
options:
  names:
    description: Names of all administrators.
    type: list
    elements: str
    required: true
  without_root:
    description: Names of those among them who may not become root.
    type: list
    elements: str
    default: []
  group:
    description: The group whose members may log in; made when it is missing.
    type: str
    required: true
  revoke:
    description:
      - Whether this is the second step, which takes away what nobody is to have, passwords among it. It refuses to
        begin while an administrator whose password would be locked cannot become root without it.
      - The first one only gives.
    type: bool
    required: true
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: Give administrators their accounts
  administrators:
    names: [alice, bob]
    without_root: [bob]
    group: pryv-admins
    revoke: false
"""

RETURN = r"""
added:
  description: Administrators who have got an account or are members of the group now.
  returned: always
  type: list
  elements: str
removed:
  description: Former administrators who have lost their access, or lose it in the second step.
  returned: always
  type: list
  elements: str
to_revoke:
  description: Whether the second step has something to do.
  returned: always
  type: bool
"""

ROOT = "root"
#: What the programs that change accounts leave of the files before, as readable as those were, and the group that it is
#: for by the benchmarks: nobody needs them.
COPIES = {"/etc/gshadow-": "root", "/etc/shadow-": "shadow"}
#: Groups whose members can become root, or can have any file.
AS_GOOD_AS_ROOT = {"admin", "disk", "docker", "incus-admin", "libvirt", "lxd", "root", "sudo", "wheel"}
#: Accounts below belong to the system.
FIRST_PERSON = 1000


class AdministratorsError(Exception):
    """The accounts cannot be as asked; the message is for the operator."""


class Shadow(t.NamedTuple):
    """What /etc/shadow says of an account: fields as they stand there."""

    password: str
    most_days: str
    inactive_days: str
    expires: str

    @property
    def is_locked(self) -> bool:
        """Whether no password opens the account."""
        return self.password[:1] in {"!", "*"}

    @property
    def is_for_ever(self) -> bool:
        """Whether no age limit shuts out a key, as it would do once the locked password has reached it."""
        return not (self.most_days or self.inactive_days or self.expires)


def shadow(text: str) -> dict[str, Shadow]:
    """Accounts by name.

    Args:
        text: Content of /etc/shadow.
    """
    lines = (line.split(":") for line in text.splitlines())
    return {fields[0]: Shadow(fields[1], fields[4], fields[6], fields[7]) for fields in lines if len(fields) >= 8}


def root_groups(name: str) -> list[str]:
    """Groups as good as root that an account is a member of.

    Args:
        name: The account.
    """
    return sorted(
        group.gr_name for group in grp.getgrall() if group.gr_name in AS_GOOD_AS_ROOT and name in group.gr_mem
    )


def connected_user() -> str:
    """Who the controller has logged in as, before becoming root."""
    if user := os.environ.get("SUDO_USER"):
        return user
    # Whoever became root otherwise is still known to the kernel as who logged in.
    with contextlib.suppress(OSError, KeyError, OverflowError):
        return pwd.getpwuid(int(Path("/proc/self/loginuid").read_text())).pw_name
    return pwd.getpwuid(os.getuid()).pw_name


class Administrators:
    """The accounts, and what has to be done about them."""

    def __init__(self, module: AnsibleModule) -> None:
        """Read what the host has.

        Args:
            module: The module, for its parameters and to run commands.
        """
        self.module = module
        self.names: list[str] = module.params["names"]
        self.without_root: list[str] = module.params["without_root"]
        self.group: str = module.params["group"]
        try:
            self.members = set(grp.getgrnam(self.group).gr_mem)
            self.group_exists = True
        except KeyError:
            self.members, self.group_exists = set(), False
        self.accounts = shadow(Path("/etc/shadow").read_text())
        self.granting: list[list[str]] = []
        self.revoking: list[list[str]] = []
        self.losing_password: list[str] = []
        self.leaving: dict[str, list[str]] = {}
        self.confined: list[str] = []
        self.added: list[str] = []
        self.removed = sorted(self.members - set(self.names))

    @property
    def commands(self) -> list[list[str]]:
        """The commands of this step."""
        return [*self.revoking, *self.leaving.values()] if self.module.params["revoke"] else self.granting

    def check(self) -> None:
        """Refuse what would lock out who is doing this, or let in a service.

        Raises:
            AdministratorsError: Nothing has been done.
        """
        if (user := connected_user()) not in self.names:
            raise AdministratorsError(
                f"{user}, who is logged in, is not one of the administrators ({', '.join(self.names)}) and could not "
                "log in again. Nothing was changed."
            )
        if user in self.without_root and user != ROOT:
            raise AdministratorsError(f"{user}, who is logged in, could not become root again. Nothing was changed.")
        for name in self.names:
            with contextlib.suppress(KeyError):
                if name != ROOT and pwd.getpwnam(name).pw_uid < FIRST_PERSON:
                    raise AdministratorsError(
                        f"{name} is an account of the system here, and no administrator's. Nothing was changed."
                    )

    def plan(self) -> None:
        """List the commands that make the host what was asked for."""
        if not self.group_exists:
            self.granting.append(["groupadd", "--system", self.group])
        for name in self.names:
            self._plan_account(name)
            if name in self.without_root and name != ROOT and (groups := root_groups(name)):
                self.revoking += [["gpasswd", "--delete", name, group] for group in groups]
                self.confined.append(name)
        for name in self.removed:
            if name == ROOT:
                self.leaving[name] = ["gpasswd", "--delete", name, self.group]
            else:
                self.revoking.append(["usermod", "--lock", "--expiredate", "1", name])
                self.leaving[name] = ["usermod", "--groups", "", name]

    def _plan_account(self, name: str) -> None:
        account = self.accounts.get(name)
        if account is None:
            self.granting.append(["useradd", "--create-home", "--shell", "/bin/bash", name])
        if name not in self.members:
            self.added.append(name)
            self.granting.append(["usermod", "--append", "--groups", self.group, name])
        if name == ROOT:
            return
        if not (account and account.is_for_ever):
            self.granting.append(["usermod", "--expiredate", "", name])
            self.granting.append(["chage", "--maxdays", "-1", "--inactive", "-1", name])
        # A new account has no password.
        if account and not account.is_locked:
            self.losing_password.append(name)
            self.revoking.append(["usermod", "--lock", name])

    def check_sudo(self) -> None:
        """Refuse to take a password from who needs it to become root.

        Raises:
            AdministratorsError: Nothing has been done.
        """
        for name in self.losing_password:
            if name in self.without_root:
                continue
            code, _, errors = self.module.run_command(["runuser", "-u", name, "--", "sudo", "-k", "-n", "true"])
            if code != 0:
                raise AdministratorsError(
                    f"{name} cannot become root without a password, although /etc/sudoers.d/zz-pryv says so: "
                    f"{errors.strip()}. See what sudo -l -U {name} says: /etc/sudoers has to read that folder, and no "
                    "later line may ask for a password. No password was locked."
                )

    def apply(self) -> None:
        """Do it.

        Raises:
            AdministratorsError: A command failed; the next run goes on from there.
        """
        try:
            self._apply()
        finally:
            for copy, group in COPIES.items():
                with contextlib.suppress(FileNotFoundError):
                    Path(copy).chmod(0)
                    shutil.chown(copy, ROOT, group)

    def _apply(self) -> None:
        if not self.module.params["revoke"]:
            for command in self.granting:
                self._run(command)
            return
        for command in self.revoking:
            self._run(command)
        # What runs already would keep its groups.
        for name in self.confined:
            self._end(name)
        # Out of the group last of all: until then, the run after one that was killed finds who is to go.
        for name, command in self.leaving.items():
            if name != ROOT:
                self._end(name)
            self._run(command)

    def _run(self, command: list[str]) -> None:
        code, _, errors = self.module.run_command(command)
        if code != 0:
            raise AdministratorsError(f"{' '.join(command)}: {errors.strip()}")

    def _end(self, name: str) -> None:
        """End what an account still runs, and keep it from running anything at the next boot."""
        with contextlib.suppress(FileNotFoundError):
            Path("/var/lib/systemd/linger", name).unlink()
        # Sessions end with all that runs in them, as root too. Their end is no error, and neither is having none.
        # The account's service manager, killed with the rest, would stay behind as a failed unit.
        manager = f"user@{pwd.getpwnam(name).pw_uid}.service"
        self.module.run_command(["loginctl", "terminate-user", name])
        self.module.run_command(["pkill", "--signal", "KILL", "--uid", name])
        self.module.run_command(["systemctl", "stop", manager])
        self.module.run_command(["systemctl", "reset-failed", manager])


def main() -> None:
    """Run as a module."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "without_root": {"type": "list", "elements": "str", "default": []},
            "group": {"type": "str", "required": True},
            "revoke": {"type": "bool", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        administrators = Administrators(module)
        administrators.check()
        administrators.plan()
        if not module.check_mode:
            if module.params["revoke"]:
                administrators.check_sudo()
            administrators.apply()
    except (AdministratorsError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(administrators.commands),
        added=administrators.added,
        removed=administrators.removed,
        to_revoke=bool(administrators.revoking or administrators.leaving),
        diff={"prepared": "".join(f"{' '.join(command)}\n" for command in administrators.commands)},
    )


if __name__ == "__main__":
    main()
