"""An archive's images are known by their ids, and a host that has another one under the same tag gets them."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from plugins.lookup import image_archives
from pryv_platform import images

OLD, NEW, OTHER = ("sha256:" + digit * 64 for digit in "123")


def archive(path: Path, **ids: str) -> Path:
    """Write an archive as docker image save does."""
    manifest = [
        {"Config": f"blobs/sha256/{image[7:]}", "RepoTags": [f"pryvio/{name}:1"]} for name, image in ids.items()
    ]
    content = {"blobs/sha256/layer": b"x" * 20000, "manifest.json": json.dumps(manifest).encode()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            file.addfile(entry, io.BytesIO(data))
    path.write_bytes(gzip.compress(buffer.getvalue()) if path.suffix == ".gz" else buffer.getvalue())
    return path


@pytest.mark.parametrize("name", ["images.tar", "images.tar.gz"])
def test_ids_by_tag(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / name, core=NEW, hfs=OTHER)
    (found,) = image_archives.LookupModule().run([[str(path)]])
    assert found == {"path": str(path), "images": {"pryvio/core:1": NEW, "pryvio/hfs:1": OTHER}, "problem": ""}


def test_the_form_of_older_dockers(tmp_path: Path) -> None:
    path = tmp_path / "old.tar"
    with tarfile.open(path, "w") as file:
        data = json.dumps([{"Config": f"{OLD[7:]}.json", "RepoTags": ["a:1"]}, {"Config": "x.json", "RepoTags": None}])
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(data)
        file.addfile(entry, io.BytesIO(data.encode()))
    assert image_archives.contents(str(path))["images"] == {"a:1": OLD}


def test_what_is_no_archive_is_reported(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no archive")
    whole = archive(tmp_path / "images.tar.gz", core=NEW)
    (tmp_path / "cut.tar.gz").write_bytes(whole.read_bytes()[:60])
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    found = [image_archives.contents(str(tmp_path / name)) for name in ("text", "cut.tar.gz", "empty.tar", "none", "")]
    assert all(one["problem"] for one in found)
    assert found[2]["problem"] == "has no manifest.json"
    problems = images.unreadable_archives([*found, image_archives.contents(str(whole))])
    assert [problem["where"] for problem in problems] == [f"pryv_image_archive: {one['path']}" for one in found]


HELD: list[dict[str, Any]] = [
    {"path": "/a.tar", "images": {"pryvio/core:1": OLD, "redis:latest": OTHER}},
    {"path": "/b.tar", "images": {"docker.io/pryvio/core:1": NEW}},
]


@pytest.mark.parametrize(
    ("there", "paths", "expected"),
    [
        ([f"{OLD} pryvio/core:1", f"{OTHER} redis:latest redis@<none>"], ["/a.tar"], []),
        ([f"{OLD} pryvio/core:1"], ["/a.tar"], ["docker.io/library/redis"]),
        ([f"{OLD} pryvio/core:1", f"{OTHER} redis:latest"], ["/a.tar", "/b.tar"], ["docker.io/pryvio/core:1"]),
        ([f"{NEW} pryvio/core:1", f"{OTHER} redis:latest"], ["/a.tar", "/b.tar"], []),
        ([f"{NEW} pryvio/core:1", f"{NEW} redis:latest"], ["/unread.tar"], []),
        ([], ["/a.tar"], ["docker.io/pryvio/core:1", "docker.io/library/redis"]),
    ],
)
def test_images_that_are_missing_or_others_under_the_same_tag(
    there: list[str], paths: list[str], expected: list[str]
) -> None:
    wanted = ["docker.io/pryvio/core:1", "docker.io/library/redis", "docker.io/pryvio/core:1"]
    assert images.images_to_load(wanted, there, HELD, paths) == expected


def test_names_as_docker_shows_them() -> None:
    names = ("docker.io/library/redis", "registry.example.com:5000/core", "registry.example.com/core:1.9.2")
    assert [images.familiar(name) for name in names] == [
        *("redis:latest", "registry.example.com:5000/core:latest", "registry.example.com/core:1.9.2")
    ]


@pytest.mark.parametrize("image", ["docker.io/pryvio/core@sha256:00", "docker.io/pryvio/core:1.9.2@sha256:00"])
def test_an_image_by_digest_is_there_whatever_its_tag(image: str) -> None:
    there = [f"{OLD} pryvio/core:<none> pryvio/core@sha256:00"]
    assert images.images_to_load([image], there, [], []) == []
    assert images.images_to_load([image], [f"{OLD} pryvio/core:1.9.2 pryvio/core@sha256:01"], [], []) == [image]
