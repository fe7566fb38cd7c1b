"""Modules of the audit: what scanners write is read, and packages are the ones that were pinned."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import pytest

from plugins.modules import host_evidence, host_scan, pinned_packages, port_scan

XCCDF = """<?xml version="1.0" encoding="UTF-8"?>
<Benchmark xmlns="http://checklists.nist.gov/xccdf/1.2" xmlns:html="http://www.w3.org/1999/xhtml" id="b">
  <title>Guide to the Secure Configuration of Debian 13</title>
  <Group id="g"><title>Services</title>
    <Rule id="xccdf_org.ssgproject.content_rule_sshd_disable_root_login" severity="medium">
      <title>Disable SSH Root Login</title>
      <description>The root user should never be allowed to login directly:
        <html:pre>PermitRootLogin no</html:pre></description>
      <rationale>Even though the communications channel may be encrypted …</rationale>
      <check system="oval"><check-content-ref href="x"/></check>
    </Rule>
    <Rule id="xccdf_org.ssgproject.content_rule_package_nginx_removed" severity="unknown">
      <title>Uninstall nginx</title>
    </Rule>
    <Rule id="xccdf_org.ssgproject.content_rule_not_chosen" severity="high"><title>Other</title></Rule>
  </Group>
  <TestResult id="t">
    <title>OSCAP Scan Result</title>
    <rule-result idref="xccdf_org.ssgproject.content_rule_sshd_disable_root_login" severity="medium">
      <result>fail</result>
    </rule-result>
    <rule-result idref="xccdf_org.ssgproject.content_rule_package_nginx_removed" severity="unknown">
      <result>pass</result>
    </rule-result>
    <rule-result idref="xccdf_org.ssgproject.content_rule_not_chosen" severity="high">
      <result>notselected</result>
    </rule-result>
  </TestResult>
</Benchmark>
"""
LYNIS = """# Lynis Report
report_version_major=1
lynis_version=3.1.7
warning[]=NETW-2705|Couldn't find 2 responsive nameservers|-|-|
suggestion[]=BOOT-5122|Set a password on GRUB boot loader to prevent altering boot configuration|-|-|
suggestion[]=SSH-7408|Consider hardening SSH configuration|AllowTcpForwarding (set YES to NO)|-|
suggestion[]=KRNL-5820|If not required, consider explicit disabling of core dump|-|text:In /etc/security/limits.conf|
hardening_index=63
lynis_tests_done=262
"""


def test_openscap_results_are_read() -> None:
    """Rules that were chosen, how they should be when they are not, and nothing of the rest of the document."""
    failed, passed = host_scan.parse_xccdf(XCCDF.encode())
    assert failed == {
        "rule": "sshd_disable_root_login",
        "title": "Disable SSH Root Login",
        "severity": "medium",
        "result": "fail",
        "text": "The root user should never be allowed to login directly: PermitRootLogin no",
    }
    assert passed == {
        "rule": "package_nginx_removed",
        "title": "Uninstall nginx",
        "severity": "unknown",
        "result": "pass",
    }


@pytest.mark.parametrize(
    "text",
    ["", "no XML", XCCDF[: len(XCCDF) // 2], '<!DOCTYPE x [<!ENTITY a "aaaaaaaa">]><x>&a;</x>'],
)
def test_broken_or_hostile_results_are_refused(text: str) -> None:
    """The host that wrote them may be anybody's."""
    with pytest.raises(host_scan.ScanError):
        host_scan.parse_xccdf(text.encode())


def test_lynis_report_is_read() -> None:
    """Index, warnings and suggestions, with their details."""
    read = host_scan.parse_lynis(LYNIS)
    assert (read["version"], read["index"], read["tests"]) == ("3.1.7", 63, 262)
    assert read["warnings"] == [{"rule": "NETW-2705", "title": "Couldn't find 2 responsive nameservers", "text": ""}]
    assert [one["text"] for one in read["suggestions"]] == [
        "",
        "AllowTcpForwarding (set YES to NO)",
        "In /etc/security/limits.conf",
    ]


