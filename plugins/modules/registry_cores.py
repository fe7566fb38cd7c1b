"""Find out which cores the registry may be told about."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.named_https import Connection, trust

DOCUMENTATION = r"""
module: registry_cores
author: The Pryv Ansible authors
version_added: "0.1.0"
short_description: Find out which cores the registry may be told about
description:
  - Runs on a registry host and changes nothing.
  - The registry may know the cores that it already knows and that are still in the inventory, and new cores that answer
    now. So a new core gets users only once it can serve them, and a core that is down for a while is not forgotten.
  - Fails when a core that has users is missing from the inventory or is in another zone than before, and when the
    domain is another one and there are users. Users on a core that the registry does not know either are told of in a
    warning.
options:
  domain:
    description: The platform's domain.
    type: str
    required: true
  cores:
    description:
      - The cores of the inventory by name, each with C(zone), its privacy zone, C(address), where other hosts reach
        it, and C(accepts_users), which is false while the core is drained.
    type: dict
    required: true
  settings:
    description:
      - The configuration of the registry that runs on this host, with port and password of its Redis, which is on
        loopback as well. On a new host there is none.
    type: path
    required: true
  ca:
    description: What to trust when talking to the cores.
    type: path
    required: true
  replicated:
    description: Whether followers copy the database. It is then said when its Redis cannot keep them from writing.
    type: bool
    default: false
  probe:
    description:
      - Whether to ask new cores if they answer. Without, none is in RV(cores); enough to check an inventory.
      - In check mode new cores count as answering, because a real run would have set them up before.
    type: bool
    default: true
  timeout:
    description: How long a core may take to answer, in seconds.
    type: int
    default: 10
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
"""

EXAMPLES = r"""
- name: Find the cores that the registry may know
  registry_cores:
    domain: example.org
    cores:
      co1: {zone: ch, address: 10.0.0.11, accepts_users: true}
      co2: {zone: ch, address: 10.0.0.12, accepts_users: false}
  register: registry_known
"""

RETURN = r"""
cores:
  description: Names of the cores that the registry may know, in order.
  returned: success
  type: list
  elements: str
left_out:
  description: New cores that do not answer, and what was seen instead.
  returned: success
  type: dict
users:
  description: Number of users by core; none when the registry's database does not answer, as on a new host.
  returned: success
  type: dict
strays:
  description: Number of users on cores that neither the registry nor the inventory knows, by core.
  returned: success
  type: dict
redis_version:
  description: Version of the Redis that runs; empty when none answers.
  returned: success
  type: str
