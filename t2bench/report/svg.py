"""From matplotlib's SVG to one that belongs in a page: small, themed by the page, readable aloud, free of inline style.

Inline style would need `unsafe-inline` in the page's content security policy; presentation attributes do not.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
_XML_SPACE = "{http://www.w3.org/XML/1998/namespace}space"

# The colours that drawings use, and the page's own colour that each becomes (see page.css).
THEME = {
    "#000000": "currentColor",
    "#ffffff": "var(--paper, #ffffff)",
    "#767676": "var(--muted, #767676)",
    "#d9d9d9": "var(--rule, #d9d9d9)",
    "#0072b2": "var(--v1, #0072b2)",
    "#d55e00": "var(--v2, #d55e00)",
    "#009e73": "var(--v3, #009e73)",
    "#cc79a7": "var(--v4, #cc79a7)",
    "#e69f00": "var(--v5, #e69f00)",
    "#56b4e9": "var(--v6, #56b4e9)",
    "#8f7a00": "var(--v7, #8f7a00)",
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
    referenced = {i for element in root.iter() for i in _references(element)}
    for element in root.iter():
        _presentation(element)
        _rename(element, name, referenced)
        for key in _GEOMETRY:
            if key in element.attrib:
                element.set(key, _LONG_NUMBER.sub(_rounded, element.attrib[key]))
    _unwrap(root)
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


def _references(element: ET.Element) -> set[str]:
    found = {match for value in element.attrib.values() for match in _REFERENCE.findall(value)}
    target = element.get(_HREF, "")
    return found | ({target[1:]} if target.startswith("#") else set())


def _rename(element: ET.Element, name: str, referenced: set[str]) -> None:
    identifier = element.attrib.pop("id", None)
    if identifier in referenced:
        element.set("id", f"{name}-{identifier}")
    target = element.attrib.pop(_HREF, None)
    if target is not None:
        element.set("href", f"#{name}-{target[1:]}")
    for key, value in list(element.attrib.items()):
        element.set(key, _REFERENCE.sub(rf"url(#{name}-\1)", value))
    element.attrib.pop(_XML_SPACE, None)


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
