"""What a follower of the registry can do on the leader: copy its database, and nothing else."""

from __future__ import annotations

import os
import sys
import time
from http import HTTPStatus
from pathlib import Path

from tests.fleet import fleet
from tests.hosts.conftest import Platform

# Every word on the follower's disk that could be a key, tried as the password of each user, the way that its Redis goes
# to the leader. The words come by standard input, where nobody else sees them.
ATTEMPT = r"""
grep -rhoE '[A-Za-z0-9]{43}' /etc/pryv /etc/nginx /srv/pryv/registry /var/log/pryv | sort -u |
docker exec -i pryv-registry-redis-1 sh -c '
    while read -r key host port; do
        test "$key" != replicaof || { leader=$host; way=$port; }
    done </app/conf/redis.conf
    while read -r REDISCLI_AUTH; do
        export REDISCLI_AUTH
        for user in default replica; do
            for command in PING "SET written-by-a-follower 1" "EVAL return(1) 0" "GET a" "CONFIG GET dir"; do
                echo "$user ${command%% *}" $(redis-cli -h $leader -p $way --user $user $command </dev/null 2>&1)
            done
        done
    done'
"""
ASK = r"""
docker exec pryv-registry-redis-1 sh -c '
    while read -r key value; do test "$key" != requirepass || export REDISCLI_AUTH="$value"; done </app/conf/redis.conf
    redis-cli {}'
"""


def test_a_follower_can_copy_and_nothing_else_with_all_that_it_has(platform: Platform) -> None:
    leader = platform.topology["leader"]
    for follower in platform.topology["followers"]:
        tried = platform.machine(follower).check_output(ATTEMPT).splitlines()
        let_in = sorted(line for line in tried if "WRONGPASS" not in line and "NOAUTH" not in line)
        assert [line.split()[:3] for line in let_in] == [
            ["replica", "CONFIG", "NOPERM"],
            ["replica", "EVAL", "NOPERM"],
            ["replica", "GET", "NOPERM"],
            ["replica", "PING", "PONG"],
            ["replica", "SET", "NOPERM"],
        ], follower
        assert "master_link_status:up" in platform.machine(follower).check_output(ASK.format("info replication"))
    assert platform.machine(leader).check_output(ASK.format("exists written-by-a-follower")).strip() == "0"
    state = platform.machine(leader).check_output(ASK.format("info replication"))
    assert f"connected_slaves:{len(platform.topology['followers'])}" in state


def test_a_follower_has_no_key_of_the_registry(platform: Platform, secrets: dict[str, str]) -> None:
    """Nor has the leader outside of its registry, but for nginx' list of administrators' and what tells of Redis."""
    keys = [
        value
        for name, value in secrets.items()
        if name.startswith(("pryv_core_", "pryv_secrets.register_", "pryv_secrets.redis_password"))
    ]
    search = "umask 077; found=$(mktemp); printf %%s %s >$found; grep -rlFf $found /etc /srv/pryv/registry; rm $found"
    for follower in platform.topology["followers"]:
        assert platform.machine(follower).run(search, "\n".join(keys)).stdout == ""
    found = platform.machine(platform.topology["leader"]).run(search, "\n".join(keys)).stdout
    assert sorted(found.split()) == [
        "/etc/nginx/conf.d/registry_keys.conf",
        "/etc/pryv/metrics/redis",
        "/etc/pryv/registry/dns/dns.json",
        "/etc/pryv/registry/redis/redis.conf",
        "/etc/pryv/registry/register/register.json",
    ]


def test_a_user_on_a_core_that_nobody_knows_takes_nobody_down_and_can_be_removed(platform: Platform) -> None:
    leader, registry = platform.topology["leader"], f"reg.{platform.domain}"
    for command in (f"set ghosty:server nowhere.{platform.domain}", "hset ghosty:users username ghosty"):
        platform.machine(leader).check_output(ASK.format(command))
    time.sleep(1)  # until followers have it
    for host in platform.hosts("registry"):
        program = "register" if host == leader else "dns"
        restarts = f"docker inspect --format '{{{{.RestartCount}}}} {{{{.State.StartedAt}}}}' pryv-registry-{program}-1"
        before = platform.machine(host).check_output(restarts)
        with platform.tls(host, registry) as unanswered:
            unanswered.sendall(f"GET /cores?username=ghosty HTTP/1.1\r\nHost: {registry}\r\n\r\n".encode())
            for _ in range(5):
                time.sleep(0.2)
                assert platform.ask(host, registry, "/wactiv/check_username").status == HTTPStatus.OK, host
        assert platform.machine(host).check_output(restarts) == before

    os.environ.update(fleet.environment(), ANSIBLE_CONFIG=str(fleet.CHECKOUT / "ansible.cfg"))
    playbook = [str(Path(sys.executable).with_name("ansible-playbook")), "playbooks/remove_user.yml"]
    fleet.run([*playbook, "--inventory", str(platform.inventory), "--extra-vars", "user=ghosty"])
    assert platform.machine(leader).check_output(ASK.format("exists ghosty:server ghosty:users")).strip() == "0"
