"""What a run shows and keeps: callbacks brief and run_log."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from plugins.callback import brief, run_log

CHECKOUT = Path(__file__).resolve().parents[2]
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")

# What needs no module runs none: each is a process on each host.
PLAYS = """
- name: Keep books
  hosts: all
  gather_facts: false
  tasks:
    - name: Set a fact
      ansible.builtin.set_fact: {books: kept}

- name: Provision
  hosts: all
  gather_facts: false
  roles: [outer]

- name: Look
  hosts: all
  gather_facts: false
  tasks:
    - name: Report
      ansible.builtin.debug: {msg: "first line\\nsecond line"}
      run_once: true
    - name: Refuse
      ansible.builtin.fail: {msg: "it will not do\\nfor this reason"}
      when: inventory_hostname == 'b' and not ansible_check_mode
"""
OUTER = """
- name: Find all well
  ansible.builtin.set_fact: {found: well}
- name: Pass over
  ansible.builtin.set_fact: {over: passed}
  when: false
- name: Include another
  ansible.builtin.include_role: {name: inner}
- name: Take long
  ansible.builtin.command: {cmd: sleep 12}
  changed_when: false
  when: long | default(false)
"""
INNER = """
- name: Write
  ansible.builtin.copy: {content: "new\\n", dest: "{{ folder }}/{{ inventory_hostname }}", mode: "0600"}
  when: inventory_hostname != 'c'
- name: Hide
  ansible.builtin.set_fact: {hidden: hush}
  no_log: true
- name: Warn
  warn_of: {what: "a disk is nearly full"}
- name: Go through a list
  ansible.builtin.set_fact: {seen: "{{ item }}"}
  changed_when: item == 'two'
  loop: [one, two]
"""
WARN_OF = """
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display


class ActionModule(ActionBase):
    _VALID_ARGS = frozenset({"what"})

    def run(self, tmp=None, task_vars=None):
        Display().warning(self._task.args["what"])
        return super().run(tmp, task_vars)
"""


def make_world(folder: Path) -> Path:
    """Make a folder with an inventory of three hosts, which are this machine, and a playbook."""
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    files = {
        "inventory/hosts.yml": yaml.safe_dump({"all": {"hosts": dict.fromkeys("abc", host)}}),
        "play.yml": PLAYS,
        "roles/outer/tasks/main.yml": OUTER,
        "roles/inner/tasks/main.yml": INNER,
        "roles/outer/meta/main.yml": "dependencies: [needed]\n",
        "roles/needed/tasks/main.yml": "- {name: Come first, ansible.builtin.set_fact: {a: 1}}\n",
        "action_plugins/warn_of.py": WARN_OF,
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """One for each test."""
    return make_world(tmp_path)


def play(world: Path, *options: str, status: int = 2, inventory: str = "inventory") -> str:
    """Run the playbook; return what is on the screen."""
    done = subprocess.run(
        [PLAYBOOK, "play.yml", "--inventory", inventory, "--extra-vars", f"folder={world}", *options],
        cwd=world,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One in which the playbook was run once, and what was on the screen."""
    world = make_world(tmp_path_factory.mktemp("world"))
    return world, play(world, inventory="inventory/hosts.yml")


def logs(world: Path) -> list[Path]:
    return sorted((world / "inventory" / run_log.FOLDER).glob("*.txt"))


def test_what_changes_fails_warns_or_reports_is_shown_and_nothing_else(ran: tuple[Path, str]) -> None:
    _, screen = ran
    before, _, after = screen.partition("PLAY RECAP")
    # On a busy machine any task may take long.
    before = re.sub(r"^ *\d+:\d\d  .* s, waiting for .*\n", "", before, flags=re.MULTILINE)
    for unchanged in ("Keep books", "Set a fact", "Find all well", "Pass over", "Hide", "included:", "(item=one)"):
        assert unchanged not in before
    assert "ok: [b]" not in screen
    assert "TASK [inner : Write]" in screen
    assert "changed: [a, b]\n" in screen
    assert "changed: [c] => (item=two)" in screen
    assert screen.count("[WARNING]: a disk is nearly full") == 1
    assert "        first line\n        second line\n" in screen
    # In full, where it happens.
    assert "fatal: [b]: FAILED! =>" in before
    assert "        it will not do\n        for this reason\n" in before
    assert "b                          : ok=" in after
    assert "Tasks that changed something: a (2), b (2), c (1)\n" in after
    assert "Needs attention: b: Refuse: it will not do\n" in after
    assert "Needs attention: a, b, c: a disk is nearly full\n" in after


def test_a_role_that_begins_is_told_with_the_time_and_includes_those_it_uses(ran: tuple[Path, str]) -> None:
    lines = [line.split() for line in ran[1].splitlines()]
    assert [line[1] for line in lines if re.fullmatch(r"\d+:\d\d", "".join(line[:1])) and len(line) == 2] == ["outer"]
    (took,) = (line for line in lines if line[:1] == ["Took"])
    assert {"inner", "needed"}.isdisjoint(took)


def test_a_task_that_takes_long_is_told_with_the_hosts_that_are_not_done(world: Path) -> None:
    screen = play(world, "--extra-vars", '{"long": true}')
    assert re.search(r"^ \d:\d\d  outer : Take long: 1\d s, waiting for a, b, c$", screen, re.MULTILINE)