"""


#: The first major version of Redis with users that may not do everything.
FIRST_WITH_USERS = 6
#: How many users of a core are named.
SHOWN = 10


class RedisError(Exception):
    """Redis refused a command or closed the connection."""


class Redis:
    """The few words of Redis's protocol that counting takes; Redis's own client may not be on the host.

    Args:
        port: Port on loopback.
        password: Password, empty for none.
        timeout: Seconds to wait for an answer.

    Raises:
        OSError: Nothing listens there.
        RedisError: The password is wrong.
    """

    def __init__(self, port: int, password: str, timeout: float) -> None:
        """Connect and log in."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._replies = self._socket.makefile("rb")
        if password:
            self.call("AUTH", password)

    def close(self) -> None:
        """Close the connection."""
        self._replies.close()
        self._socket.close()

    def call(self, *words: str) -> Any:
        """Send a command and return its reply.

        Raises:
            RedisError: Redis answers with an error.
        """
        encoded = [word.encode() for word in words]
        self._socket.sendall(
            b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)
        )
        return self._reply()

    def _reply(self) -> Any:
        line = self._replies.readline()
        if not line:
            raise RedisError("Redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b"$":
            return None if rest == b"-1" else self._replies.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return [self._reply() for _ in range(int(rest))]
        return rest.decode()


def known_cores(net: dict[str, Any]) -> dict[str, str]:
    """Read the cores and their zones out of the ``net`` section that filter ``registry_net`` makes.

    Args:
        net: The section, in either of its forms.

    Returns:
        Zone by core.
    """
    if "hostings" in net:
        return {core: zone for zone, cores in net["hostings"].items() for core in cores}
    return {
        str(urlsplit(server["base_url"]).hostname).split(".")[0]: zone.removeprefix("-")
        for zone, servers in net.get("aaservers", {}).items()
        for server in servers
    }


def find_users(redis: Redis, domain: str) -> dict[str, list[str]]:
    """Find the users of each core.

    Args:
        redis: The registry's database, in which ``<user>:server`` is the host name of the user's core.
        domain: The platform's domain.

    Returns:
        Users by core; a server outside the domain keeps its whole name.
    """
    servers: dict[str, str] = {}
    cursor = "0"
    while True:
        cursor, keys = redis.call("SCAN", cursor, "MATCH", "*:server", "COUNT", "1000")
        if keys:
            servers.update(zip(keys, redis.call("MGET", *keys), strict=True))
        if cursor == "0":
            break
    users: dict[str, list[str]] = {}
    for key, server in servers.items():
        # The program's own test user is on no core: its server is the domain itself. A user deleted meanwhile has none.
        if server not in (domain, None):
            users.setdefault(server.removesuffix("." + domain), []).append(key.removesuffix(":server"))
    return users


def redis_version(redis: Redis) -> str:
    """Return the version of a database's server, such as 7.0.15."""
    lines = redis.call("INFO", "server").splitlines()
    return str(dict(line.split(":", 1) for line in lines if ":" in line)["redis_version"])


def people(number: int | None) -> str:
    """Return a number of users in words; None when nobody knows it."""
    return "an unknown number of users" if number is None else "1 user" if number == 1 else f"{number} users"


def problems(known: dict[str, str], inventory: dict[str, Any], users: dict[str, int] | None) -> list[str]:
    """Say which cores must not go or move.

    Args:
        known: Zone by core, as the registry knows it.
        inventory: The cores of the inventory, each with its ``zone``.
        users: Number of users by core; None when they cannot be counted.

    Returns:
        One sentence for each problem.
    """
    found = []
    for core in sorted(known):
        number = None if users is None else users.get(core, 0)
        if number == 0:
            continue
        if core not in inventory:
            found.append(
                f"core {core} is not in the inventory, but the registry has {people(number)} on it: put it back, with "
                "accepts_users: false so that it takes no new ones, and remove it once its users are moved or deleted"
            )
        elif known[core] != inventory[core]["zone"]:
            found.append(
                f"core {core} is in zone {inventory[core]['zone']}, but the registry has {people(number)} on it in "
                f"zone {known[core]}: a core with users keeps its zone; put it back into {known[core]}"
            )
    return found


def renamed(old: str, new: str, users: int | None) -> tuple[bool, str]:
    """Say what another domain means for a registry that runs.

    Args:
        old: The domain that it serves.
        new: The domain of the inventory.
        users: How many users it has; None when they cannot be counted.

    Returns:
        Whether it is to be refused, and what to say.
    """
    changed = f"pryv_domain was {old} when this registry was set up, and is {new} now"
    if users == 0:
        return False, (
            f"{changed}. All names of the platform change; nobody is registered, so nobody loses an address. Delegate "
            f"{new} to the name servers, and have a certificate for it: see docs/operations/certificate.md."
        )
    return True, (
        f"{changed}, but the registry has {people(users)} there: their addresses, and all links and tokens that "
        f"applications hold, end with {old}. Put pryv_domain back. Another domain is another platform, with an "
        "inventory and hosts of its own, to which Pryv's tools move users."
    )


def stray_users(strays: dict[str, list[str]]) -> str:
    """Say who is on cores that nobody knows.

    Args:
        strays: Users by core.
    """
    shown = [
        f"{core}: {', '.join(sorted(names)[:SHOWN])}{' …' if len(names) > SHOWN else ''}"
        for core, names in sorted(strays.items())
    ]
    return (
        f"{people(sum(map(len, strays.values()))).upper()} ON CORES THAT NOBODY KNOWS ({'; '.join(shown)}). "
        "Nobody can reach them, and who looks for one gets no answer. See docs/operations/remove-a-user.md."
    )


def why_silent(name: str, address: str, context: ssl.SSLContext, timeout: float) -> str | None:
    """Ask a core whether it serves.

    Args:
        name: Its full host name, which its certificate must carry.
        address: Where to reach it.
        context: What to trust.
        timeout: Seconds to wait for each of its answers.

    Returns:
        None when it answers, else what was seen.
    """
    try:
        status = Connection(address, name, context, timeout).status("/status")
    except (OSError, http.client.HTTPException) as error:
        return f"https://{name}/status at {address}: {error}"
    return None if status == http.HTTPStatus.OK else f"https://{name}/status at {address}: HTTP status {status}"


def probe(cores: dict[str, Any], domain: str, ca: str, timeout: float) -> dict[str, str]:
    """Ask several cores at once whether they serve.

    Args:
        cores: The cores by name, each with its ``address``.
        domain: The platform's domain.
        ca: File of the certificates to trust.
        timeout: Seconds to wait for each answer.

    Returns:
        What was seen, by core that does not answer.

    Raises:
        OSError: The file of certificates cannot be read.
    """
    if not cores:
        return {}
    context = trust(ca)
    with ThreadPoolExecutor(max_workers=16) as pool:
        seen = pool.map(lambda core: why_silent(f"{core}.{domain}", cores[core]["address"], context, timeout), cores)
        return {core: reason for core, reason in zip(cores, seen, strict=True) if reason}


def registry_state(module: AnsibleModule) -> tuple[dict[str, Any], dict[str, list[str]] | None, str]:
    """Read what runs on this host.

    Args:
        module: With the parameters C(settings) and C(timeout).

    Returns:
        The registry's configuration, empty on a new host; its users by core, None when its database does not answer;
        and the version of that, empty then.
    """
    path = Path(module.params["settings"])
    if not path.exists():
        return {}, None, ""
    settings: dict[str, Any] = json.loads(path.read_text())
    database = settings["redis"]
    try:
        with closing(Redis(database["port"], database.get("password", ""), module.params["timeout"])) as redis:
            return settings, find_users(redis, settings.get("domain", module.params["domain"])), redis_version(redis)
    except (OSError, RedisError) as error:
        module.warn(f"The registry's database does not answer on {database['port']}: {error}.")
        return settings, None, ""


def refuse_losses(module: AnsibleModule, old_domain: str, known: dict[str, str], counts: dict[str, int] | None) -> None:
    """Fail when the inventory would leave users behind, and warn when it gives a registry without any a new domain.

    Args:
        module: With the parameters C(domain) and C(cores).
        old_domain: The domain that the registry serves.
        known: Zone by core, as the registry knows it.
        counts: Number of users by core; None when they cannot be counted.
    """
    domain = module.params["domain"]
    found, remedy = problems(known, module.params["cores"], counts), ""
    if old_domain == domain:
        remedy = " See docs/operations/remove-a-core.md."
    else:
        refused, text = renamed(old_domain, domain, None if counts is None else sum(counts.values()))
        if refused:
            found = [text]
        else:
            module.warn(text)
    if found:
        module.fail_json(msg=f"The registry was not changed: {'; '.join(found)}.{remedy}", users=counts)


def silent(module: AnsibleModule, new: dict[str, Any]) -> dict[str, str]:
    """Find the new cores that do not answer, and warn of each.

    Args:
        module: With the parameters C(domain), C(ca), C(probe) and C(timeout).
        new: Cores that the registry does not know.

    Returns:
        What was seen, by core.
    """
    if not module.params["probe"]:
        return dict.fromkeys(new, "not asked")
    if module.check_mode:
        return {}
    found = probe(new, module.params["domain"], module.params["ca"], module.params["timeout"])
    for core, reason in found.items():
        module.warn(
            f"NEW CORE {core} IS LEFT OUT of the registry, because it does not answer ({reason}). "
            "No user is sent to it. Mend it and run site.yml again."
        )
    return found


def warn_of_closed_zones(module: AnsibleModule, known: dict[str, str], cores: list[str]) -> None:
    """Name the zones that no new user can choose.

    Args:
        module: With the parameter C(cores).
        known: Zone by core, as the registry knows it.
        cores: Cores that the registry may know.
    """
    inventory = module.params["cores"]
    closed = {facts["zone"] for facts in inventory.values()} | set(known.values())
    for zone in sorted(closed - {inventory[core]["zone"] for core in cores if inventory[core]["accepts_users"]}):
        module.warn(f"ZONE {zone} TAKES NO NEW USERS: the inventory has no core in it that accepts users and answers.")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "domain": {"type": "str", "required": True},
            "cores": {"type": "dict", "required": True},
            "settings": {"type": "path", "required": True},
            "ca": {"type": "path", "required": True},
            "replicated": {"type": "bool", "default": False},
            "probe": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    inventory = module.params["cores"]
    settings, users, version = registry_state(module)
    counts = None if users is None else {core: len(names) for core, names in users.items()}
    if version and int(version.partition(".")[0]) < FIRST_WITH_USERS and module.params["replicated"]:
        module.warn(
            f"REDIS {version} KNOWS NO USERS, which came with {FIRST_WITH_USERS}.0: followers have the leader's "
            "password and can write there. Set registry_images.redis to an image with a newer one."
        )
    known = known_cores(settings.get("net", {}))
    refuse_losses(module, settings.get("domain", module.params["domain"]), known, counts)
    strays = {core: names for core, names in (users or {}).items() if core not in known and core not in inventory}
    if strays:
        module.warn(stray_users(strays))
    stray_counts = {core: len(names) for core, names in strays.items()}
    left_out = silent(module, {core: facts for core, facts in inventory.items() if core not in known})
    cores = [core for core in sorted(inventory) if core not in left_out]
    if module.params["probe"]:
        if not cores:
            message = "No core answers, and a registry without a core cannot start. Set up a core first."
            module.fail_json(msg=message, left_out=left_out)
        warn_of_closed_zones(module, known, cores)
    module.exit_json(
        changed=False, cores=cores, left_out=left_out, users=counts, strays=stray_counts, redis_version=version
    )


if __name__ == "__main__":
    main()
