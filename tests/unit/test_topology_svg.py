"""The picture of a platform: well-formed, self-contained, complete, and the README's is up to date."""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader

from pryv_platform.topology import derivation
from pryv_platform.topology_svg import topology_svg

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def read(name: str) -> dict[str, Any]:
    """Read one of the example inventories, which need no templating."""
    folder = ROOT / "inventories" / name
    common = DataLoader().load_from_file(str(folder / "group_vars/all/platform.yml"))
    groups: dict[str, list[str]] = {"all": []}
    variables: dict[str, dict[str, Any]] = {}
    tree = DataLoader().load_from_file(str(folder / "hosts.yml"))
    for group, entry in tree.items():
        for host, own in (entry.get("hosts") or {}).items():
            variables.setdefault(host, dict(common)).update({**entry.get("vars", {}), **(own or {})})
        children = entry.get("children", {})
        groups[group] = [*(entry.get("hosts") or {}), *(host for child in children for host in tree[child]["hosts"])]
    groups["all"] = list(variables)
    return dict(derivation.derive(groups, variables))


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("name", ["development", "poc", "load", "privacy"])
def test_every_host_and_zone_is_there(name: str) -> None:
    found = read(name)
    written = texts(topology_svg(found))
    assert set(found["hosts"]) <= set(written)
    assert {f"Privacy zone {zone}" for zone in found["zones"]} <= set(written)


def test_it_stands_alone_and_can_be_read_aloud() -> None:
    svg = topology_svg(read("privacy"))
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    ids = (root.get("aria-labelledby") or "").split()
    named = {element.get("id"): element.text for element in root if element.get("id") in ids}
    assert all(named.get(one) for one in ids)
    assert "Privacy zone ch with co1, co2" in (named["description"] or "")
    for forbidden in ("<script", "href", "@import", "<image", "foreignObject", "url(http"):
        assert forbidden not in svg


def test_text_of_the_inventory_cannot_become_markup() -> None:
    found = read("load")
    found["web"]["alias"] = 'x"><script>alert(1)</script>'
    assert "<script" not in topology_svg(found)
    ET.fromstring(topology_svg(found))


def test_boxes_stay_within_the_picture_and_hosts_do_not_overlap() -> None:
    found = read("load")
    for number in range(100, 120):
        name = f"c{number}"
        found["hosts"][name] = dict(found["hosts"]["co1"])
        found["zones"]["ch"].append(name)
    found["draining"]["co2"] = {"ip": "10.77.30.12"}
    root = ET.fromstring(topology_svg(found))
    width, height = float(root.get("width") or 0), float(root.get("height") or 0)
    boxes = [
        (
            float(box.get("x") or 0),
            float(box.get("y") or 0),
            float(box.get("width") or 0),
            float(box.get("height") or 0),
        )
        for box in root.iter(f"{SVG}rect")
        if "host" in (box.get("class") or "")
    ]
    assert len(boxes) == len(found["hosts"]) + 1  # and the pages elsewhere
    for x, y, wide, high in boxes:
        assert 0 < x < x + wide < width
        assert 0 < y < y + high < height
    assert len({(x, y) for x, y, _, _ in boxes}) == len(boxes)
    assert "10.77.30.12, draining" in texts(topology_svg(found))


def test_the_pictures_in_the_documentation_are_up_to_date() -> None:
    drawn = sorted((ROOT / "docs/images").glob("*.svg"))
    assert drawn
    for picture in drawn:
        assert picture.read_text() == topology_svg(read(picture.stem)), f"run: scripts/draw {picture.stem}"
