"""What config_tree's module does to a host, each run in a process of its own, as Ansible runs it."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import config_tree_commands, config_tree_undo
from ansible.module_utils.testing import patch_module_args

PRIVATE = "correct-horse-battery-staple"

specification = importlib.util.spec_from_file_location(
    "config_tree_module", Path(__file__).parents[2] / "plugins/modules/config_tree.py"
)
assert specification
assert specification.loader
config_tree = importlib.util.module_from_spec(specification)
sys.modules[specification.name] = config_tree
specification.loader.exec_module(config_tree)


def become_root() -> None:
    """Give an ordinary user a namespace in which the module can do all that it does on a host."""
    user, group = os.geteuid(), os.getegid()
    if user != 0:
        os.unshare(os.CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")


@dataclass
class Host:
    """A folder that plays a host's file system."""

    root: Path
    files: dict[str, bytes | str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start with an etc to put things in."""
        (self.root / "etc").mkdir()

    def path(self, relative: str) -> Path:
        """A path on the host."""
        return self.root / relative

    def start(self, check: bool = False, sabotage: Callable[[], None] = lambda: None) -> tuple[int, str]:
        """Run the module with the host's tree and options.

        Args:
            check: Whether in check mode.
            sabotage: What to do to the module's process before it starts.

        Returns:
            The process's exit code, negative for a signal, and its output.
        """
        content = {
            str(self.root / path): base64.b64encode(data.encode() if isinstance(data, str) else data).decode()
            for path, data in self.files.items()
        }
        arguments = {
            "name": "test",
            "state_directory": str(self.root / "state"),
            "payload": base64.b64encode(zlib.compress(json.dumps(content).encode())).decode(),
            "_ansible_check_mode": check,
            "_ansible_diff": True,
            **json.loads(json.dumps(self.options).replace("ROOT", str(self.root))),
        }
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.dup2(writer, 1)
                os.dup2(writer, 2)
                sys.stdout = os.fdopen(1, "w", closefd=False)
                become_root()
                # Where the controller's code is loaded as well, warnings would go to its display.
                config_tree.AnsibleModule.warn = lambda _, text: self.path("warnings").write_text(text)
                sabotage()
                with patch_module_args(arguments):
                    config_tree.main()
            except SystemExit as end:
                sys.stdout.flush()
                os._exit(int(end.code or 0))
            except BaseException as error:
                os.write(2, repr(error).encode())
            os._exit(99)
        os.close(writer)
        with os.fdopen(reader) as stream:
            output = stream.read()
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), output

    def run(self, check: bool = False, sabotage: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Run the module to its end; whatever it says must not contain what is private."""
        code, output = self.start(check, sabotage)
        assert PRIVATE not in output
        assert code in (0, 1), output
        result: dict[str, Any] = json.loads(output)
        return result

    def changed(self, check: bool = False) -> list[str]:
        """Run the module and give the changed paths, relative to the host's root."""
        result = self.run(check)
        assert "failed" not in result, result["msg"]
        return [path.removeprefix(f"{self.root}/") for path in result["changed_paths"]]

    def snapshot(self) -> dict[str, tuple[int, bytes]]:
        """Mode and content of everything on the host."""
        return {
            str(path): (stat.S_IMODE(path.lstat().st_mode), path.read_bytes() if path.is_file() else b"")
            for path in self.root.rglob("*")
        }


@pytest.fixture
def host() -> Iterator[Host]:
    """A host that nothing was done to, in a folder that everybody may pass through; pytest's own are private."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Host(Path(folder))


def mode(path: Path) -> int:
    """Permission bits of a path."""
    return stat.S_IMODE(path.lstat().st_mode)


def test_new_files_are_made_with_their_folders(host: Host) -> None:
    host.files = {"etc/app/conf.d/a.conf": "a\n"}
    assert host.changed() == ["etc/app/", "etc/app/conf.d/", "etc/app/conf.d/a.conf"]
    assert host.path("etc/app/conf.d/a.conf").read_text() == "a\n"
    assert mode(host.path("etc/app/conf.d/a.conf")) == 0o644
    assert mode(host.path("etc/app")) == 0o755


def test_an_unchanged_tree_touches_nothing(host: Host) -> None:
    host.files = {"etc/a": "a\n"}
    host.options = {"on_change": [{"path": "ROOT/etc/**", "command": "touch ROOT/acted"}]}
    host.run()
    host.path("acted").unlink()
    before = host.path("etc/a").stat().st_ctime_ns
    result = host.run()
    assert (result["changed"], result["actions"], result["diff"]) == (False, [], [])
    assert host.path("etc/a").stat().st_ctime_ns == before
    assert not host.path("acted").exists()


def test_what_is_gone_is_made_again_though_no_file_has_changed(host: Host) -> None:
    host.files = {"etc/a": "a\n"}
    action = {"path": "ROOT/etc/**", "command": "touch ROOT/made", "unless": "test -e ROOT/made"}
    host.options = {"on_change": [action]}
    host.run()
    assert not host.run()["changed"]
    host.path("made").unlink()
    assert host.run(check=True)["changed"]
    assert not host.path("made").exists()
    assert host.run()["changed"]
    assert host.path("made").exists()


def test_only_what_differs_is_replaced(host: Host) -> None:
    host.files = {"etc/a": "a\n", "etc/b": "b\n"}
    host.run()
    untouched = host.path("etc/b").stat().st_ino
    host.files["etc/a"] = "new\n"
    assert host.changed() == ["etc/a"]
    assert host.path("etc/a").read_text() == "new\n"
    assert host.path("etc/b").stat().st_ino == untouched


def test_binary_files_arrive_byte_for_byte(host: Host) -> None:
    host.files = {"etc/blob": bytes(range(256)) * 100}
    result = host.run()
    assert host.path("etc/blob").read_bytes() == bytes(range(256)) * 100
    assert result["diff"] == [{"prepared": f"{host.root}/etc/blob: made, 0:0 0644\n"}]


def test_later_attributes_win_and_a_drifted_mode_is_mended(host: Host) -> None:
    host.files = {"etc/app/key": PRIVATE, "etc/app/conf": "c\n"}
    host.options = {
        "attributes": [
            {"path": "ROOT/etc/**", "mode": "0640"},
            {"path": "ROOT/etc/*/key", "mode": "0400"},
            {"path": "ROOT/etc/*/", "mode": "0750"},
        ]
    }
    host.run()
    assert [mode(host.path(f"etc/app{name}")) for name in ("", "/conf", "/key")] == [0o750, 0o640, 0o400]
    host.path("etc/app/key").chmod(0o444)
    host.path("etc/app").chmod(0o777)
    assert host.changed() == ["etc/app/", "etc/app/key"]
    assert [mode(host.path(f"etc/app{name}")) for name in ("", "/key")] == [0o750, 0o400]


def test_a_star_stays_within_a_folder(host: Host) -> None:
    host.files = {"etc/a/x": "", "etc/a/b/x": ""}
    host.options = {"attributes": [{"path": "ROOT/etc/*/x", "mode": "0600"}]}
    host.run()
    assert (mode(host.path("etc/a/x")), mode(host.path("etc/a/b/x"))) == (0o600, 0o644)


def test_an_existing_folder_keeps_its_attributes_unless_a_pattern_names_it(host: Host) -> None:
    host.path("etc").chmod(0o711)
    host.files = {"etc/a": "a\n"}
    assert host.changed() == ["etc/a"]
    assert mode(host.path("etc")) == 0o711


def test_a_folder_pattern_without_wildcards_makes_the_folder(host: Host) -> None:
    host.options = {"attributes": [{"path": "ROOT/var/log/app/", "mode": "0750"}], "owns": ["ROOT/var/log"]}
    assert host.changed() == ["var/", "var/log/", "var/log/app/"]
    assert mode(host.path("var/log/app")) == 0o750
    assert host.changed() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's namespace has only one user")
def test_owners_by_number_need_no_name(host: Host) -> None:
    host.files = {"etc/a": "a\n"}
    host.options = {"attributes": [{"path": "ROOT/etc/a", "owner": "9999", "group": "9998"}]}
    assert host.changed() == ["etc/a"]
    assert (host.path("etc/a").stat().st_uid, host.path("etc/a").stat().st_gid) == (9999, 9998)
    assert host.changed() == []


def test_a_name_that_does_not_exist_yet_passes_in_check_mode_only(host: Host) -> None:
    host.files = {"etc/a": "a\n"}
    host.options = {"attributes": [{"path": "ROOT/etc/a", "owner": "nobody-yet"}]}
    assert host.changed(check=True) == ["etc/a"]
    assert "user nobody-yet does not exist" in host.run()["msg"]
    assert not host.path("etc/a").exists()


def test_what_the_tree_no_longer_makes_is_pruned_from_what_it_owns(host: Host) -> None:
    host.files = {"etc/app/keep": "", "etc/app/gone": "", "etc/app/deep/er/gone": "", "etc/other/gone": ""}
    host.run()
    outside = host.path("outside")
    outside.mkdir()
    (outside / "precious").touch()
    host.path("etc/app/link").symlink_to(outside)
    host.files = {"etc/app/keep": ""}
    host.options = {"owns": ["ROOT/etc/app", "ROOT/etc/never-there"]}
    assert sorted(host.changed()) == [
        "etc/app/deep/",
        "etc/app/deep/er/",
        "etc/app/deep/er/gone",
        "etc/app/gone",
        "etc/app/link",
    ]
    assert [path.name for path in host.path("etc/app").iterdir()] == ["keep"]
    assert (outside / "precious").exists()
    assert host.path("etc/other/gone").exists()
    assert host.changed() == []


def test_a_single_file_can_be_owned(host: Host) -> None:
    host.path("etc/nginx").mkdir()
    for name in ("ours.conf", "theirs.conf"):
        host.path(f"etc/nginx/{name}").touch()
    host.options = {"owns": ["ROOT/etc/nginx/ours.conf"]}
    assert host.changed() == ["etc/nginx/ours.conf"]
    assert host.path("etc/nginx/theirs.conf").exists()


@pytest.mark.parametrize("path", ["/", "/etc", "/etc/"])
def test_owning_half_the_host_is_refused(host: Host, path: str) -> None:
    host.options = {"owns": [path]}
    assert "too much to own" in host.run()["msg"]


@pytest.mark.parametrize("path", ["etc/app", "/etc/../srv/app", "/etc//app"])
def test_a_path_that_is_not_plain_is_refused(host: Host, path: str) -> None:
    host.options = {"owns": [path]}
    assert repr(path) in host.run()["msg"]


def test_a_mode_that_is_not_octal_is_refused(host: Host) -> None:
    host.files = {"etc/a": "a"}
    host.options = {"attributes": [{"path": "ROOT/etc/a", "mode": "u=rw"}]}
    assert "'u=rw'" in host.run()["msg"]
    assert not host.path("etc/a").exists()


def test_a_link_in_place_of_a_file_is_replaced_not_followed(host: Host) -> None:
    host.path("target").write_text("theirs")
    host.path("etc/a").symlink_to(host.path("target"))
    host.files = {"etc/a": "ours"}
    assert host.changed() == ["etc/a"]
    assert not host.path("etc/a").is_symlink()
    assert host.path("target").read_text() == "theirs"


@pytest.mark.parametrize("link", ["etc/app", "etc/app/sub"])
def test_a_link_in_place_of_an_owned_folder_is_refused(host: Host, link: str) -> None:
    host.path("elsewhere").mkdir()
    host.path(link).parent.mkdir(exist_ok=True)
    host.path(link).symlink_to(host.path("elsewhere"))
    host.files = {"etc/app/sub/a": "a"}
    host.options = {"owns": ["ROOT/etc/app"]}
    assert f"{link} is a symbolic link" in host.run()["msg"]
    assert list(host.path("elsewhere").iterdir()) == []


def test_a_folder_in_place_of_a_file_is_refused(host: Host) -> None:
    host.path("etc/a").mkdir()
    host.files = {"etc/a": "a"}
    assert "etc/a is a folder" in host.run()["msg"]


def test_check_mode_tells_all_and_does_nothing(host: Host) -> None:
    host.files = {"etc/app/a": "old\n", "etc/app/gone": "x\n"}
    host.run()
    host.files = {"etc/app/a": "new\n", "etc/app/b": "b\n"}
    host.options = {
        "owns": ["ROOT/etc/app"],
        "validate": [{"path": "ROOT/etc/**", "command": "grep -q new ROOT/etc/app/a"}],
        "on_change": [{"path": "ROOT/etc/**", "command": "touch ROOT/acted"}],
    }
    before = host.snapshot()
    result = host.run(check=True)
    assert host.snapshot() == before
    assert result["changed"]
    assert [Path(path).name for path in result["changed_paths"]] == ["a", "b", "gone"]
    assert result["validated"] == [f"grep -q new {host.root}/etc/app/a"]
    assert result["actions"] == [{"command": f"touch {host.root}/acted"}]


def test_check_mode_works_where_the_validator_is_not_installed_yet(host: Host) -> None:
    host.files = {"etc/app/a": "a"}
    host.options = {"validate": [{"path": "ROOT/etc/**", "command": "no-such-validator -t"}]}
    result = host.run(check=True)
    assert result["changed"]
    assert "no-such-validator: no such command" in host.path("warnings").read_text()
    assert "no-such-validator: no such command" in host.run()["msg"]
    assert not host.path("etc/app").exists()


def test_a_diff_shows_public_content(host: Host) -> None:
    host.files = {"etc/a": "old\n"}
    host.run()
    host.files = {"etc/a": "new\n"}
    (diff,) = host.run()["diff"]
    assert (diff["before"], diff["after"]) == ("old\n", "new\n")


@pytest.mark.parametrize(
    ("was", "becomes", "folder"),
    [("0400", "0400", "0755"), ("0644", "0640", "0755"), ("0600", "0644", "0755"), ("0644", "0644", "0750")],
)
def test_a_diff_shows_nothing_of_what_not_everybody_may_read(host: Host, was: str, becomes: str, folder: str) -> None:
    folders = {"path": "ROOT/etc/app/", "mode": folder}
    host.files = {"etc/app/key": f"old {PRIVATE}\n"}
    host.options = {"attributes": [folders, {"path": "ROOT/etc/app/key", "mode": was}]}
    host.start()
    host.files = {"etc/app/key": f"new {PRIVATE}\n"}
    host.options = {"attributes": [folders, {"path": "ROOT/etc/app/key", "mode": becomes}]}
    (diff,) = host.run()["diff"]  # run() looks for the secret in everything
    assert "content changes" in diff["prepared"]


def test_a_diff_shows_nothing_of_a_private_file_that_is_removed(host: Host) -> None:
    host.path("etc/app").mkdir()
    host.path("etc/app/key").write_text(PRIVATE)
    host.path("etc/app/key").chmod(0o640)
    host.options = {"owns": ["ROOT/etc/app"]}
    assert host.run()["diff"] == [{"prepared": f"{host.root}/etc/app/key: removed\n"}]


def test_the_validator_sees_the_new_tree_over_the_real_one(host: Host) -> None:
    host.files = {"etc/app/main": "old\n", "etc/app/gone": "x\n", "etc/app/sub/kept": "kept\n"}
    host.run()
    host.path("etc/app/theirs").write_text("theirs\n")
    host.path("etc/app/link").symlink_to("theirs")
    script = """
        cd {0}/etc
        test "$(cat app/main)" = new && test "$(stat -c %a app/main)" = 600
        test ! -e app/gone
        test "$(cat app/sub/kept app/sub/new fresh/new)" = "kept new fresh"
        test "$(cat app/theirs)" = theirs && test "$(readlink app/link)" = theirs
    """
    lines = [line.strip() for line in textwrap.dedent(script.format(host.root)).strip().splitlines()]
    lines[3] = lines[3].replace("app/sub/kept app/sub/new fresh/new)", "app/sub/kept app/sub/new fresh/new | xargs)")
    host.path("check.sh").write_text("set -e\n" + "\n".join(lines) + "\n")
    host.files = {"etc/app/main": "new\n", "etc/app/sub/kept": "kept\n", "etc/app/sub/new": "new\n"}
    host.files["etc/fresh/new"] = "fresh\n"
    host.options = {
        "owns": ["ROOT/etc/app/gone"],
        "attributes": [{"path": "ROOT/etc/app/main", "mode": "0600"}],
        "validate": [{"path": "ROOT/etc/app/**", "command": "sh -e ROOT/check.sh"}],
    }
    assert host.run()["validated"] == [f"sh -e {host.root}/check.sh"]


def test_an_invalid_tree_replaces_nothing(host: Host) -> None:
    host.files = {"etc/app/a": "old\n", "etc/app/gone": "x\n"}
    host.run()
    before = host.snapshot()
    host.files = {"etc/app/a": "new\n", "etc/app/key": f"{PRIVATE}\n"}
    host.options = {
        "owns": ["ROOT/etc/app"],
        "attributes": [{"path": "ROOT/etc/app/key", "mode": "0400"}],
        "validate": [{"path": "ROOT/etc/**", "command": "sh -c 'cat ROOT/etc/app/key ROOT/etc/app/a; exit 3'"}],
        "on_change": [{"path": "ROOT/etc/**", "command": "touch ROOT/acted"}],
    }
    message = host.run()["msg"]
    assert "exit code 3" in message
    assert "********" in message
    assert "new" in message
    assert host.snapshot() == before


def test_a_validator_runs_only_for_the_paths_it_stands_for(host: Host) -> None:
    host.files = {"etc/a": "a"}
    host.options = {"validate": [{"path": "ROOT/etc/b", "command": "false"}]}
    assert host.changed() == ["etc/a"]


def test_actions_run_once_each_in_their_order(host: Host) -> None:
    host.files = {"etc/a": "", "etc/b": ""}
    host.options = {
        "on_change": [
            {"path": "ROOT/etc/b", "command": "sh -c 'echo first >>ROOT/log'"},
            {"path": "ROOT/etc/*", "command": "sh -c 'echo second >>ROOT/log'"},
            {"path": "ROOT/etc/a", "command": "sh -c 'echo first >>ROOT/log'"},
            {"path": "ROOT/etc/c", "command": "sh -c 'echo never >>ROOT/log'"},
        ]
    }
    assert [action["rc"] for action in host.run()["actions"]] == [0, 0]
    assert host.path("log").read_text() == "first\nsecond\n"
    assert list(host.path("state").iterdir()) == []


def test_a_removal_is_a_change_to_act_on(host: Host) -> None:
    host.path("etc/app").mkdir()
    host.path("etc/app/gone").touch()
    host.options = {
        "owns": ["ROOT/etc/app"],
        "on_change": [{"path": "ROOT/etc/app/*", "command": "touch ROOT/acted"}],
    }
    host.run()
    assert host.path("acted").exists()


def test_a_failed_action_fails_and_is_tried_again(host: Host) -> None:
    host.files = {"etc/a": "a\n", "etc/key": f"{PRIVATE}\n"}
    host.options = {
        "attributes": [{"path": "ROOT/etc/key", "mode": "0400"}],
        "on_change": [{"path": "ROOT/etc/a", "command": "sh -c 'cat ROOT/etc/key; test -e ROOT/ready'"}],
    }
    for _ in range(2):
        result = host.run()
        assert "failed (exit code 1): ********" in result["msg"]
    assert host.path("etc/a").exists()
    assert host.run(check=True)["changed"]
    host.path("ready").touch()
    result = host.run()
    assert (result["changed"], result["resumed"], result["changed_paths"]) == (True, True, [])
    assert host.run()["changed"] is False


def test_a_run_killed_before_its_action_acts_on_the_next_run(host: Host) -> None:
    host.files = {"etc/a": "a\n"}
    host.options = {
        "on_change": [
            {"path": "ROOT/etc/a", "command": "sh -c 'test -e ROOT/killed || { touch ROOT/killed; kill -9 $PPID; }'"},
            {"path": "ROOT/etc/a", "command": "touch ROOT/acted"},
        ]
    }
    assert host.start()[0] == -signal.SIGKILL
    assert host.path("etc/a").exists()
    assert not host.path("acted").exists()
    result = host.run()
    assert (result["changed"], result["resumed"]) == (True, True)
    assert host.path("acted").exists()
    assert host.run()["changed"] is False


def die() -> None:
    """End this process as a power loss would."""
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("replaced", [0, 1, 2])
def test_a_run_killed_between_replacements_is_finished_by_the_next(host: Host, replaced: int) -> None:
    host.files = {"etc/app/a": "old\n", "etc/app/b": "old\n", "etc/app/gone": ""}
    host.run()
    host.files = {"etc/app/a": "new\n", "etc/app/b": "new\n"}
    host.options = {
        "owns": ["ROOT/etc/app"],
        "on_change": [{"path": "ROOT/etc/app/*", "command": "sh -c 'cat ROOT/etc/app/* >ROOT/acted'"}],
    }

    def sabotage() -> None:
        rename, unlink, names = Path.rename, Path.unlink, [f"/{name}" for name in "ab"]

        def rename_or_die(path: Path, target: str) -> Path:
            if names[replaced:] and target.endswith(names[replaced]):
                die()
            return rename(path, target)

        def unlink_or_die(path: Path) -> None:
            if path.name == "gone":
                die()
            unlink(path)

        Path.rename, Path.unlink = rename_or_die, unlink_or_die  # type: ignore[method-assign,assignment]

    assert host.start(sabotage=sabotage)[0] == -signal.SIGKILL
    assert [host.path(f"etc/app/{name}").read_text() for name in "ab"] == ["new\n"] * replaced + ["old\n"] * (
        2 - replaced
    )
    result = host.run()
    assert (result["changed"], result["resumed"]) == (True, True)
    assert sorted(path.name for path in host.path("etc/app").iterdir()) == ["a", "b"]
    assert host.path("acted").read_text() == "new\nnew\n"
    assert list(host.path("state").iterdir()) == []
    assert host.run()["changed"] is False


def test_a_killed_run_leaves_no_temporary_file_when_the_tree_has_changed_since(host: Host) -> None:
    host.files = {"etc/a": f"{PRIVATE}\n"}

    def sabotage() -> None:
        sync = os.fsync

        def sync_or_die(descriptor: int) -> None:
            sync(descriptor)
            if Path(f"/proc/self/fd/{descriptor}").readlink().name == ".a.config_tree":
                die()

        os.fsync = sync_or_die  # type: ignore[assignment]

    assert host.start(sabotage=sabotage)[0] == -signal.SIGKILL
    assert [path.name for path in host.path("etc").iterdir()] == [".a.config_tree"]
    host.files = {}
    host.run()
    assert list(host.path("etc").iterdir()) == []


def test_a_disk_error_leaves_no_temporary_file(host: Host) -> None:
    host.files = {"etc/a": "a", "etc/b": "b"}

    def sabotage() -> None:
        sync = os.fsync

        def sync_or_fail(descriptor: int) -> None:
            if Path(f"/proc/self/fd/{descriptor}").readlink().name == ".b.config_tree":
                raise OSError(28, "No space left on device")
            sync(descriptor)

        os.fsync = sync_or_fail  # type: ignore[assignment]

    assert "No space left" in host.run(sabotage=sabotage)["msg"]
    assert list(host.path("etc").iterdir()) == []


def test_the_module_alone_says_what_is_missing(host: Host) -> None:
    host.options = {"payload": ""}
    assert "action plugin" in host.run()["msg"]


# -- changes that undo themselves -------------------------------------------------------------------------------------


UNIT = "config_tree-test-undo.service"


def timers_of(host: Host) -> Callable[[], None]:
    """Stand-ins for what systemd does for a change that must be confirmed; the host's file `timer` is the timer."""
    timer, really = host.path("timer"), config_tree_commands.run
    units = host.path("units")
    units.mkdir(exist_ok=True)

    def run(module: Any, command: str) -> tuple[int, str]:
        if command.startswith("systemctl enable --now"):
            assert f'ExecStart=/bin/sh "{host.path("state/test.undo")}"' in (units / UNIT).read_text()
            timer.touch()
            return 0, ""
        if command.startswith("systemctl --quiet is-active"):
            return (0 if timer.exists() else 3), ""
        if command.startswith("systemctl disable --now"):
            timer.unlink(missing_ok=True)
            return 0, ""
        code, output = really(module, command)
        return int(code), str(output)

    return lambda: vars(config_tree_undo).update(run=run, UNITS=str(units))


@pytest.fixture
def careful(host: Host) -> Host:
    """A host whose first change waits for its confirmation."""
    host.files, host.options = {"etc/a": "1"}, {"confirm_within": 60}
    assert host.run(sabotage=timers_of(host))["unconfirmed"]
    assert host.path("timer").exists()
    return host


def confirm(host: Host) -> dict[str, Any]:
    """What a new connection does."""
    host.options["confirm"] = True
    result = host.run(sabotage=timers_of(host))
    host.options["confirm"] = False
    return result


def test_confirmed_changes_stay(careful: Host) -> None:
    assert "failed" not in confirm(careful)
    assert not careful.path("timer").exists()
    assert not [*careful.path("units").iterdir(), *careful.path("state").glob("*.undo*")]
    result = careful.run(sabotage=timers_of(careful))
    assert (result["changed"], result["unconfirmed"]) == (False, False)


def test_changes_that_were_undone_cannot_be_confirmed(careful: Host) -> None:
    for left in careful.path("state").glob("*.undo*"):
        left.unlink()
    assert "the old files are back" in confirm(careful)["msg"]


def test_what_a_run_that_ended_before_its_timer_left_undoes_nothing_later(careful: Host) -> None:
    careful.path("timer").unlink()
    careful.files["etc/a"] = "2"
    result = careful.run(sabotage=timers_of(careful))
    assert result["unconfirmed"]
    assert careful.path("timer").exists(), "the next change has nothing that undoes it"
    assert "failed" not in confirm(careful)
    assert careful.path("etc/a").read_text() == "2"


def test_what_is_made_again_waits_for_its_confirmation_and_what_was_there_comes_back(host: Host) -> None:
    """Also where it was not as it should be; the file says nothing of it."""
    undo = "sh -c 'cat > ROOT/made; test -s ROOT/made || rm ROOT/made'"
    action = {"path": "ROOT/etc/**", "command": "cp ROOT/etc/a ROOT/made", "keep": "cat ROOT/made", "undo": undo}
    host.files = {"etc/a": "as it should be\n"}
    host.options = {"on_change": [{**action, "unless": "cmp ROOT/etc/a ROOT/made"}], "confirm_within": 60}
    host.run(sabotage=timers_of(host))
    assert "failed" not in confirm(host)
    for before in ("it's different\n", None):
        if before is None:
            host.path("made").unlink()
        else:
            host.path("made").write_text(before)
        result = host.run(sabotage=timers_of(host))
        assert (result["changed_paths"], result["unconfirmed"]) == ([], True)
        assert host.path("timer").exists()
        assert host.path("made").read_text() == "as it should be\n"
        subprocess.run(["sh", host.path("state/test.undo")], check=True)
        host.path("timer").unlink()
        assert (host.path("made").read_text() if host.path("made").exists() else None) == before
        assert host.path("etc/a").read_text() == "as it should be\n"
