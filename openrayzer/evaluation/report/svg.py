"""A small writer of SVG; the style sheet of the page colours the shapes by their classes."""

import math
from xml.etree import ElementTree

from markupsafe import Markup

from openrayzer.evaluation.report.names import written


class Drawing:
    """An SVG with a description for screen readers.

    Args:
        width: width of the coordinate system; the page scales the drawing.
        height: height of the coordinate system.
        title: name of the drawing.
        description: content of the drawing in words.
    """

    def __init__(self, width: float, height: float, *, title: str, description: str) -> None:
        self.width, self.height = width, height
        self._root = ElementTree.Element(
            "svg", {"viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria-label": f"{title}. {description}"}
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """A straight line."""
        self._add("line", kind, x1=x1, y1=y1, x2=x2, y2=y2)

    def circle(self, x: float, y: float, radius: float, kind: str, *, hint: str = "") -> None:
        """A dot with a tooltip."""
        self._hint(self._add("circle", kind, cx=x, cy=y, r=radius), hint)

    def area(self, points: list[tuple[float, float]], kind: str, *, hint: str = "") -> None:
        """A filled polygon."""
        self._hint(self._add("polygon", kind, points=_points(points)), hint)

    def curve(self, points: list[tuple[float, float]], kind: str) -> None:
        """A polyline through ``points``."""
        self._add("polyline", kind, points=_points(points))

    def text(self, x: float, y: float, text: str, kind: str = "label", *, anchor: str = "start") -> None:
        """A line of text; ``anchor`` is start, middle or end."""
        element = self._add("text", kind, x=x, y=y)
        element.set("text-anchor", anchor)
        element.text = text

    def markup(self) -> Markup:
        """The drawing; everything in it is escaped."""
        return Markup(ElementTree.tostring(self._root, encoding="unicode"))

    def _add(self, tag: str, kind: str, **attributes: float | str) -> ElementTree.Element:
        values = {key: value if isinstance(value, str) else f"{value:.5g}" for key, value in attributes.items()}
        return ElementTree.SubElement(self._root, tag, {"class": kind, **values})

    @staticmethod
    def _hint(element: ElementTree.Element, hint: str) -> None:
        if hint:
            ElementTree.SubElement(element, "title").text = hint


def ticks(low: float, high: float, count: int = 5) -> list[tuple[float, str]]:
    """About ``count`` round numbers between ``low`` and ``high``, as numbers and as text: steps of 1, 2 or 5."""
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / count))
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda step: abs(math.log(span / step / count)))
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    places = range(math.ceil(low / step), math.floor(high / step) + 1)
    return [(place * step, written(place * step, decimals)) for place in places]


def _points(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.5g},{y:.5g}" for x, y in points)
