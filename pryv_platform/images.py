"""What the image archives of the inventory hold, beside what hosts have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pryv_platform.problems import Problem, make_error


def unreadable_archives(archives: Iterable[Mapping[str, Any]]) -> list[Problem]:
    """Make problems of archives that hold no images.

    Args:
        archives: From the lookup image_archives.
    """
    remedy = "make it with docker image save; it may be compressed by gzip, bzip2 or xz"
    return [
        make_error(f"pryv_image_archive: {one['path']}", one["problem"], remedy) for one in archives if one["problem"]
    ]


def images_to_load(
    wanted: Iterable[str], there: Iterable[str], archives: Iterable[Mapping[str, Any]], paths: Iterable[str]
) -> list[str]:
    """Return the images that a host lacks, or of which its archives hold another one under the same tag.

    Args:
        wanted: Images as the inventory names them.
        there: For each image of the host its id and its names, by tag and by digest, with spaces between them.
        archives: From the lookup image_archives; those that are not among them are not compared.
        paths: The host's archives; of one tag in several, the last counts, which is loaded last.
    """
    here = {name: words[0] for words in map(str.split, there) for name in words[1:]}
    by_path = {archive["path"]: archive["images"] for archive in archives}
    held = {familiar(tag): image for path in paths for tag, image in by_path.get(str(path), {}).items()}
    return [
        image
        for image in dict.fromkeys(wanted)
        if (name := familiar(image)) not in here or held.get(name, here[name]) != here[name]
    ]


def familiar(image: str) -> str:
    """Return an image's name as Docker lists it: without Docker Hub's, with a digest, which counts alone, or a tag."""
    name, _, digest = image.removeprefix("docker.io/").removeprefix("library/").partition("@")
    folder, slash, last = name.rpartition("/")
    repository, _, tag = last.partition(":")
    return f"{folder}{slash}{repository}" + (f"@{digest}" if digest else f":{tag or 'latest'}")
