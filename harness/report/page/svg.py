"""A matplotlib figure as markup for a page: its text stays text, and its colours follow the page's."""

from __future__ import annotations

import re
from io import StringIO
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_COORDINATE = re.compile(r"-?\d+\.\d{3,}")
_PLACES = ("d", "points", "x", "y", "x1", "y1", "x2", "y2", "width", "height")
_FONT = re.compile(r"font: (?:(bold|\d+) )?([\d.]+)px [^;]*")

# colour of a chart → variable of the page, which has a second value for dark screens
COLOURS = {
    "#000000": "ink",
    "#555555": "muted",
    "#dddddd": "line",
    "#e4e4e4": "band",
    "#d5d5d5": "band",
    "#ffffff": "paper",
    "#dceef9": "queue",
    "#7fa8c2": "queue-ink",
    "#005a91": "worker",
    "#111111": "way-back",
    "#00324f": "measured",
    "#d55e00": "mark",
    "#cfe3f0": "queue",
}


def inline(figure: Figure, name: str, *, colours: dict[str, str] = COLOURS) -> str:
    """The figure as an <svg> element. Its ids begin with `name`, so that two charts never share one.

    Colours become the page's variables of `colours`, by lower-case hex. The size is left to the page.
    """
    written = StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(written, format="svg", metadata={"Date": None}, facecolor="none")
    root = ElementTree.fromstring(written.getvalue())  # noqa: S314 - what matplotlib has just written
    for metadata in root.findall(f"{_SVG}metadata"):
        root.remove(metadata)
    wanted = _references(root)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        _rename_ids(element, name, wanted)
        _shorten(element, colours)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.set("aria-hidden", "true")  # the picture around it has a text for readers
    root.set("focusable", "false")
    return ElementTree.tostring(root, encoding="unicode")


def _references(root: ElementTree.Element) -> set[str]:
    """The ids that something in the picture refers to."""
    found: set[str] = set()
    for element in root.iter():
        for attribute, value in element.attrib.items():
            if attribute == _XLINK:
                found.add(value.removeprefix("#"))
            found.update(_REFERENCE.findall(value))
    return found


def _rename_ids(element: ElementTree.Element, name: str, wanted: set[str]) -> None:
    """Prefix the ids that are referred to, and remove the others."""
    if (own := element.attrib.pop("id", None)) in wanted:
        element.set("id", f"{name}-{own}")
    if target := element.attrib.pop(_XLINK, None):
        element.set("href", f"#{name}-{target.removeprefix('#')}")
    for attribute, value in element.attrib.items():
        if "url(#" in value:
            element.set(attribute, _REFERENCE.sub(rf"url(#{name}-\1)", value))


def _shorten(element: ElementTree.Element, colours: dict[str, str]) -> None:
    """Replace colours and fonts by the page's; a hundredth of a point is fine enough for a place."""
    for attribute in _PLACES:
        if attribute in element.attrib:
            value = element.attrib[attribute]
            element.set(attribute, _COORDINATE.sub(lambda found: f"{float(found[0]):.2f}", value))
    if style := element.attrib.get("style"):
        element.set("style", "; ".join(_styled(one.strip(), colours) for one in style.split(";")))
    elif element.tag == "text":
        element.set("style", "fill: var(--ink)")
    if fill := colours.get(element.attrib.get("fill", "").lower()):
        element.set("fill", f"var(--{fill})")
    if element.tag == "text" and "fill:" not in element.attrib["style"]:
        element.set("style", f"{element.attrib['style']}; fill: var(--ink)")


def _styled(declaration: str, colours: dict[str, str]) -> str:
    if found := _FONT.fullmatch(declaration):
        weight = f"font-weight: {found[1]}; " if found[1] else ""
        return f"{weight}font-size: {found[2]}px"
    name, _, value = declaration.partition(": ")
    known = colours.get(value.lower())
    return f"{name}: var(--{known})" if known else declaration
