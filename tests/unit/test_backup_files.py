"""Files of somebody hostile: what a container may do to its data, and what a backup makes of that."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from pryv_backup import copies, databases, files, manifest, programs
from pryv_backup.problem import BackupError

from tests.unit.backup_host import make_database, write


def copied(data: Path, work: Path, *folders: str, reflink: bool = False) -> files.Tally:
    """Copies folders, and what is in folders named `attachments` by links."""
    work.mkdir(exist_ok=True)
    with files.opened(data, os.O_RDONLY) as source, files.opened(work, os.O_RDONLY) as target:
        copy = copies.Copy(source, target, reflink)
        for folder in folders:
            copy.copy(folder)
        for folder in copy.later:
            copy.link(folder)
    return copy.tally


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder that a container owns, beside a file that it may not read."""
    write(tmp_path / "secret/file", "secret")
    write(tmp_path / "data/users/u/account.sqlite", "account")
    write(tmp_path / "data/users/u/attachments/e/f", "attachment")
    return tmp_path / "data"


def test_links_are_copied_as_links(data: Path, tmp_path: Path) -> None:
    for path in ("users/link", "users/u/attachments/e/link"):
        (data / path).symlink_to(tmp_path / "secret")
    (data / "users/u/stolen.sqlite").symlink_to(tmp_path / "secret/file")
    (data / "users/v").mkdir()
    (data / "users/v/attachments").symlink_to(tmp_path / "secret")
    found = copied(data, tmp_path / "work", "users")
    work = tmp_path / "work/users"
    for link in ("link", "u/attachments/e/link", "u/stolen.sqlite", "v/attachments"):
        assert (work / link).is_symlink()
    assert (found.files, found.attachments) == (2, 1)


@pytest.mark.parametrize("folder", ["users", "users/u", "users/u/attachments"])
def test_no_path_leads_through_a_link(folder: str, data: Path, tmp_path: Path) -> None:
    moved = data / folder
    moved.rename(tmp_path / "moved")
    moved.symlink_to(tmp_path / "moved")
    with files.opened(data, os.O_RDONLY) as source:
        assert not files.exists_below(source, folder)
        with pytest.raises(BackupError, match="is no folder"), files.below(source, folder):
            pass
        with pytest.raises(BackupError, match="is no folder"):
            files.digest(source, f"{folder}/e")
    with pytest.raises(BackupError, match="is no folder"):
        copied(data, tmp_path / "work", folder)


@pytest.mark.parametrize("path", ["../secret/file", "users/../../secret/file"])
def test_no_path_leads_out(path: str, data: Path) -> None:
    """Nor one of a manifest that somebody made."""
    with files.opened(data, os.O_RDONLY) as source, pytest.raises(BackupError, match="no path below"):
        files.digest(source, path)


def test_what_is_no_file_is_left_out(data: Path, tmp_path: Path) -> None:
    """And never waited for."""
    for folder in ("users/u", "users/u/attachments/e"):
        os.mkfifo(data / folder / "pipe.sqlite")
    found = copied(data, tmp_path / "work", "users")
    assert (found.files, found.others) == (2, 2)
    assert not list((tmp_path / "work").glob("**/pipe*"))
    with files.opened(data, os.O_RDONLY) as source, pytest.raises(BackupError, match="is no file"):
        files.digest(source, "users/u/pipe.sqlite")


@pytest.mark.parametrize("folder", [b"users/u", b"users/u/attachments/e"])
def test_names_are_what_they_are(folder: bytes, data: Path, tmp_path: Path) -> None:
    names = [b"new\nline", b"\xff\xfe", b"--help", b" ", b"\x1b[2J", "ö".encode()]
    for name in names:
        (data / os.fsdecode(folder) / os.fsdecode(name)).write_bytes(name)
    found = copied(data, tmp_path / "work", "users")
    for name in names:
        assert (tmp_path / "work" / os.fsdecode(folder) / os.fsdecode(name)).read_bytes() == name
    assert found.files == 2 + len(names)
    counted = files.tally(tmp_path / "work")
    assert manifest.counts(counted) == manifest.counts(found)
    with files.opened(tmp_path / "work", os.O_RDONLY) as work:
        assert set(manifest.samples(work, found)) == set(found.samples)