def test_half_a_lynis_report_is_refused() -> None:
    """Lynis ends with 0 when it cannot find its plugins."""
    with pytest.raises(host_scan.ScanError, match="did not finish"):
        host_scan.parse_lynis(LYNIS.partition("hardening_index")[0])


# --- packages ------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path) -> dict[str, str]:
    """Put a package's file into a folder, and return how it is pinned."""
    content = b"a package"
    (tmp_path / "from").mkdir()
    (tmp_path / "from/lynis_3.1.7+dfsg-1_all.deb").write_bytes(content)
    return {"name": "lynis", "version": "3.1.7+dfsg-1", "sha256": hashlib.sha256(content).hexdigest()}


def never(*_: Any, **__: Any) -> tuple[int, str, str]:
    """Run nothing."""
    raise AssertionError("no archive is to be asked")


def test_a_package_from_a_folder_is_kept_once(tmp_path: Path, package: dict[str, str]) -> None:
    """An archive is not asked, and a second run has nothing to do."""
    provide = partial(pinned_packages.provide, [package], [], str(tmp_path / "from"), tmp_path / "cache", never)
    assert provide() == ["lynis"]
    assert (tmp_path / "cache/lynis.deb").read_bytes() == b"a package"
    assert provide() == []


def test_another_file_than_the_pinned_is_refused(tmp_path: Path, package: dict[str, str]) -> None:
    """Whoever put it there."""
    (tmp_path / "from/lynis_3.1.7+dfsg-1_all.deb").write_bytes(b"another package")
    with pytest.raises(pinned_packages.PackageError, match=f"has to have {package['sha256']}"):
        pinned_packages.provide([package], [], str(tmp_path / "from"), tmp_path / "cache", never)
    assert not (tmp_path / "cache/lynis.deb").exists()


def test_the_next_archive_is_asked_for_what_the_first_has_no_more(
    tmp_path: Path, package: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that was superseded is found in an archive that forgets nothing; both are checked by Debian's keys."""
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    monkeypatch.setattr(pinned_packages, "KEYRING", keyring)
    asked = []

    def apt(command: list[str], cwd: str) -> tuple[int, str, str]:
        sources = next(word for word in command if word.startswith("-oDir::Etc::sourcelist=")).partition("=")[2]
        source = Path(sources).read_text().strip()
        if "download" in command:
            asked.append(source)
            if "snapshot" not in source:
                return 100, "", "E: Version '3.1.7+dfsg-1' for 'lynis' was not found"
            Path(cwd, "lynis_3.1.7%2bdfsg-1_all.deb").write_bytes(b"a package")
        return 0, "", ""

    sources = ["deb http://debian.test sid main", "deb [check-valid-until=no] http://snapshot.test sid main"]
    assert pinned_packages.provide([package], sources, None, tmp_path / "cache", apt) == ["lynis"]
    assert asked == [
        f"deb [signed-by={keyring}] http://debian.test sid main",
        f"deb [signed-by={keyring} check-valid-until=no] http://snapshot.test sid main",
    ]


def test_a_package_that_no_archive_has_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: dict[str, str]
) -> None:
    """With what apt said, and what to do."""
    monkeypatch.setattr(pinned_packages, "KEYRING", tmp_path)
    with pytest.raises(pinned_packages.PackageError, match=r"cannot get lynis 3\.1\.7\+dfsg-1(.|\n)*no route"):
        pinned_packages.provide(
            [package], ["deb http://debian.test sid main"], None, tmp_path, lambda *_, **__: (100, "", "no route")
        )


# --- ports ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_open_ports_are_found(address: str) -> None:
    """A TCP port that listens, and not its neighbour that does not."""
    with socket.socket(port_scan.family_of(address)) as server:
        try:
            server.bind((address, 0))
        except OSError:
            pytest.skip("this machine has no such address")
        server.listen()
        port = server.getsockname()[1]
        found = asyncio.run(port_scan.Scanner(address, 0.5, 10).scan(range(port, port + 1), []))
        assert found["tcp"] == [port]
        assert found["reached"]
    closed = asyncio.run(port_scan.Scanner(address, 0.5, 10).scan(range(port, port + 1), []))
    assert closed["tcp"] == []
    assert closed["reached"]


