"""Firewalls of others on a machine: what they drop, and what they let through."""

from __future__ import annotations

import json
import re
import shlex
import typing as t
from pathlib import Path

Run = t.Callable[[list[str]], tuple[int, str, str]]


class Rule(t.NamedTuple):
    """What a rule of a firewall does.

    Attributes:
        verdict: C(accept), C(drop), or the chain that it goes on with; none for what only counts and logs.
        always: Whether it applies to all packets.
        opens: What it applies to: C(tcp/443), and C(containers) for what comes from Docker's interfaces.
    """

    verdict: str | None
    always: bool
    opens: list[str]


class Chain:
    """A chain of a firewall: the hook it sees, its policy, its rules."""

    def __init__(self, hook: str | None = None, policy: str = "accept") -> None:
        """Make one without rules."""
        self.hook, self.policy = hook, policy
        self.rules: list[Rule] = []


#: Chains by name, by family and name of their table.
Tables = dict[tuple[str, str], dict[str, Chain]]


def nft_tables(listed: t.Iterable[dict[str, t.Any]]) -> Tables:
    """Return what C(nft --json list ruleset) says."""
    tables: Tables = {}
    sets: dict[tuple[str, str, str], list[t.Any]] = {}
    for entry in listed:
        kind, content = next(iter(entry.items()))
        place = (content.get("family", ""), content.get("table", ""))
        if kind == "set":
            sets[(*place, f"@{content['name']}")] = content.get("elem", [])
        elif kind == "chain":
            hook = content.get("hook") if content.get("type") == "filter" else None
            tables.setdefault(place, {})[content["name"]] = Chain(hook, content.get("policy", "accept"))
        elif kind == "rule":
            named = {name: items for (*where, name), items in sets.items() if tuple(where) == place}
            tables[place][content["chain"]].rules.append(nft_rule(content["expr"], named))
    return tables


def nft_rule(expressions: list[dict[str, t.Any]], sets: t.Mapping[str, list[t.Any]]) -> Rule:
    """Return what the expressions of a rule come to."""
    verdict, always = None, True
    opens: list[str] = []
    for expression in expressions:
        kind, content = next(iter(expression.items()))
        # Older ones say of iptables' extensions only that there is one.
        target = content.get("name", "") if kind == "xt" and content and content.get("type") == "target" else kind
        if target.lower() in ("accept", "drop", "reject"):
            verdict = "accept" if target.lower() == "accept" else "drop"
        elif kind in ("jump", "goto"):
            verdict = content["target"]
        elif kind == "match":
            always = False
            opens += nft_opens(content["left"], content["right"], sets)
        elif kind == "vmap":
            always = False
            pairs = content["data"].get("set", []) if isinstance(content["data"], dict) else []
            accepted = [key for key, result in pairs if "accept" in result]
            if found := nft_opens(content["key"], {"set": accepted}, sets):
                verdict, opens = "accept", opens + found
        elif kind not in ("counter", "log") and kind == target:
            always = False
    return Rule(verdict, always, opens)


def nft_opens(left: t.Any, right: t.Any, sets: t.Mapping[str, list[t.Any]]) -> list[str]:
    """Return the ports that a match names, or that it is about Docker's interfaces."""
    if isinstance(right, dict) and "set" in right:
        values = right["set"]
    else:
        values = sets.get(right, [right]) if isinstance(right, str) else [right]
    if isinstance(left, dict) and left.get("meta", {}).get("key") in ("iifname", "iif"):
        return ["containers"] if any(str(value).startswith(("docker0", "br-")) for value in values) else []
    payload = left.get("payload", {}) if isinstance(left, dict) else {}
    if payload.get("field") != "dport":
        return []
    protocols = ("tcp", "udp") if payload.get("protocol") == "th" else (payload["protocol"],)
    ports: list[str] = []
    plain = [value["elem"]["val"] if isinstance(value, dict) and "elem" in value else value for value in values]
    for value in plain:
        first, last = value["range"] if isinstance(value, dict) and "range" in value else (value, value)
        if isinstance(first, int) and isinstance(last, int):
            ports += [f"{protocol}/{ports_text(first, last)}" for protocol in protocols]
    return ports


def ports_text(first: int, last: int) -> str:
    """Return a range of ports as text: ``22``, ``8000-8080``."""
    return str(first) if first == last else f"{first}-{last}"


