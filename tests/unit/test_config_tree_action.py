"""What config_tree renders on the controller, and that nothing secret shows on the way to the host."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

PROJECT = Path(__file__).parents[2]
PRIVATE = "correct-horse-battery-staple"

specification = importlib.util.spec_from_file_location("config_tree_action", PROJECT / "plugins/action/config_tree.py")
assert specification
assert specification.loader
plugin = importlib.util.module_from_spec(specification)
sys.modules[specification.name] = plugin
specification.loader.exec_module(plugin)


def render(
    folder: Path, exclude: list[str] | None = None, graft: dict[str, Path] | None = None, **variables: Any
) -> dict[str, bytes]:
    """Render a tree."""
    loader = DataLoader()
    action = SimpleNamespace(_loader=loader, _templar=Templar(loader=loader))
    files: dict[str, bytes] = plugin.Renderer(action, folder, exclude or [], graft or {}, variables).render_all()
    return files


def plant(folder: Path, **files: str | bytes) -> Path:
    """Make a tree; in names, ``__`` is a slash and ``_j2`` the suffix of a template."""
    for name, content in files.items():
        path = folder / "root" / name.replace("__", "/").replace("_j2", ".j2")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder / "root"


def test_templates_are_rendered_and_all_else_is_copied(tmp_path: Path) -> None:
    tree = plant(tmp_path, etc__a_j2="# {{ ansible_managed }}\n{{ x }}\n\n", etc__b="{{ x }}\n", etc__c=b"\xff\0{{")
    assert render(tree, x="\\d") == {
        "/etc/a": f"# {plugin.MANAGED}\n\\d\n\n".encode(),
        "/etc/b": b"{{ x }}\n",
        "/etc/c": b"\xff\0{{",
    }


def test_block_tags_leave_no_lines(tmp_path: Path) -> None:
    tree = plant(tmp_path, a_j2="x:\n  {% for i in [1, 2] %}\n  - {{ i }}\n  {% endfor %}\n")
    assert render(tree)["/a"] == b"x:\n  - 1\n  - 2\n"


def test_a_template_can_include_another_of_the_role(tmp_path: Path) -> None:
    (tmp_path / "part.j2").write_text("part {{ x }}")
    assert render(plant(tmp_path, a_j2="{% include 'part.j2' %}\n"), x=1)["/a"] == b"part 1\n"


def test_an_error_names_the_file_and_the_variable(tmp_path: Path) -> None:
    with pytest.raises(AnsibleActionFail, match=r"etc/a\.j2.*'missing' is undefined"):
        render(plant(tmp_path, etc__a_j2="{{ missing }}\n"))


@pytest.mark.parametrize(
    ("template", "result"),
    [
        ("{{ 1 }}\n", b"1\n"),
        ("{{ 1 }}", b"1"),
        ("{% if true %}\nx\n{% endif %}\n", b"x\n"),
        ("a{% for i in [1, 2] %} {{ i }}{% endfor %}\n", b"a 1 2\n"),
        ("{% if false %}\nx\n{% endif %}\n", b""),
    ],
)
def test_a_template_makes_text_that_ends_as_the_template_does(tmp_path: Path, template: str, result: bytes) -> None:
    assert render(plant(tmp_path, a_j2=template))["/a"] == result


def test_excluded_files_and_folders_are_left_out(tmp_path: Path) -> None:
    tree = plant(tmp_path, etc__a="", etc__b__c="", etc__b__d="", etc__bb="")
    assert list(render(tree, ["/etc/a", "/etc/b/"])) == ["/etc/bb"]


@pytest.mark.parametrize("path", ["/etc/typo", "/etc/*", "etc/a"])
def test_an_exclusion_of_nothing_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(AnsibleActionFail, match="has nothing at"):
        render(plant(tmp_path, etc__a=""), [path])


def test_two_sources_of_one_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnsibleActionFail, match="both for /a"):
        render(plant(tmp_path, a="", a_j2=""))


def test_a_folder_of_the_operators_takes_the_place_of_the_trees(tmp_path: Path) -> None:
    tree = plant(tmp_path / "role", etc__a="a", etc__mail__ours="ours")
    theirs = plant(tmp_path / "operator", theirs="theirs", deep__er_j2="{{ x }}\n")
    assert render(tree, graft={"/etc/mail": theirs}, x=1) == {
        "/etc/a": b"a",
        "/etc/mail/theirs": b"theirs",
        "/etc/mail/deep/er": b"1\n",
    }
    with pytest.raises(AnsibleActionFail, match="typo, for '/etc/mail', is not a folder"):
        render(tree, graft={"/etc/mail": tmp_path / "typo"})


class Connections:
    """An action's ways to a host that refuses the first connections."""

    transport = "ssh"

    def __init__(self, refused: int, reason: str = "Connection refused", behind: str | None = None) -> None:
        self.refused, self.reason, self.made, self.behind = refused, reason, 0, behind
        self.options: dict[str, Any] = {"ssh_executable": "ssh", "host": "co1", "timeout": 30}
        self.was_reset = False

    def reset(self) -> None:
        assert self.options["ssh_executable"] == "ssh", "one that shares nothing does not know what is shared"
        self.was_reset = True

    def get_option(self, name: str) -> Any:
        return self.options[name]

    def set_option(self, name: str, value: Any) -> None:
        self.options[name] = value

    def execute(self, **call: Any) -> dict[str, Any]:
        assert self.was_reset
        assert Path(self.options["ssh_executable"]).is_absolute(), "an old connection may confirm"
        assert call["module_args"]["confirm"]
        self.made += 1
        if self.made <= self.refused:
            raise AnsibleConnectionFailure(self.reason)
        return {"changed": False}

    def confirm(self) -> dict[str, Any]:
        action = SimpleNamespace(
            _connection=self,
            _execute_module=self.execute,
            _leads_to=lambda target: target == self.behind,
            _new_connections=lambda: plugin.ActionModule._new_connections(SimpleNamespace(_connection=self)),
        )
        answer: dict[str, Any] = plugin.ActionModule._confirm(
            action, {"confirm_within": 60}, ["/etc/a"], ["192.0.2.1:22"], None
        )
        assert self.options["ssh_executable"] == "ssh"
        return answer


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses that are not made."""
    pauses: list[float] = []
    monkeypatch.setattr(plugin.time, "sleep", pauses.append)
    return pauses


def test_a_server_that_reads_its_configuration_anew_is_given_time(impatient: list[float]) -> None:
    host = Connections(refused=2, behind="192.0.2.1:22")
    assert host.confirm() == {"changed": False}
    assert host.made == 3
    assert impatient == [1, 3]


def test_a_change_that_shuts_out_is_told_and_not_confirmed(impatient: list[float]) -> None:
    with pytest.raises(
        AnsibleConnectionFailure, match=r"since /etc/a changed; within 60 seconds.*puts back what was there: .*refused"
    ):
        Connections(refused=9, behind="192.0.2.1:22").confirm()
    assert len(impatient) == 2


def test_a_server_that_refuses_the_key_is_not_asked_again(impatient: list[float]) -> None:
    with pytest.raises(AnsibleConnectionFailure, match="No new connection"):
        Connections(9, "ops@co1: Permission denied (publickey).", "192.0.2.1:22").confirm()
    assert impatient == []


@pytest.mark.usefixtures("impatient")
def test_a_jump_host_that_no_longer_leads_to_a_host_is_told_and_not_confirmed() -> None:
    host = Connections(refused=0)
    with pytest.raises(AnsibleConnectionFailure, match=r"through this host, 192\.0\.2\.1:22 is not reached any more"):
        host.confirm()
    assert host.made == 0


@pytest.mark.parametrize(
    "way", ["-oProxyJump=jump", "-oProxyCommand=ssh -F CONFIG -W %h:%p -oControlPath=CONFIG.socket jump"]
)
def test_a_new_connection_is_new_through_jump_hosts_as_well(tmp_path: Path, way: str) -> None:
    config, seen = tmp_path / "config", tmp_path / "seen"
    note = tmp_path / "note"
    # What ssh starts for the jump host says how it was called.
    note.write_text(f"#!/bin/sh\ntr '\\0' ' ' < /proc/$PPID/cmdline >> {seen}\n")
    note.chmod(0o700)
    config.write_text(f'Match host jump exec "exec {note}"\n  ProxyCommand false\n')
    host = Connections(refused=0)
    with plugin.ActionModule._new_connections(SimpleNamespace(_connection=host)):
        command = [host.options["ssh_executable"], "-F", str(config), way.replace("CONFIG", str(config)), "co1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 255
    assert "-o ControlMaster=no -o ControlPath=none -" in seen.read_text(), done.stderr


def digest_of(tree: Path, **variables: Any) -> str:
    """The digest that a file outside the folder holds."""
    return render(tree, **variables)["/a"].decode().strip()


def test_a_digest_changes_with_content_and_names_and_with_nothing_else(tmp_path: Path) -> None:
    tree = plant(tmp_path, a_j2="{{ tree_digest('/conf') }}\n", conf__x_j2="{{ v }}\n", conf__y=b"\0", confused="1")
    first = digest_of(tree, v=1)
    assert first == digest_of(tree, v=1)
    assert len(first) == hashlib.sha256().digest_size * 2
    assert first != digest_of(tree, v=2)
    (tree / "confused").write_text("2")
    assert first == digest_of(tree, v=1)
    (tree / "conf/y").rename(tree / "conf/z")
    assert first != digest_of(tree, v=1)


def test_digests_can_cover_digests_but_not_themselves(tmp_path: Path) -> None:
    tree = plant(tmp_path, a_j2="{{ tree_digest('/b') }}\n", b_j2="{{ tree_digest('/c') }}\n", c_j2="{{ v }}\n")
    assert digest_of(tree, v=1) != digest_of(tree, v=2)
    (tree / "c.j2").write_text("{{ tree_digest('/a') }}\n")
    with pytest.raises(AnsibleActionFail, match="/a -> /b -> /c -> /a"):
        render(tree)


def test_a_digest_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnsibleActionFail, match="nothing at '/typo'"):
        render(plant(tmp_path, a_j2="{{ tree_digest('/typo') }}\n"))


PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Configure
      config_tree:
        attributes:
          - {path: "**", owner: "{{ uid }}", group: "{{ gid }}"}
          - {path: "**/", owner: "{{ uid }}", group: "{{ gid }}"}
          - {path: "**/private", mode: "0600"}
        state_directory: "{{ playbook_dir }}/state"
        on_change:
          - {path: "**/private", command: "cat {{ playbook_dir }}/host/private"}
          - {path: "**/private", command: "{{ action }}"}
"""


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A folder that everybody may pass through, as a real /etc; pytest's own are private."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("action", ["true", "false"])
def test_nothing_private_shows_at_the_highest_verbosity(public_path: Path, action: str) -> None:
    play = public_path / "play.yml"
    play.write_text(PLAY.replace('path: "**', f'path: "{public_path}/**'))
    tree = plant(public_path / "templates", private_j2="password {{ private }}\n", public_j2="hello {{ 1 + 1 }}\n")
    target = tree / str(public_path).removeprefix("/") / "host"
    target.mkdir(parents=True)
    for file in ("private.j2", "public.j2"):
        (tree / file).rename(target / file)
    variables = public_path / "variables.yml"
    variables.write_text(f"private: {PRIVATE}\nuid: '{os.getuid()}'\ngid: '{os.getgid()}'\naction: '{action}'\n")
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        "localhost,",
        "-c",
        "local",
        "-vvvvv",
        "--diff",
    ]
    environment = {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_PYTHON_INTERPRETER": sys.executable}
    done = subprocess.run(
        [*command, "-e", f"@{variables}", play],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=PROJECT,
        check=False,
    )
    assert (done.returncode == 0) is (action == "true"), done.stdout
    assert (public_path / "host/private").read_text() == f"password {PRIVATE}\n"
    assert PRIVATE not in done.stdout + done.stderr
    assert ("+hello 2" if action == "true" else "The next run tries it again") in done.stdout