@pytest.mark.parametrize("by_kernel", [True, False])
def test_holes_stay_holes(by_kernel: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """InfluxDB makes files of some MiB with a few bytes."""

    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, "another file system")

    if not by_kernel:
        monkeypatch.setattr(os, "copy_file_range", refuse)
    size = 4 << 20
    pieces = {
        "begin": {0: b"x" * 5000},
        "middle": {size // 2: b"x" * 5000},
        "end": {0: b"x", size - 1: b"x"},
        "none": {},
    }
    for name, content in pieces.items():
        with (data / "users" / name).open("wb") as file:
            for position, text in content.items():
                file.seek(position)
                file.write(text)
            file.truncate(size)
    copied(data, tmp_path / "work", "users")
    for name in pieces:
        one, other = data / "users" / name, tmp_path / "work/users" / name
        assert one.read_bytes() == other.read_bytes()
        assert other.stat().st_blocks <= one.stat().st_blocks < size // 512


def test_attachments_are_links_and_outlive_their_copy(data: Path, tmp_path: Path) -> None:
    attachment = "users/u/attachments/e/f"
    copied(data, tmp_path / "work", "users")
    assert (tmp_path / "work" / attachment).samefile(data / attachment)
    assert not (tmp_path / "work/users/u/account.sqlite").samefile(data / "users/u/account.sqlite")
    copies.remove(tmp_path / "work")
    assert (data / attachment).read_text() == "attachment"
    assert (data / attachment).stat().st_nlink == 1


def test_removing_a_copy_follows_no_link(data: Path, tmp_path: Path) -> None:
    (tmp_path / "work").symlink_to(data)
    copies.remove(tmp_path / "work")
    assert not (tmp_path / "work").is_symlink()
    assert (data / "users/u/account.sqlite").exists()
    (data / "users/link").symlink_to(tmp_path / "secret")
    copied(data, tmp_path / "work", "users")
    copies.remove(tmp_path / "work")
    assert (tmp_path / "secret/file").read_text() == "secret"


def test_what_goes_while_it_is_linked_is_gone(data: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    with files.opened(data, os.O_RDONLY) as source, files.opened(tmp_path / "work", os.O_RDONLY) as target:
        copy = copies.Copy(source, target, reflink=False)
        copy.copy("users")
        (data / "users/u").rename(data / "gone")
        for folder in copy.later:
            copy.link(folder)
    assert copy.tally.attachments == 0


def test_owner_mode_and_times_are_kept(data: Path, tmp_path: Path) -> None:
    file, folder = data / "users/u/account.sqlite", data / "users/u"
    if os.geteuid() == 0:
        os.chown(file, 9999, 9998)
        os.chown(folder, 9999, 9998)
    file.chmod(0o4640)
    folder.chmod(0o2750)
    for path in (file, folder):
        os.utime(path, ns=(1_000_000_001, 1_111_111_111_222_222_222))
    copied(data, tmp_path / "work", "users")
    for path in (file, folder):
        was, now = path.stat(), (tmp_path / "work" / path.relative_to(data)).stat()
        assert stat.S_IMODE(now.st_mode) == stat.S_IMODE(was.st_mode) & 0o777
        for name in ("st_uid", "st_gid", "st_mtime_ns", "st_size"):
            assert (name == "st_size" and stat.S_ISDIR(was.st_mode)) or getattr(was, name) == getattr(now, name), name


def test_folders_without_end_are_refused(data: Path, tmp_path: Path) -> None:
    deep = data / "users"
    for _ in range(70):
        deep /= "deeper"
    deep.mkdir(parents=True)
    with pytest.raises(BackupError, match="nested more than 64 deep"):
        copied(data, tmp_path / "work", "users")
    copies.remove(tmp_path / "work")


def test_a_copy_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"the copy takes 1099511627776 MiB and \d+ MiB are free"):
        copies.refuse_lack_of_space(tmp_path, 1 << 60)
    copies.refuse_lack_of_space(tmp_path, 1 << 10)


def test_space_is_what_is_on_the_disk(data: Path) -> None:
    """Holes take none, and attachments are not copied."""
    with (data / "users/holes").open("wb") as file:
        file.truncate(1 << 30)
    (data / "users/u/attachments/large").write_bytes(b"x" * (2 << 20))
    (data / "users/u/large").write_bytes(b"x" * (3 << 20))
    with files.opened(data, os.O_RDONLY) as source:
        assert 3 << 20 <= copies.allocated(source, ["users", "not/there"]) < 4 << 20


def test_content_is_copied_between_any_file_systems(tmp_path: Path) -> None:
    """Where the kernel does not copy between them by itself."""
    content = os.urandom(3_000_000)
    (tmp_path / "source").write_bytes(content)
    (tmp_path / "target").touch()
    with (tmp_path / "source").open("rb") as source, (tmp_path / "target").open("wb") as target:
        while copies.send(source.fileno(), target.fileno(), 1_000_000):
            pass
    assert (tmp_path / "target").read_bytes() == content


def test_a_database_is_read_with_its_log_and_stays_as_it_is(tmp_path: Path) -> None:
    index = tmp_path / "root/user-index.db"
    make_database(
        index,
        "CREATE TABLE id4name (username TEXT PRIMARY KEY, userId TEXT NOT NULL)",
        "INSERT INTO id4name VALUES (?, ?)",
        rows=[("anna", "c1")],
    )
    before = {path: path.read_bytes() for path in index.parent.iterdir()}
    assert databases.users(tmp_path / "root", "user-index.db", tmp_path / "copy") == {"anna": "c1"}
    assert databases.examine(tmp_path / "root", tmp_path / "copy")[1] == []
    assert {path: path.read_bytes() for path in index.parent.iterdir()} == before
    assert not (tmp_path / "copy").exists()


def test_a_database_without_a_log_is_read_in_its_place_and_stays_as_it_is(tmp_path: Path) -> None:
    whole, broken = tmp_path / "root/a/whole.sqlite", tmp_path / "root/b/broken.sqlite"
    for path in (whole, broken):
        make_database(path, "CREATE TABLE t (a TEXT)", "INSERT INTO t VALUES (?)", rows=[("x" * 9000,)])
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    broken.write_bytes(broken.read_bytes()[:4096] + bytes(8192))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (whole, broken)}
    counted, damages = databases.examine(tmp_path / "root", tmp_path / "copy")
    assert (counted.files, counted.databases) == (2, 2)
    assert [damage.partition(":")[0] for damage in damages] == ["b/broken.sqlite"]
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (whole, broken)} == before
    assert [path.stat().st_nlink for path in (whole, broken)] == [1, 1]


