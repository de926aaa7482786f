"""From matplotlib's SVG to one that belongs in a page: small, themed by the page, readable aloud, free of inline style.

Inline style would need `unsafe-inline` in the page's content security policy; presentation attributes do not.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping

_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
_XML_SPACE = "{http://www.w3.org/XML/1998/namespace}space"

# The colours that drawings use, and the page's own colour that each becomes (see page.css).
THEME = {
    "#000000": "currentColor",
    "#ffffff": "var(--paper)",
    "#767676": "var(--muted)",
    "#d9d9d9": "var(--rule)",
    "#0072b2": "var(--v1)",
    "#d55e00": "var(--v2)",
    "#009e73": "var(--v3)",
    "#cc79a7": "var(--v4)",
    "#e69f00": "var(--v5)",
    "#56b4e9": "var(--v6)",
    "#8f7a00": "var(--v7)",
}
_LONG_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_GEOMETRY = ("d", "x", "y", "width", "height", "transform", "points")


def finish(source: str, *, name: str, title: str, description: str) -> str:
    """The SVG element for a page.

    Args:
        source: what matplotlib wrote.
        name: unique in the page; ids are prefixed with it.
        title: short accessible name.
        description: longer accessible description.
    """
    ET.register_namespace("", _SVG)
    root = ET.fromstring(source)
    for unwanted in ("metadata", "style"):
        _remove(root, f"{{{_SVG}}}{unwanted}")
    references = dict.fromkeys(i for element in root.iter() for i in _references(element))
    names = {old: f"{name}-{number}" for number, old in enumerate(references)}
    for element in root.iter():
        _presentation(element)
        _rename(element, names)
        _shorten(element)
    _unwrap(root)
    for group in root.iter(f"{{{_SVG}}}g"):
        _hoist(group)
    _describe(root, name, title, description)
    return ET.tostring(root, encoding="unicode")


def _remove(parent: ET.Element, tag: str) -> None:
    for child in list(parent):
        if child.tag == tag:
            parent.remove(child)
        else:
            _remove(child, tag)


def _unwrap(parent: ET.Element) -> None:
    """Replace groups that carry nothing by their children: matplotlib nests one per artist."""
    for child in list(parent):
        _unwrap(child)
        if child.tag == f"{{{_SVG}}}g" and not child.attrib:
            index = list(parent).index(child)
            parent.remove(child)
            for offset, inner in enumerate(list(child)):
                inner.tail = None
                parent.insert(index + offset, inner)
        child.tail = None
        if child.text is not None and not child.text.strip():
            child.text = None


def _references(element: ET.Element) -> list[str]:
    found = [match for value in element.attrib.values() for match in _REFERENCE.findall(value)]
    target = element.get(_HREF, "")
    return [*found, target[1:]] if target.startswith("#") else found


def _rename(element: ET.Element, names: Mapping[str, str]) -> None:
    """Give what is referred to its new name; drop ids that nothing refers to."""
    identifier = element.attrib.pop("id", "")
    if identifier in names:
        element.set("id", names[identifier])
    target = element.attrib.pop(_HREF, None)
    if target is not None:
        element.set("href", f"#{names[target[1:]]}")
    for key, value in list(element.attrib.items()):
        element.set(key, _REFERENCE.sub(lambda match: f"url(#{names[match.group(1)]})", value))
    element.attrib.pop(_XML_SPACE, None)


def _shorten(element: ET.Element) -> None:
    """Tenths of a point are finer than any screen; a rotation by nothing is nothing."""
    for key in _GEOMETRY:
        if key in element.attrib:
            element.set(key, " ".join(_LONG_NUMBER.sub(_rounded, element.attrib[key]).split()))
    if element.get("transform", "").startswith("rotate(-0 "):
        element.attrib.pop("transform")


def _hoist(group: ET.Element) -> None:
    """Write colours that all marks of a group share once, on the group."""
    marks = list(group)
    if len(marks) > 1 and all(mark.tag == f"{{{_SVG}}}use" for mark in marks):
        for key in ("fill", "stroke", "stroke-width"):
            values = {mark.get(key) for mark in marks}
            if len(values) == 1 and None not in values:
                group.set(key, values.pop() or "")
                for mark in marks:
                    mark.attrib.pop(key)


def _presentation(element: ET.Element) -> None:
    """Turn the style attribute into presentation attributes, with the page's colours."""
    for declaration in element.attrib.pop("style", "").split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key == "font":
            size = re.search(r"([\d.]+)px", value)
            element.set("font-size", size.group(1) if size else "9")
            if "bold" in value or re.search(r"\b[67]00\b", value):
                element.set("font-weight", "600")
        elif key == "font-size":
            element.set(key, value.removesuffix("px"))
        elif key and not key.startswith("font-family"):
            element.set(key, value)
    for key in ("fill", "stroke"):
        if key in element.attrib:
            element.set(key, THEME.get(element.attrib[key].lower(), element.attrib[key]))
    # A path and a text are black unless told otherwise; here that means the page's ink.
    if element.tag == f"{{{_SVG}}}text" and "fill" not in element.attrib:
        element.set("fill", "currentColor")


def _rounded(match: re.Match[str]) -> str:
    return f"{float(match.group()):.1f}".removesuffix(".0")


def _describe(root: ET.Element, name: str, title: str, description: str) -> None:
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    # Black is SVG's default and so never written; on a dark page the default has to be the page's ink.
    root.set("fill", "currentColor")
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-description")
    for tag, text in (("desc", description), ("title", title)):
        element = ET.Element(f"{{{_SVG}}}{tag}", {"id": f"{name}-{'description' if tag == 'desc' else 'title'}"})
        element.text = text
        root.insert(0, element)
