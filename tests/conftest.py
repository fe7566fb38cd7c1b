"""What modules import when Ansible runs them is there for tests, too."""

import sys
from importlib import import_module
from pathlib import Path

for path in sorted((Path(__file__).parents[1] / "plugins/module_utils").glob("*.py")):
    sys.modules[f"ansible.module_utils.{path.stem}"] = import_module(f"plugins.module_utils.{path.stem}")