def test_udp_services_that_answer_are_found() -> None:
    """What answers is open; what refuses or keeps silent is not."""

    async def look() -> dict[str, Any]:
        loop = asyncio.get_running_loop()

        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def datagram_received(self, data: bytes, addr: Any) -> None:
                self.transport.sendto(data, addr)

        transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            quiet = silent.getsockname()[1]
            found = await port_scan.Scanner("127.0.0.1", 0.4, 5).scan(range(0), [port, quiet])
        transport.close()
        return {"found": found["udp"], "wanted": [port]}

    result = asyncio.run(look())
    assert result["found"] == result["wanted"]


# --- evidence ------------------------------------------------------------------------------------


def test_a_change_anywhere_below_a_folder_is_seen(tmp_path: Path) -> None:
    """Contents, modes, links, and files that come or go."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_text("one")
    seen = {b"".join(host_evidence.entries(tmp_path))}
    changes: list[Callable[[], object]] = [
        partial((tmp_path / "a/file").write_text, "two"),
        partial((tmp_path / "a/file").chmod, 0o600),
        partial((tmp_path / "a/link").symlink_to, "file"),
        partial((tmp_path / "a/link").rename, tmp_path / "a/other"),
        (tmp_path / "b").mkdir,
    ]
    for change in changes:
        change()
        seen.add(b"".join(host_evidence.entries(tmp_path)))
    assert len(seen) == 6


LUKS_DUMP = """LUKS header information
Version:       \t2
Epoch:         \t7
Metadata area: \t16384 [bytes]
Keyslots area: \t16744448 [bytes]
UUID:          \t6a0f8f7e-0000-4000-8000-000000000001
Label:         \tpryv_data
"""
TPM = {"type": "systemd-tpm2", "keyslots": ["1"]}
TANG = {"type": "clevis", "keyslots": ["1"]}
NOTE = {"type": "pryv-unlock", "keyslots": ["1"], "method": "tpm2", "policy": "7"}
KEYRING = {"type": "luks2-keyring", "keyslots": ["1"]}


def disk(folder: Path, kdfs: list[str], tokens: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is found of a LUKS2 disk with such slots and tokens."""
    header = {
        "keyslots": {str(number): {"key_size": 64, "kdf": {"type": kdf}} for number, kdf in enumerate(kdfs)},
        "tokens": {str(number): token for number, token in enumerate(tokens)},
        "segments": {"0": {"encryption": "aes-xts-plain64"}},
    }
    mount = {"source": "/dev/mapper/pryv_data", "target": str(folder), "fstype": "xfs"}
    said = {
        ("findmnt", "--json"): json.dumps({"filesystems": [mount]}),
        ("cryptsetup", "status"): "/dev/mapper/pryv_data is active and is in use.\n  device:  /dev/vdb\n",
        ("cryptsetup", "luksDump", "/dev/vdb"): LUKS_DUMP,
        ("cryptsetup", "luksDump", "--dump-json-metadata"): json.dumps(header),
    }

    def run(command: list[str], **_: Any) -> tuple[int, str, str]:
        text = next((text for start, text in said.items() if start == tuple(command[: len(start)])), None)
        return (0, text, "") if text is not None else (1, "", "")

    return host_evidence.disk(host_evidence.Host(run), str(folder))


@pytest.mark.parametrize(
    ("kdfs", "tokens", "passphrases"),
    [
        (["argon2id", "pbkdf2"], [TPM, NOTE], ["argon2id"]),
        (["argon2id", "pbkdf2"], [TANG, NOTE], ["argon2id"]),
        (["argon2id", "pbkdf2"], [NOTE], ["argon2id"]),
        (["pbkdf2", "pbkdf2"], [TPM, NOTE], ["pbkdf2"]),
        (["argon2id", "pbkdf2", "pbkdf2"], [TANG, NOTE], ["argon2id", "pbkdf2"]),
        (["argon2id", "pbkdf2"], [KEYRING], ["argon2id", "pbkdf2"]),
    ],
)
def test_passphrases_are_told_from_what_opens_a_disk_at_boot(
    tmp_path: Path, kdfs: list[str], tokens: list[dict[str, Any]], passphrases: list[str]
) -> None:
    """By the slots that tokens name, of which a disk with a TPM or tang has two for one slot."""
    found = disk(tmp_path, kdfs, tokens)["luks"]
    assert found["passphrase_kdfs"] == passphrases
    assert found["key_bits"] == [512] * len(kdfs)


