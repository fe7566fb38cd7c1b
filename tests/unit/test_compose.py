"""What role compose makes of image archives."""

from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

TASKS = Path(__file__).parents[2] / "roles/compose/tasks"
ARCHIVES = ["/a/pryv.tar", "/b/pryv.tar"]


def rendered(path: str, task: dict[str, Any]) -> list[str]:
    """A path in each round of a task's loop."""
    index = task["loop_control"]["index_var"]
    rounds = [{"item": item, index: at} for at, item in enumerate(ARCHIVES)]
    return [Templar(DataLoader(), variables).template(trust_as_template(path)) for variables in rounds]


def test_archives_of_one_name_are_different_files_on_the_host() -> None:
    send, load = yaml.safe_load((TASKS / "load.yml").read_text())
    sent = rendered(send["ansible.builtin.copy"]["dest"], send)
    assert len(set(sent)) == len(ARCHIVES)
    assert rendered(load["environment"]["ARCHIVE"], load) == sent