def iptables_tables(text: str, family: str) -> Tables:
    """Return what iptables-save says.

    Args:
        text: Its output.
        family: C(ip) or C(ip6).
    """
    chains: dict[str, Chain] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif table == "filter" and line.startswith(":"):
            name, policy = line[1:].split()[:2]
            hook = {"INPUT": "input", "FORWARD": "forward"}.get(name)
            chains[name] = Chain(hook, "drop" if policy == "DROP" else "accept")
        elif table == "filter" and line.startswith("-A "):
            _, chain, *words = shlex.split(line)
            chains[chain].rules.append(iptables_rule(words))
    return {(family, "filter"): chains} if chains else {}


def iptables_rule(words: list[str]) -> Rule:
    """Return what a rule of iptables comes to."""
    at = next((index for index, word in enumerate(words) if word in ("-j", "-g")), len(words))
    target = words[at + 1] if at < len(words) else None
    verdict = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "drop", "LOG": None}.get(target or "LOG", target)
    conditions = " ".join(words[:at])
    always = not re.sub(r"-m comment --comment .*?(?= -|$)", "", conditions).strip()
    protocol = re.search(r"-p (\w+)", conditions)
    ports = re.search(r"(?<!! )--dports? ([\d,:]+)", conditions)
    opens = ["containers"] if re.search(r"(?<!! )-i (docker0|br-)", conditions) else []
    for item in ports[1].split(",") if ports and protocol else ():
        first, _, last = item.partition(":")
        opens += [f"{protocol[1]}/{ports_text(int(first), int(last or first))}"] if protocol else []
    return Rule(verdict, always, opens)


def drops(chains: t.Mapping[str, Chain], name: str, seen: frozenset[str] = frozenset()) -> bool:
    """Tell whether a chain has a rule, of its own or of one that it goes on with, that drops all that comes to it."""
    return name in chains and any(
        rule.always
        and rule.verdict not in (None, "accept")
        and (rule.verdict == "drop" or (rule.verdict not in seen and drops(chains, str(rule.verdict), seen | {name})))
        for rule in chains[name].rules
    )


def firewalls(tables: Tables) -> list[dict[str, t.Any]]:
    """Return the chains of others that drop what they do not know."""
    found: dict[tuple[str, str], set[str]] = {}
    for (family, table), chains in tables.items():
        if (family, table) == ("inet", "pryv") or table == "docker-bridges":
            continue
        for name, chain in chains.items():
            # Docker puts its own rules first in iptables' forwarding, and has firewalld let its interfaces through.
            is_passed = chain.hook == "forward" and ((family != "inet" and table == "filter") or table == "firewalld")
            if chain.hook not in ("input", "forward") or is_passed:
                continue
            if chain.policy != "drop" and not drops(chains, name):
                continue
            title = f"table {family} {table}"
            if any(other.startswith(("ufw-", "ufw6-")) for other in chains):
                title = "ufw"
            elif table == "firewalld":
                title = "firewalld"
            elif name == "INPUT":
                title = "iptables"
            rules = [rule for other in chains.values() for rule in other.rules if rule.verdict == "accept"]
            found.setdefault((title, chain.hook), set()).update(port for rule in rules for port in rule.opens)
    return [{"name": name, "hook": hook, "open": sorted(opens)} for (name, hook), opens in found.items()]


def loaded_tables(run: Run) -> Tables:
    """Return all tables of packet filters, whichever programs are there to ask."""
    tables: Tables = {}
    if Path("/usr/sbin/nft").exists():
        status, listed, _ = run(["/usr/sbin/nft", "--json", "list", "ruleset"])
        tables = nft_tables(json.loads(listed)["nftables"]) if status == 0 and listed else {}
    # It knows its own matches, which nft can only name; and what the kernel's older tables hold.
    for program in ("iptables-save", "ip6tables-save", "iptables-legacy-save", "ip6tables-legacy-save"):
        if Path("/usr/sbin", program).exists():
            status, saved, _ = run([f"/usr/sbin/{program}"])
            found = iptables_tables(saved, "ip6" if program.startswith("ip6") else "ip") if status == 0 else {}
            for (family, table), chains in found.items():
                tables[(family, f"{table} (legacy)") if "legacy" in program else (family, table)] = chains
    return tables