def test_the_state_of_a_header_is_read(tmp_path: Path) -> None:
    """By which its copies are named."""
    found = disk(tmp_path, ["argon2id"], [])["luks"]
    assert (found["uuid"], found["epoch"]) == ("6a0f8f7e-0000-4000-8000-000000000001", 7)


ACCOUNTS = {
    "/etc/passwd": "root:x:0:0::/root:/bin/bash\nalice:x:1000:1000::/home/alice:/bin/bash\n"
    "bob:x:1001:1001::/home/bob:/bin/bash\nnginx:x:33:33::/nonexistent:/usr/sbin/nologin\n",
    "/etc/group": "sudo:x:27:bob\npryv-admins:x:998:alice,bob\n",
    "/etc/shadow": "root:*:1::::::\nalice:!:1::::::\nbob:!:1::::::\n",
    "/home/alice/.ssh/authorized_keys": "ssh-ed25519 AAAA left\n# ssh-rsa AAAA comment\nssh-ed25519 AAAB here\n",
}
ADMINISTRATORS = "# Keys of the administrators.\nalice ssh-ed25519 AAAC\nbob ssh-ed25519 AAAD\nbob ssh-rsa AAAE\n"
SUDOERS = "# Written by Ansible\nDefaults use_pty\n\nalice ALL=(ALL:ALL) NOPASSWD: ALL\n\nbob ALL=(ALL:ALL) !ALL\n"


@pytest.mark.parametrize(
    ("files", "keys", "superusers"),
    [
        (
            {"/etc/ssh/administrators": ADMINISTRATORS, "/etc/sudoers.d/zz-pryv": SUDOERS},
            {"root": 0, "alice": 1, "bob": 2},
            ["alice"],
        ),
        ({}, {"root": 0, "alice": 2, "bob": 0}, []),
        ({"/etc/ssh/administrators": "# Nobody.\n"}, {"root": 0, "alice": 2, "bob": 0}, []),
    ],
    ids=["hardened", "not hardened", "hardened without administrators"],
)
def test_who_can_log_in_is_told_by_what_sshd_and_sudo_read(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], keys: dict[str, int], superusers: list[str]
) -> None:
    """Keys in homes count where sshd looks there; being in a group does not make anybody root."""
    monkeypatch.setattr(host_evidence, "text_of", {**ACCOUNTS, **files}.get)
    found = host_evidence.people()
    assert {person["name"]: person["keys"] for person in found} == keys
    assert [person["name"] for person in found if person["root"]] == superusers
    assert not any(person["password"] for person in found)


