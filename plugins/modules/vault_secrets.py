#!/usr/bin/python
"""Documentation of the action plugin of the same name, which does all the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: vault_secrets
short_description: Make, replace and drop random secrets in an inventory's vault
description:
  - Adds what is missing to a mapping in an encrypted variables file, and makes the file when there is none.
    What is there, other variables and comments too, is never changed unless it is named to be replaced or dropped.
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
    default: []
  replace:
    description: Secrets of the mapping that get new values. Each must be there.
    type: list
    elements: str
    default: []
  drop:
    description: Secrets that are taken out of the mapping, if they are there.
    type: list
    elements: str
    default: []
  retired:
    description:
      - Name of another mapping of the file, which gets what O(replace) and O(drop) take away, named as
        C(variable.name). A secret that is in there already is not replaced. Without, nothing is kept.
    type: str
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
    keys: [register_admin_key, redis_password]

- name: Replace a secret, and keep the old one for as long as it is accepted
  vault_secrets:
    path: inventories/prod/group_vars/all/vault.yml
    variable: pryv_secrets
    replace: [register_admin_key]
    retired: pryv_retired_secrets
"""

RETURN = r"""
path:
  description: The vault, with symbolic links resolved.
  type: str
  returned: always
created:
  description: Names of the secrets that were added or replaced.
  type: list
  elements: str
  returned: always
  sample: [pryv_secrets.redis_password]
dropped:
  description: Names of the secrets that were taken out.
  type: list
  elements: str
  returned: always
"""
