"""What may be asked for on the command line of one run alone: from elsewhere it would be there in the next run too."""

from __future__ import annotations

from collections.abc import Collection

from pryv_platform.problems import InputError


def refuse_lasting(name: str, host: str, command_line: Collection[str], runbook: str) -> None:
    """Refuse a variable that does not come from the command line.

    Args:
        name: The variable.
        host: The host that has it.
        command_line: Names of the variables that were given for this run alone.
        runbook: Where it is told how to use it.

    Raises:
        InputError: It comes from the inventory.
    """
    if name not in command_line:
        raise InputError(
            f"{name} of {host} is in the inventory, and may only be given on the command line of one run: "
            f"take it out, and see {runbook}"
        )
