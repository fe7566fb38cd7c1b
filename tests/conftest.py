"""What modules import when Ansible runs them is there for tests, too."""

import sys
from pathlib import Path

import ansible.module_utils

# Role backup brings its program to hosts as it lies there, with all that is in its folder.
sys.dont_write_bytecode = True

ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "plugins/module_utils"))
