"""The diagrams of the documents are as tools/draw_diagrams.py draws them, and can be read."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools.draw_diagrams import CHARACTER_WIDTH, DIAGRAMS, DOCS, PACKAGES, Diagram, svg


@pytest.mark.parametrize("name", DIAGRAMS)
def test_the_picture_is_as_it_is_drawn(name: str) -> None:
    drawn = svg(DIAGRAMS[name])
    assert (DOCS / f"{name}.svg").read_text(encoding="utf-8") == drawn, (
        "run python tools/draw_diagrams.py"
    )
    root = ElementTree.fromstring(drawn)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for box in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(box.get("x", 0)) + float(box.attrib["width"]) <= width
        assert float(box.get("y", 0)) + float(box.attrib["height"]) <= height


@pytest.mark.parametrize("name", DIAGRAMS)
def test_its_text_fits_into_its_boxes_and_no_box_is_on_another(name: str) -> None:
    diagram = DIAGRAMS[name]
    most = diagram.box_width / CHARACTER_WIDTH
    texts = [text for box in diagram.boxes.values() for text in (box.name, *box.notes)]
    assert [text for text in texts if len(text) > most] == []
    assert _overlaps(diagram) == []


def _overlaps(diagram: Diagram) -> list[tuple[str, str]]:
    root = ElementTree.fromstring(svg(diagram))
    boxes = [
        tuple(float(box.attrib[side]) for side in ("x", "y", "width", "height"))
        for box in root.iter("{http://www.w3.org/2000/svg}rect")
        if box.get("class") != "paper"
    ]
    names = list(diagram.boxes)
    return [
        (names[one], names[two])
        for one, (x1, y1, w1, h1) in enumerate(boxes)
        for two, (x2, y2, w2, h2) in enumerate(boxes[:one])
        if x1 < x2 + w2 and x2 < x1 + w1 and y1 < y2 + h2 and y2 < y1 + h1
    ]


def test_the_picture_of_the_packages_has_each() -> None:
    packages = {file.parent.name for file in (ROOT / "src" / "keywatch").glob("*/__init__.py")}
    assert {name for name in packages - {"sample"} if f"{name}/" not in _names(PACKAGES)} == set()


def test_each_picture_is_in_a_document() -> None:
    documents = [ROOT / "ARCHITECTURE.md", *(ROOT / "docs").glob("*.md")]
    text = "".join(file.read_text(encoding="utf-8") for file in documents)
    assert [name for name in DIAGRAMS if f"{name}.svg" not in text] == []
    assert not [file for file in documents if "```mermaid" in _read(file)]


def _names(diagram: Diagram) -> set[str]:
    return {box.name for box in diagram.boxes.values()}


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")
