"""Files on the controller that the inventory names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pryv_platform.inventory import Inventory
from pryv_platform.problems import Problem, make_error

#: Variables that name files or folders on the controller.
VARIABLES = ("mail_templates_directory", "pryv_event_types_file", "pryv_image_archive")
#: Variables with images, by the group whose hosts use them.
IMAGES = {"core": ["core_images"], "registry": ["registry_images", "mail_images"], "web": ["web_images"]}


def controller_files(values: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the files and folders on the controller that the inventory names.

    Args:
        values: By host, variables that hold a path or a list of paths; see `Inventory.known`.

    Returns:
        Mappings of `where` and `path`, each path once.
    """
    found: dict[str, str] = {}
    for host, variables in values.items():
        for name, value in variables.items():
            for path in value if isinstance(value, list) else [value]:
                if path:
                    found.setdefault(str(path), f"{host}: {name}")
    return [{"where": where, "path": path} for path, where in found.items()]


def missing_files(files: Iterable[Mapping[str, str]]) -> list[Problem]:
    """Make problems of files that `controller_files` has named and that are not there."""
    return [
        make_error(file["where"], f"there is no {file['path']} on this machine", "give its absolute path")
        for file in files
    ]


def archive_problems(values: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]]) -> list[Problem]:
    """Check that hosts can find the images of their archives: `docker load` brings back tags, and no digests.

    Args:
        values: By host, `pryv_image_archive` and the roles' images; see `Inventory.known`.
        groups: Ansible's `groups`.
    """
    return [
        make_error(
            f"{host}: {name}.{service}",
            "is pinned by digest, which an image from pryv_image_archive does not have",
            "name it by tag, or have it pulled",
        )
        for host, variables in values.items()
        if variables.get("pryv_image_archive")
        for group, names in IMAGES.items()
        if host in groups.get(group, ())
        for name in names
        if isinstance(images := variables.get(name), Mapping)
        for service, image in images.items()
        if "@" in str(image)
    ]


def problems(inventory: Inventory) -> list[Problem]:
    """Check that files which the inventory names are there, and that images can be told apart in archives."""
    hosts = inventory.members("all")
    named = controller_files(inventory.known(hosts, VARIABLES))
    images = inventory.known(hosts, ["pryv_image_archive", *(name for names in IMAGES.values() for name in names)])
    return [
        *missing_files(file for file in named if not inventory.exists(file["path"])),
        *archive_problems(images, inventory.groups),
    ]
