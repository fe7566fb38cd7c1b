"""What modules import when Ansible runs them is there for tests, too."""

import sys
from importlib import import_module
from pathlib import Path

import ansible.module_utils

# Role backup brings its program to hosts as it lies there, with all that is in its folder.
sys.dont_write_bytecode = True

FOLDER = Path(__file__).parents[1] / "plugins/module_utils"

ansible.module_utils.__path__.append(str(FOLDER))
for path in FOLDER.glob("*.py"):
    # Tests name them as type checkers see them; both names are of one and the same.
    sys.modules[f"plugins.module_utils.{path.stem}"] = import_module(f"ansible.module_utils.{path.stem}")