def test_containers_environments_are_left_out() -> None:
    """They may hold secrets."""
    found = host_evidence.container(
        {
            "Name": "/pryv-core-core-1",
            "Config": {"Image": "core", "Env": ["PASSWORD=secret"], "User": ""},
            "HostConfig": {
                "Privileged": False,
                "ReadonlyRootfs": False,
                "RestartPolicy": {"Name": "always"},
                "LogConfig": {"Type": "local"},
                "PidsLimit": None,
            },
            "NetworkSettings": {"Ports": {"3000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "3000"}], "9000/tcp": None}},
            "Mounts": [{"Source": "/etc/pryv/core/core", "RW": False}],
            "State": {},
        }
    )
    assert "secret" not in str(found)
    assert found["published"] == ["127.0.0.1|3000"]
    assert found["user"] == "root"


NFT = """table inet pryv {
	chain input {
		type filter hook input priority filter; policy drop;
		iif "lo" accept
	}

	chain forward {
		type filter hook forward priority filter - 10; policy accept;
	}
}
"""


def chain(family: str, table: str, name: str, policy: str = "accept", rules: int = 0) -> list[dict[str, Any]]:
    """A base chain as nft lists it in JSON."""
    where = {"family": family, "table": table}
    rule = {"rule": {**where, "chain": name, "expr": []}}
    return [{"chain": {**where, "name": name, "hook": "input", "prio": 0, "policy": policy}}, *([rule] * rules)]


@pytest.mark.parametrize("as_it_should_be", [True, False])
def test_the_firewall_is_read(as_it_should_be: bool) -> None:
    listed = [
        {"metainfo": {"version": "1.1.3"}},
        *chain("inet", "pryv", "input", "drop", 9),
        *chain("ip", "filter", "FORWARD", "drop", 3),
        *chain("ip", "nat", "PREROUTING", rules=1),
        *chain("ip", "filter", "INPUT"),
        *chain("ip6", "filter", "INPUT", "drop"),
        *chain("inet", "company", "input", rules=1),
    ]

    def run(command: list[str], **_: Any) -> tuple[int, str, str]:
        if command == ["check", "it all"]:
            return (0 if as_it_should_be else 1), "", ""
        return 0, json.dumps({"nftables": listed}) if "--json" in command else NFT, ""

    assert host_evidence.firewall(host_evidence.Host(run), "check 'it all'") == {
        "policies": {"input": "drop", "forward": "accept"},
        "as_it_should_be": as_it_should_be,
        "others": ["ip6 filter INPUT", "inet company input"],
    }


def test_security_updates_are_told_from_others() -> None:
    """As apt plans them."""

    def run(command: list[str], **_: Any) -> tuple[int, str, str]:
        if command[0] == "apt-get":
            return 0, (
                "Inst libkrb5-3 [1.21.3-5] (1.21.3-5+deb13u2 Debian-Security:13/stable-security [amd64]) []\n"
                "Inst base-files [13.8] (13.8+deb13u2 Debian:13.2/stable [amd64])\n"
                "Inst linux-image-6.12 (6.12.57-1 Debian-Security:13/stable-security [amd64])\n"
            ), ""  # fmt: skip
        return 1, "", ""

    found = host_evidence.updates(host_evidence.Host(run))
    assert found["security"] == ["libkrb5-3", "linux-image-6.12"]
    assert found["others"] == 1
    assert not found["automatic"]


KEYS = Path(__file__).parents[2] / "roles/registry/templates/root/etc/nginx/conf.d/registry_keys.conf.j2"


@pytest.mark.parametrize(
    "after", ["", "# configuration file /etc/nginx/conf.d/zones.conf:\nmap $a $b {\n  ~^x$ 1;\n}\n"]
)
def test_the_proxys_configuration_is_shown_without_keys(after: str) -> None:
    """What holds one does not leave the host, whatever a key looks like; the rest stays as nginx reads it."""
    before = "# configuration file /etc/nginx/nginx.conf:\nmap $a $b {\n    ~^x$ 1;\n}\n\n"
    keys = jinja2.Environment(trim_blocks=True, autoescape=True).from_string(KEYS.read_text())
    written = keys.render(registry_administrators_keys=["s3cret", "# s3cret; } default 0;"])

    def run(command: list[str], **_: Any) -> tuple[int, str, str]:
        shown = f"{before}# configuration file /etc/nginx/conf.d/registry_keys.conf:\n{written}\n\n{after}"
        return (0, shown, "") if command[:2] == ["nginx", "-T"] else (1, "", "")

    shown = host_evidence.proxy(host_evidence.Host(run))
    assert shown
    assert "s3cret" not in shown
    assert shown.startswith(before)
    assert shown.endswith(f"    default 0;\n    masked 1;\n    masked 1;\n}}\n\n{after}")
    assert "map $http_authorization $registry_administrator {" in shown
    assert host_evidence.proxy(host_evidence.Host(lambda *_, **__: (1, "", ""))) is None
