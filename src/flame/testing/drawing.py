"""Drawings as SVG, written by hand: lines, bars and words need no library."""

from collections.abc import Iterable
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH = 760
INK, PALE, FLAME, BLUE, GRAY = "#222", "#ddd", "#d9541e", "#2a6fb0", "#888"
#: Colours that can be told apart, for lines of several things.
COLORS = (FLAME, BLUE, "#3a8f4d", "#8a4fa3", "#b8860b", "#1d8a99", "#c2417c", GRAY)


class Drawing:
    """Shapes on white, so that it reads on any page."""

    def __init__(self, height: int, title: str) -> None:
        self._height = height
        self._parts: list[str] = []
        self.text(WIDTH / 2, 24, title, size=16, anchor="middle")

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: int = 12,
        anchor: str = "start",
        color: str = INK,
    ) -> None:
        """Write words."""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
            f'fill="{color}">{escape(words)}</text>'
        )

    def line(
        self,
        points: Iterable[tuple[float, float]],
        color: str,
        width: float = 1,
        *,
        dashed: bool = False,
    ) -> None:
        """Join points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}"{dashes}/>'
        )

    def dot(self, x: float, y: float, color: str, radius: float = 3.5) -> None:
        """Mark a point."""
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{color}"/>')

    def bar(self, x: float, y: float, width: float, height: float, color: str) -> None:
        """Fill a rectangle."""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{color}"/>'
        )

    def save(self, path: Path) -> None:
        """Write the file, and the directory that it is in."""
        body = "\n".join(self._parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self._height}" '
            f'font-family="sans-serif">\n<rect width="100%" height="100%" fill="white"/>\n'
            f"{body}\n</svg>\n",
            encoding="utf-8",
        )
