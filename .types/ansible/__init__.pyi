# Ansible ships no types; beside this file are the toolkit's own module_utils, where modules import them from.
from typing import Any

def __getattr__(name: str) -> Any: ...
