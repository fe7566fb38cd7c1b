"""Stands in for dns: the platform's authoritative name server."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import config as c
from . import registry
from .process import LOG, say
from .redis import RedisError
from .register import Register
from .web import Recorder, serve

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "MX": 15, "TXT": 16, "AAAA": 28, "DNSKEY": 48, "CAA": 257}
NAMES = {number: name for name, number in TYPES.items()}


@dataclass(frozen=True)
class Record:
    """A resource record of class IN.

    Attributes:
        name: Owner, as it was asked for.
        type: One of TYPES.
        data: What its type holds, in the order of the zone file format.
    """

    name: str
    type: str
    data: tuple[Any, ...]


@dataclass
class Answer:
    """The three sections of a response."""

    answers: list[Record] = field(default_factory=list)
    authority: list[Record] = field(default_factory=list)
    additional: list[Record] = field(default_factory=list)


class Zone:
    """What is answered to a question.

    Args:
        config: A prepared configuration.
        server_of: Host name of a user's core, None for nobody's name.
    """

    def __init__(self, config: Mapping[str, Any], server_of: Callable[[str], str | None]) -> None:
        """Keeps both."""
        self._dns = config["dns"]
        # Seconds that an answer may be kept; one value for all.
        self.ttl = int(self._dns.get("defaultTTL") or 3600)
        self._server_of = server_of

    def answer(self, name: str, kind: str) -> Answer:
        """Answers a question; to an unknown name with nothing.

        The real server answers a fixed name with all it has, whatever the type asked for.

        Args:
            name: The name asked for, without the final dot.
            kind: The type asked for.
        """
        key = name.lower()
        if key in self._dns["domains"]:
            return self._apex(name, kind)
        label = next(
            (key.removesuffix(f".{domain}") for domain in self._dns["domains"] if key.endswith(f".{domain}")), None
        )
        if label is None:
            return Answer()
        entry = self._dns["staticDataInDomain"].get(label)
        if entry is not None:
            return _records(name, entry)
        server = self._server_of(label) if registry.username(label) == label else None
        if server is None:
            return Answer()
        user = {"alias": [{"name": server}]}
        if kind == "NS":
            user["nameserver"] = self._dns["nameserver"]
        return _records(name, user, soa=self._soa() if kind == "SOA" else None)

    def _apex(self, name: str, kind: str) -> Answer:
        dns = self._dns
        if kind == "CAA":
            return _records(name, {"caa": dns["certificateAuthorityAuthorization"]})
        if kind == "MX":
            return _records(name, {"mail": dns.get("mail") or []})
        if kind == "NS":
            return _records(name, {"nameserver": dns["nameserver"]})
        if kind in ("SOA", "DNSKEY"):
            return _records(name, {}, soa=self._soa())
        if kind == "TXT":
            return _records(name, dns["rootTXT"])
        root = {"nameserver": dns["nameserver"], "ip": dns["domain_A"], "mail": dns.get("mail") or []}
        return _records(name, root, soa=self._soa())

    def _soa(self) -> tuple[Any, ...]:
        return (self._dns["name"], f"admin.{self._dns['domain']}", 0, 1800, 900, 604800, 86400)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _records(name: str, entry: Mapping[str, Any], soa: tuple[Any, ...] | None = None) -> Answer:
    """Turns an entry of the configuration into records, in the real server's order."""
    answer = Answer()
    if soa is not None:
        answer.answers.append(Record(name, "SOA", soa))
    for key, value in entry.items():
        for item in _list(value):
            if key == "ip":
                answer.answers.append(Record(name, "A", (item,)))
            elif key == "description":
                answer.answers.append(Record(name, "TXT", (item,)))
            elif key == "alias":
                answer.answers.append(Record(name, "CNAME", (item["name"].replace("{name}", name),)))
                answer.answers += [Record(item["name"], "A", (ip,)) for ip in _list(item.get("ip") or [])]
            elif key == "nameserver":
                target = item["name"].replace("{name}", name)
                answer.answers.append(Record(name, "NS", (target,)))
                answer.authority.append(Record(name, "NS", (target,)))
                answer.additional += [Record(target, "A", (ip,)) for ip in _list(item.get("ip") or [])]
            elif key == "mail":
                answer.answers.append(Record(name, "MX", (item["priority"], item["name"])))
                answer.additional += [Record(item["name"], "A", (ip,)) for ip in _list(item.get("ip") or [])]
            elif key == "caa":
                answer.answers.append(
                    Record(name, "CAA", (item.get("flag", 0), item.get("tag", "issue"), item["issuer"]))
                )
    return answer