def test_users_are_read_while_users_come(tmp_path: Path) -> None:
    source = (
        "import sqlite3, sys, time\n"
        "database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "database.execute('PRAGMA journal_mode = WAL')\n"
        "database.execute('CREATE TABLE id4name (username TEXT PRIMARY KEY, userId TEXT NOT NULL)')\n"
        "for number in range(10000):\n"
        "    database.execute('INSERT INTO id4name VALUES (?, ?)', (str(number), str(number)))\n"
        "    if number == 10: print(1, flush=True)\n"
        "    time.sleep(0.05)\n"
    )
    index = tmp_path / "user-index.db"
    with subprocess.Popen([sys.executable, "-c", source, index], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        found = [len(databases.users(tmp_path, "user-index.db", tmp_path / "copy")) for _ in range(5)]
        writer.kill()
    assert found == sorted(found)
    assert found[0] >= 10


def test_an_index_that_is_none_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "user-index.db", "no database" * 100)
    with pytest.raises(BackupError, match=r"user-index\.db: file is not a database"):
        databases.users(tmp_path, "user-index.db", tmp_path / "copy")
    with closing(sqlite3.connect(tmp_path / "other.db")) as database:
        database.execute("CREATE TABLE t (a)")
    with pytest.raises(BackupError, match="it has no table of users"):
        databases.users(tmp_path, "other.db", tmp_path / "copy")


def test_what_a_program_says_in_json_is_told_as_text() -> None:
    said = 'first\n{"message_type":"exit_error","code":1,"message":"Fatal: no"}\n{"other": 1}\n3'
    assert programs.plain(said) == 'first\nFatal: no\n{"other": 1}\n3'
    with pytest.raises(BackupError, match=r"^sh failed \(3\): a \*\*\* in it$"):
        programs.run(["sh", "-c", "echo a secret in it >&2; exit 3"], secrets=["secret", "cret", ""])
    with pytest.raises(BackupError, match=r"^sleep did not end within 0 s$"):
        programs.run(["sleep", "60"], patience=0.1)
    with pytest.raises(BackupError, match="no/such/program"):
        programs.run(["/no/such/program"])
