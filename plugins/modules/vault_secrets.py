#!/usr/bin/python
"""Documentation of the action plugin of the same name, which does all the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: vault_secrets
short_description: Add the random secrets that an inventory's vault lacks
description:
  - Adds what is missing to a mapping in an encrypted variables file, and makes the file when there is none.
    What is there, other variables and comments too, is never changed.
  - Secrets exist in memory and in the encrypted file only. The file is replaced atomically, with mode 0600.
  - Runs on the controller, with the vault password that the run was given.
options:
  path:
    description: The vault. An existing one must be encrypted as a whole, with the vault password of the run.
    type: path
    required: true
  variable:
    description: Name of the mapping in it that holds the secrets.
    type: str
    required: true
  keys:
    description: The secrets that the mapping should have.
    type: list
    elements: str
    required: true
  length:
    description:
      - Length of a new secret in characters of C(A-Za-z0-9), which need no quoting wherever secrets go.
      - 43 of them are 256 bits. Pryv asks for 20 to 50 where it states a length.
    type: int
    default: 43
attributes:
  check_mode:
    support: full
    description: Says what would be added.
  diff_mode:
    support: full
    description: Shows names, never values.
author:
  - Pryv Ansible contributors
"""

EXAMPLES = r"""
- name: Make the secrets that the vault lacks
  vault_secrets:
    path: inventories/prod/group_vars/all/vault.yml
    variable: pryv_secrets
    keys: [core_system_key, redis_password]
"""

RETURN = r"""
path:
  description: The vault, with symbolic links resolved.
  type: str
  returned: always
created:
  description: Names of the secrets that were added.
  type: list
  elements: str
  returned: always
  sample: [pryv_secrets.redis_password]
"""
