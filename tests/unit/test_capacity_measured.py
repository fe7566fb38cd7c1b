"""The plan beside what was measured: judgements, growth, and the requirements that would fit."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from pryv_platform.capacity.measured import (
    capacity_measured,
    measured_address,
    measured_problems,
    measured_table,
)
from pryv_platform.capacity.plan import capacity_plan
from tests.unit.test_monitoring import ZONE

TOPOLOGY = {"zones": {"ch": ["co1", "co2"], "de": ["co3"]}, "ports": {"prometheus": 9090}}
MB = 1e6


def sample(figure: str, value: float, **labels: str) -> dict[str, Any]:
    """Return a sample as Prometheus answers it."""
    return {"metric": {"figure": figure, **labels}, "value": [1795000000, str(value)]}


def answered(**peaks: float) -> list[dict[str, Any]]:
    """Return what is answered of 8'000 users, of whom 400 came within 30 days."""
    peak = {"writes": 200, "reads": 300, "attachments": 0, "previews": 0, "bytes_written": 4 * MB, **peaks}
    return [
        *(sample("users", value, core=core) for core, value in (("co1", 5000), ("co2", 3000), ("co3", 7))),
        *(sample("users 30", value, core=core) for core, value in (("co1", 4800), ("co2", 2800))),
        *(sample("users 7", value, core=core) for core, value in (("co1", 5000), ("co2", 3000))),
        *(sample("peak", value, zone="ch", kind=kind) for kind, value in peak.items()),
        sample("day", 8000 * 150, zone="ch", kind="points"),
        sample("day", 8000 * 0.08 * MB, zone="ch", kind="bytes_written"),
        sample("day", 8000 * 0.02 * MB, zone="ch", kind="bytes_read"),
        sample("days", 29.8, zone="ch", kind="writes"),
        sample("days", 2.5, zone="de", kind="writes"),
    ]


def measured(samples: list[dict[str, Any]], **zone: Any) -> dict[str, Any]:
    """Return what is found of zone ch."""
    found = capacity_measured({"ch": {**ZONE, **zone}}, samples, TOPOLOGY, "2026-11")["ch"]
    assert isinstance(found, dict)
    return found


def judged(found: dict[str, Any]) -> dict[str, str]:
    return {metric["path"]: metric["judgement"] for metric in found["metrics"]}


def test_users_and_growth_are_those_of_the_zone() -> None:
    """The longest span that is known counts, and cores of other zones do not."""
    found = measured(answered())
    assert (found["users"], found["planned_users"], found["cores"], found["days"]) == (8000, 15000, 2, 29)
    assert (found["growth_days"], round(found["growth"])) == (30, 406)
    assert found["proposal"]["users_growth_per_month"] == 406


def test_requirements_are_judged_by_the_busiest_minute() -> None:
    """Of a user: 200 requests/s of 8'000 users are 0.025, half of 0.05; 0.15 are too many, and 0.01 needed no 0.05."""
    assert judged(measured(answered()))["write.requests_per_second"] == "fits"
    assert judged(measured(answered(writes=1200)))["write.requests_per_second"] == "too low"
    assert judged(measured(answered(writes=80)))["write.requests_per_second"] == "too high"


@pytest.mark.parametrize(
    ("path", "planned", "judgement"),
    [
        # Not more than 0.08 MB are written a day, of which some are no data.
        ("write.mb_per_day", 0.01, "not known"),
        ("write.mb_per_day", 0.1, "fits"),
        ("write.mb_per_day", 1, "too high"),
        # Not fewer than 150 points are.
        ("write.data_points_per_day", 100, "too low"),
        ("write.data_points_per_day", 200, "fits"),
        ("write.data_points_per_day", 10000, "fits"),
    ],
)
def test_a_bound_says_no_more_than_it_knows(path: str, planned: float, judgement: str) -> None:
    part, _, leaf = path.partition(".")
    assert judged(measured(answered(), **{part: {**ZONE[part], leaf: planned}}))[path] == judgement  # type: ignore[dict-item]


def test_the_proposal_fits_what_was_measured_and_can_be_planned() -> None:
    """What fits stays as it was written; figures are rounded up to two digits."""
    found = measured(answered(writes=1234))
    proposal = found["proposal"]
    assert proposal["users"] == 8000
    assert proposal["write"] == {**ZONE["write"], "requests_per_second": 0.16, "data_points_per_day": 150}  # type: ignore[dict-item]
    assert judged(measured(answered(writes=1234), **proposal))["write.requests_per_second"] == "fits"
    assert capacity_plan({"ch": proposal})["zones"]["ch"]["cores"] == 1


def test_the_next_core_comes_by_measured_growth() -> None:
    """Two cores hold 19'998 users: 11'999 more come in 30 months of 406."""
    assert measured(answered())["next_core"] == "2029-05, in 2 years and 6 months"
    assert measured(answered(writes=16000))["next_core"].startswith("now: ")
    shrinking = [sample("users 90", 9000, core="co1"), *answered()]
    assert measured(shrinking)["next_core"] == "not foreseen: the users do not become more"
    unknown = [one for one in answered() if not one["metric"]["figure"].startswith("users ")]
    assert measured(unknown)["next_core"] == "not known yet"
    assert measured(unknown)["proposal"].get("users_growth_per_month") is None


def test_too_little_history_says_nothing() -> None:
    found = capacity_measured({"ch": ZONE, "de": ZONE, "us": ZONE}, answered(), TOPOLOGY, "2026-11")
    assert found["de"] == {"reason": "2.5 days are known; the busiest minute of a week takes 7 at least"}
    assert found["us"]["reason"].startswith("0.0 days are known")
    text = measured_table(found)
    assert "zone de: nothing can be said yet: 2.5 days are known" in text
    assert set(yaml.safe_load(text.partition("known to come:\n")[2])["privacy_zones"]) == {"ch"}
    assert "privacy_zones" not in measured_table({"de": found["de"]})


def test_no_user_says_nothing() -> None:
    assert measured([one for one in answered() if "core" not in one["metric"]])["reason"] == "no user is known there"


def test_the_table_fits_a_terminal() -> None:
    text = measured_table(capacity_measured({"ch": ZONE}, answered(writes=1234), TOPOLOGY, "2026-11"))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0] == "zone ch: 8'000 users on 2 cores, 15'000 are planned; 29 days measured"
    assert lines[1].startswith("growth: 406 a month (of 30 days), 0 planned; next core: 2029-05")
    row = next(line for line in lines if line.startswith("write requests/s"))
    assert re.split(r" {2,}", row) == ["write requests/s", "0.05", "0.154", "1'234", "too low"]
    assert yaml.safe_load(text.partition("known to come:\n")[2])["privacy_zones"]["ch"]["users"] == 8000


def test_one_question_on_the_host_itself_has_all_answers() -> None:
    address = urlsplit(measured_address(TOPOLOGY))
    (query,) = parse_qs(address.query)["query"]
    assert address.netloc == "127.0.0.1:9090"
    figures = re.findall(r'"figure", "([^"]+)"', query)
    assert figures == ["users", "peak", "day", "days", "users 90", "users 30", "users 7"]


def test_a_platform_without_monitoring_is_told_so() -> None:
    (problem,) = measured_problems([])
    assert problem["where"] == "measured"
    assert "group monitoring" in problem["remedy"]
    assert measured_problems(["mon1"]) == []