def respond(query: bytes, zone: Zone) -> tuple[bytes, str, str] | None:
    """Makes the response to a message.

    Args:
        query: The message.
        zone: Gives the answer.

    Returns:
        The response, and the name and type asked for; None for what is no question.
    """
    if len(query) < 12:
        return None
    number, flags, questions = struct.unpack("!HHH", query[:6])
    if flags & 0x8000 or not questions:
        return None
    labels, end = [], 12
    while length := query[end]:
        labels.append(query[end + 1 : end + 1 + length].decode("latin-1"))
        end += 1 + length
    (kind,) = struct.unpack("!H", query[end + 1 : end + 3])
    name = ".".join(labels)
    answer = zone.answer(name, NAMES.get(kind, str(kind)))
    sections = (answer.answers, answer.authority, answer.additional)
    # Authoritative, recursion not available; all else of the flags as in the question.
    header = struct.pack("!HHHHHH", number, 0x8400 | flags & 0x7970, 1, *(len(section) for section in sections))
    records = b"".join(_encode(record, zone.ttl) for section in sections for record in section)
    return header + query[12 : end + 5] + records, name, NAMES.get(kind, str(kind))


def _encode(record: Record, ttl: int) -> bytes:
    data = _DATA[record.type](*record.data)
    return _name(record.name) + struct.pack("!HHIH", TYPES[record.type], 1, ttl, len(data)) + data


def _name(name: str) -> bytes:
    labels = [label.encode("latin-1") for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _text(text: str) -> bytes:
    data = text.encode()
    parts = [data[start : start + 255] for start in range(0, len(data), 255)] or [b""]
    return b"".join(bytes([len(part)]) + part for part in parts)


_DATA: dict[str, Callable[..., bytes]] = {
    "A": socket.inet_aton,
    "NS": _name,
    "CNAME": _name,
    "SOA": lambda server, admin, *numbers: _name(server) + _name(admin) + struct.pack("!5I", *numbers),
    "MX": lambda priority, name: struct.pack("!H", priority) + _name(name),
    "TXT": _text,
    "CAA": lambda flag, tag, issuer: bytes([flag, len(tag)]) + tag.encode() + issuer.encode(),
}


def run(conf: Path) -> None:
    """Starts the service.

    Args:
        conf: Folder of its configuration.
    """
    config = c.load(conf / "dns.json")
    registry.prepare(config)
    recorder = Recorder(LOG / "requests.jsonl")
    # The real one opens its port before its database has answered.
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((config["dns"]["ip"], int(config["dns"]["port"])))
    say(f"dns listens on {config['dns']['ip']}:{config['dns']['port']}/udp")
    users = registry.connect(config)

    def server_of(name: str) -> str | None:
        try:
            return users.server(name)
        except (RedisError, OSError) as error:
            say(f"DNS: {error}")
            return None

    # One program with register: it answers HTTP as well, from the same database.
    serve("dns", "", [int(config["server"]["port"])], Register(config, users).answer)
    zone = Zone(config, server_of)
    while True:
        query, client = server.recvfrom(4096)
        try:
            response = respond(query, zone)
        except (IndexError, struct.error):
            continue  # not a DNS message
        if response is not None:
            server.sendto(response[0], client)
            recorder.write({"service": "dns", "client": client[0], "name": response[1], "type": response[2]})