def test_diffs_stay_with_their_hosts(world: Path) -> None:
    screen = play(world, "--check", "--diff", status=0)
    for host in "ab":
        assert f"+++ after: {world}/{host}\n@@ -0,0 +1 @@\n+new\n\nchanged: [{host}]\n" in screen
    assert "Tasks that would change something: a (2), b (2), c (1)\n" in screen
    assert not (world / "a").exists()


def test_all_is_shown_on_request(world: Path) -> None:
    screen = play(world, "-v")
    assert "TASK [outer : Find all well]" in screen
    assert "skipping: [a] =>" in screen
    assert "ok: [c] =>" in screen
    assert "changed: [a] =>" in screen
    assert "Needs attention: b: Refuse: it will not do\n" in screen
    assert "hush" not in screen


def test_the_log_beside_the_inventory_has_all_but_secrets(ran: tuple[Path, str]) -> None:
    world, screen = ran
    (log,) = logs(world)
    assert f"inventory/{run_log.FOLDER}/{log.name}" in screen
    text = log.read_text()
    for said in ("Keep books", "Find all well", "skipping: [a] =>", "changed: [b] =>", "ok: [c] => (item=one)"):
        assert said in text
    assert "a disk is nearly full" in text
    assert "for this reason" in text
    assert f"(Origin: {world}/play.yml:" in text
    assert "PLAY RECAP" in text
    assert "TASK [inner : Hide]" in text
    assert "hush" not in text
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700
    # Neither inventory nor git takes them for its own.
    listed = subprocess.run(
        [PLAYBOOK.with_name("ansible-inventory"), "--inventory", world / "inventory", "--list"],
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")}, capture_output=True, text=True, check=True
    )  # fmt: skip
    assert "WARNING" not in listed.stderr
    assert (log.parent / ".gitignore").read_text() == "*\n"


def test_old_logs_go(world: Path) -> None:
    folder = world / "inventory" / run_log.FOLDER
    folder.mkdir()
    for number in range(run_log.KEPT + 5):
        (folder / f"2020-01-{number:02}T000000-site-1.txt").touch()
    play(world)
    kept = logs(world)
    assert len(kept) == run_log.KEPT
    assert kept[0].name.startswith("2020-01-06")
    assert "-play-" in kept[-1].name


def test_a_run_without_a_place_for_a_log_says_so_and_goes_on(world: Path) -> None:
    (world / "inventory" / run_log.FOLDER).write_text("in the way")
    screen = play(world)
    assert "[WARNING]: This run has no log: " in screen
    assert "PLAY RECAP" in screen


def test_hosts_that_are_no_file_have_no_log(world: Path) -> None:
    screen = play(world, "--connection=local", "--extra-vars", f"ansible_python_interpreter={sys.executable}",
                  inventory="a,b,c")  # fmt: skip
    assert "no log" not in screen
    assert logs(world) == []


def test_a_summary_names_the_first_failure_and_plays_without_hosts(world: Path) -> None:
    fail = "ansible.builtin.fail"
    block = [{"name": "Cause", fail: {"msg": "this"}}]
    always = [{"name": "Clean up", fail: {"msg": "that"}}]
    rescued = {
        "block": [{"name": "Try", fail: {"msg": "no"}}],
        "rescue": [{"name": "Mend", "ansible.builtin.meta": "noop"}],
    }
    plays = [
        {"name": "Elsewhere", "hosts": "b", "gather_facts": False, "tasks": []},
        {"name": "Here", "hosts": "a", "gather_facts": False, "tasks": [rescued, {"block": block, "always": always}]},
    ]
    (world / "play.yml").write_text(yaml.safe_dump(plays))
    screen = play(world, "--limit", "a")
    assert "Needs attention: a: Cause: this\n" in screen
    assert "No host of this run: Elsewhere\n" in screen


def test_colours_of_a_terminal_are_not_in_the_log(tmp_path: Path) -> None:
    run_log.Page(tmp_path / "log").display("\x1b[0;32m+new\x1b[0m")
    assert (tmp_path / "log").read_text().endswith(" +new\n")


def test_a_message_of_any_length_is_cut_off_in_the_log(tmp_path: Path) -> None:
    page = run_log.Page(tmp_path / "log")
    page.display("x" * run_log.MESSAGE_CHARACTERS * 9)
    assert (tmp_path / "log").stat().st_size < run_log.MESSAGE_CHARACTERS + 100


@pytest.mark.parametrize(
    ("names", "said"), [("ab", "a, b"), ("abcdef", "a, b, c, d, e, f"), ("abcdefgh", "a, b, c, d, e, f, 2 more")]
)
def test_many_names_are_counted(names: str, said: str) -> None:
    assert brief.some(names) == said


@pytest.mark.parametrize(("seconds", "said"), [(0, " 0:00"), (59.6, " 1:00"), (3725, "62:05")])
def test_time_is_told_in_minutes(seconds: float, said: str) -> None:
    assert brief.clock(seconds) == said


def test_parts_are_told_by_how_long_they_took(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0, 1, 4, 10, 10.4, 10.4])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    watch = brief.Stopwatch()
    for part in ("short", "long", "tiny"):
        watch.begin(part)
    assert watch.table() == "Took 0:10 min: long 6 s, short 3 s"


def test_a_run_that_changed_nothing_says_so() -> None:
    assert brief.outcome({"a": 0}, 1, check=False) == "Nothing changed on 1 host(s)"
    assert brief.outcome({}, 3, check=True) == "Nothing would change on 3 host(s)"
