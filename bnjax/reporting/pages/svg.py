"""How does an SVG file stand inside of a page? Without what only files need, and with identifiers of its own."""

import re
from xml.etree import ElementTree

from markupsafe import Markup

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
_REFERENCE = re.compile(r"url\(#([^)]*)\)")


def inline_svg(text: str, *, prefix: str, title: str) -> Markup:
    """Return an SVG file as an element of a page.

    Every `id`, and every reference to one, begins with the prefix, so that several figures on a page do not take
    each other's clip paths. Metadata and style sheets, which would hold for the whole page, are left out.

    Args:
        text: the text of the file.
        prefix: what no other figure of the page has, such as the figure's name.
        title: what the figure shows, for those who do not see it.

    Raises:
        ValueError: the text is no SVG.

    Example:
        >>> inline_svg('<svg xmlns="http://www.w3.org/2000/svg"><g id="a"/></svg>', prefix="f", title="A group")
        Markup('<svg role="img" aria-label="A group"><g id="f-a" /></svg>')
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"a picture needs the text of an SVG file, got {text[:40]!r}: {error}") from error
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{SVG}}}")
        element.attrib = {
            name.replace(f"{{{XLINK}}}", ""): _own(name, value, prefix) for name, value in element.attrib.items()
        }
    root.attrib |= {"role": "img", "aria-label": title}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _own(name: str, value: str, prefix: str) -> str:
    """Return an attribute's value with the identifiers in it made the figure's own."""
    if name == "id":
        return f"{prefix}-{value}"
    if value.startswith("#") and name.endswith("href"):
        return f"#{prefix}-{value[1:]}"
    return _REFERENCE.sub(rf"url(#{prefix}-\1)", value)
