"""What role compose makes of image archives."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

TASKS = Path(__file__).parents[2] / "roles/compose/tasks"
ARCHIVES = ["/a/pryv.tar", "/b/pryv.tar"]
IS_UP = yaml.safe_load((TASKS.parent / "vars/main.yml").read_text().replace("!unsafe ", ""))["compose_is_up"]
RUNNING = "".join(
    f" DRY-RUN MODE -  Container pryv-registry-{state} \n"
    for state in ("redis-1  Running", "dns-1  Running", "redis-1  Waiting", "redis-1  Healthy")
)


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


@pytest.mark.parametrize(
    ("found", "said", "is_up"),
    [
        ("", RUNNING, True),
        ("", RUNNING.replace("  ", " "), True),
        ("does not answer on port 3000", RUNNING, False),
        ("", RUNNING.replace("Running", "Recreate", 1), False),
        ("", "time=… level=warning\n" + RUNNING, False),
        ("", None, False),  # compose refuses its file, or there is none
        ("", "", False),
    ],
    ids=[
        "as it should be",
        "the same since compose 5",
        "does not answer",
        "to be made anew",
        "a warning",
        "fails",
        "no container",
    ],
)
def test_containers_are_brought_up_unless_all_is_as_it_should_be(found: str, said: str | None, *, is_up: bool) -> None:
    variables = {
        "compose_images_to_load": [],
        "compose_found": {"checks": [{"found": ""}, {"found": found}], "said": {"up": said}},
    }
    assert Templar(DataLoader(), variables).template(trust_as_template(IS_UP)) is is_up
