"""What image archives on the controller hold: the id of each image by its tag."""

from __future__ import annotations

import json
import posixpath
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ansible.plugins.lookup import LookupBase

DOCUMENTATION = r"""
name: image_archives
short_description: What image archives on the controller hold
description:
  - Reads archives that C(docker image save) makes, compressed or not, from beginning to end.
options:
  _terms:
    description: Paths of archives, or lists of them.
    required: true
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ query('image_archives', '/srv/images/core.tar.gz') }}"
  # [{path: /srv/images/core.tar.gz, images: {pryvio/core:1.9.2: "sha256:2eca…"}, problem: ""}]
"""

RETURN = r"""
_list:
  description: For each archive its C(path), its C(images), ids by tag, and C(problem), what keeps it from being read.
  type: list
  elements: dict
"""


def contents(path: str) -> dict[str, Any]:
    """Read an archive.

    Args:
        path: The archive.

    Returns:
        ``path``, ``images`` (ids, with their algorithm, by tag) and ``problem`` (empty when it could be read).
    """
    found: dict[str, Any] = {"path": path, "images": {}, "problem": ""}
    try:
        # As a stream, since going back in a compressed file means to begin anew.
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                if posixpath.normpath(member.name) == "manifest.json" and (file := archive.extractfile(member)):
                    for image in json.load(file):
                        digest = posixpath.basename(image["Config"]).removesuffix(".json")
                        found["images"] |= dict.fromkeys(image["RepoTags"] or [], f"sha256:{digest}")
                    return found
        found["problem"] = "has no manifest.json"
    except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError, KeyError, TypeError) as error:
        found["problem"] = f"cannot be read ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
    return found


class LookupModule(LookupBase):  # type: ignore[misc]  # Ansible ships no types
    """Ansible's way to it."""

    def run(self, terms: Iterable[Any], variables: object = None, **options: object) -> list[dict[str, Any]]:  # noqa: ARG002
        """Read all archives.

        Args:
            terms: Paths of archives, or lists of them.
            variables: Not needed.
            options: None.
        """
        paths = [path for term in terms for path in (term if isinstance(term, list | tuple) else [term])]
        return [contents(str(Path(path))) for path in paths]
