"""Builds the images that stand in for Pryv's, as one archive that `docker load` reads.

Everything comes from Debian packages and, for MongoDB, from PyPI; neither a Docker daemon nor a registry of images is
needed. The archive is made anew only when the recipe changes, and the same recipe gives the same image IDs.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "standins"
ARCHIVE = CACHE / "images.tar.gz"

# Image by service, with the names and tags of Pryv's release.
IMAGES = {
    "core": "docker.io/pryvio/core:1.9.2",
    "hfs": "docker.io/pryvio/hfs:1.9.2",
    "preview": "docker.io/pryvio/preview:1.9.2",
    "webhooks": "docker.io/pryvio/webhooks:1.9.2",
    "mfa": "docker.io/pryvio/mfa:1.1.9",
    "mongodb": "docker.io/pryvio/mongodb:1.9.0",
    "influxdb": "docker.io/library/influxdb:1.7.8",
    "register": "docker.io/pryvio/register:1.9.2",
    "dns": "docker.io/pryvio/dns:1.9.2",
    "redis": "docker.io/pryvio/redis:1.9.0",
    "mail": "docker.io/pryvio/mail:1.9.0",
    "admin-panel": "docker.io/pryvio/app-web-admin:1.2.1",
    "auth-pages": "docker.io/pryvio/app-web-auth3:1.0.8",
}

SUITE = "trixie"
PACKAGES = ("python3", "python3-yaml", "redis-server", "influxdb", "dash")
PYTHON = "3.13"  # the suite's
WHEELS = HERE / "wheels.txt"
PLATFORMS = {"amd64": "manylinux_2_28_x86_64", "arm64": "manylinux_2_28_aarch64"}
# What of them a running service opens: the rest stays out of the base.
KEPT = re.compile(
    r"usr/(bin/(python3(\.\d+)?|redis-server|redis-check-rdb|redis-cli|influxd?|dash|sh)|lib(64)?)(/|$)"
    r"|(bin|lib|lib64)$|(etc|proc|sys|dev|run|root|tmp|usr|usr/bin|var|var/lib)$"
)
DROPPED = re.compile(
    r"usr/lib/(python3\.\d+/(ensurepip|idlelib|pydoc_data|turtledemo|tkinter|_pyrepl|__phello__|unittest|test)"
    r"|python3/dist-packages/secantus/(admin|opsboard|sql)|\w+-linux-gnu/(gconv|perl)|systemd|init|mime|valgrind|tmpfiles.d|binfmt.d|dpkg|apt|gcc)(/|$)"
)
# Debian's merged /usr, which only an installation would make; the wheels; and modules compiled once rather than at each
# start, whatever the time stamps of their sources become.
HOOK = "; ".join(
    (
        'for name in bin lib lib64; do test -e "$1/$name" || ln -s "usr/$name" "$1/$name"; done',
        'for name in proc sys dev run root tmp; do mkdir -p "$1/$name"; done',
        'cp -r "$STANDIN_WHEELS/." "$1/usr/lib/python3/dist-packages"',
        """chroot "$1" sh -c 'python3 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python3*'""",
    )
)
USERS = "root:x:0:0::/root:/bin/sh\napp:x:9999:9999::/app:/bin/sh\n"
GROUPS = "root:x:0:\napp:x:9999:\n"


@dataclass(frozen=True)
class Layer:
    """A layer of an image.

    Attributes:
        content: An uncompressed tar.
    """

    content: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the content, in hex."""
        return hashlib.sha256(self.content).hexdigest()


def build() -> Path:
    """Builds the archive unless it is there.

    Returns:
        Path of the archive.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _build()


def _build() -> Path:
    program = _layer((path, path.relative_to(HERE / "standin")) for path in sorted((HERE / "standin").glob("*.py")))
    recipe = hashlib.sha256(Path(__file__).read_bytes() + program.content).hexdigest()
    mark = CACHE / "images.recipe"
    if ARCHIVE.exists() and mark.exists() and mark.read_text(encoding="ascii") == recipe:
        return ARCHIVE
    draft = ARCHIVE.with_suffix(".draft")
    with gzip.GzipFile(draft, "wb", compresslevel=6, mtime=0) as file:
        _write_archive(file, (_base(), program))
    draft.replace(ARCHIVE)
    mark.write_text(recipe, encoding="ascii")
    return ARCHIVE


def _base() -> Layer:
    """The layer of Debian's packages; kept in the cache, since it changes seldom."""
    wheels = WHEELS.read_text(encoding="utf-8")
    recipe = json.dumps([SUITE, PACKAGES, wheels, KEPT.pattern, DROPPED.pattern, HOOK, USERS, GROUPS])
    path = CACHE / f"base-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.tar"
    if not path.exists():
        if shutil.which("mmdebstrap") is None:
            subprocess.run([HERE.parent / "fleet" / "install"], check=True)
        raw = path.with_suffix(".raw.tar")
        with tempfile.TemporaryDirectory() as folder:
            _unpack_wheels(Path(folder))
            subprocess.run(
                [
                    "mmdebstrap",
                    "--quiet",
                    "--variant=extract",
                    f"--include={','.join(PACKAGES)}",
                    f"--extract-hook={HOOK}",
                    SUITE,
                    str(raw),
                ],
                check=True,
                env={**os.environ, "STANDIN_WHEELS": folder},
            )
        draft = path.with_suffix(".draft")
        with tarfile.open(raw) as source, tarfile.open(draft, "w", format=tarfile.GNU_FORMAT) as target:
            for member in source:
                name = member.name.removeprefix("./")
                if KEPT.match(name) and not DROPPED.match(name) and not member.isdev():
                    member.name, member.mtime = name, 0
                    target.addfile(member, source.extractfile(member) if member.isfile() else None)
            for name, text in (("etc/passwd", USERS), ("etc/group", GROUPS)):
                _add(target, name, text.encode())
        raw.unlink()
        draft.replace(path)
    return Layer(path.read_bytes())


def _unpack_wheels(folder: Path) -> None:
    """Unpacks the wheels as an installation would, which is the same for wheels that install no commands."""
    with tempfile.TemporaryDirectory() as wheels:
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
                *("--no-deps", "--only-binary=:all:", "--require-hashes", f"--requirement={WHEELS}"),
                *(f"--python-version={PYTHON}", f"--platform={PLATFORMS[_architecture()]}", f"--dest={wheels}"),
            ],
            check=True,
        )
        for wheel in sorted(Path(wheels).iterdir()):
            shutil.unpack_archive(wheel, folder, "zip")


def _layer(files: Iterable[tuple[Path, Path]]) -> Layer:
    """A layer with the stand-ins' programs and the folders that Pryv's images have."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as target:
        for folder in ("app", "app/conf", "app/data", "app/log", "opt", "opt/standin", "var/lib/influxdb"):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            target.addfile(member)
        for path, name in files:
            _add(target, f"opt/standin/{name}", path.read_bytes())
    return Layer(content.getvalue())


def _add(target: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    target.addfile(member, io.BytesIO(content))


def _write_archive(file: io.BufferedIOBase | gzip.GzipFile, layers: tuple[Layer, ...]) -> None:
    """Writes the images in the format of `docker save`."""
    manifest = []
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.GNU_FORMAT) as target:
        for layer in layers:
            _add(target, f"{layer.digest}/layer.tar", layer.content)
        for service, image in IMAGES.items():
            config = json.dumps(
                {
                    "architecture": _architecture(),
                    "os": "linux",
                    "created": "1970-01-01T00:00:00Z",
                    "config": {
                        "Entrypoint": ["/usr/bin/python3", "-B", "-m", "standin", service],
                        "Env": ["PATH=/usr/bin:/bin", "PYTHONPATH=/opt", "PYTHONUTF8=1"],
                        "Labels": {"org.opencontainers.image.title": f"stand-in for {image}"},
                        "WorkingDir": "/app",
                    },
                    "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in layers]},
                    "history": [{"created_by": "tests/standins"} for _ in layers],
                }
            ).encode()
            name = f"{hashlib.sha256(config).hexdigest()}.json"
            _add(target, name, config)
            # `docker save` writes names without the default registry.
            tag = image.removeprefix("docker.io/").removeprefix("library/")
            manifest.append(
                {"Config": name, "RepoTags": [tag], "Layers": [f"{layer.digest}/layer.tar" for layer in layers]}
            )
        _add(target, "manifest.json", json.dumps(manifest).encode())


def _architecture() -> str:
    """Docker's name for Debian's architecture, which is the same."""
    return subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    print(build())
