"""The README's picture is what the application paints: made from the real app, compared byte for byte.

`UPDATE_SCREENSHOT=1 pytest tests/test_screenshot.py` writes it anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from rich.terminal_theme import MONOKAI
from rich.text import Text
from textual.app import App

from tests.fakes import lab_in_progress
from tests.test_app import sitting

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "cockpit.svg"
CELL_W, CELL_H, PAD = 8.4, 18.0, 12.0


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _dots(char: str, x: int, y: int) -> str:
    """A braille cell as dots of its own: fonts disagree about them."""
    bits = ord(char) - 0x2800
    places = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)]
    return "".join(
        f"M{PAD + (x + 0.28 + 0.45 * column) * CELL_W:.1f} {PAD + (y + 0.14 + 0.24 * row) * CELL_H:.1f}h.1"
        for bit, (column, row) in enumerate(places)
        if bits >> bit & 1
    )


def as_svg(app: App[str]) -> str:
    """What is on the screen as a small, self-contained SVG: no fonts or images from elsewhere."""
    width, height = app.size
    back: list[str] = []
    front: list[str] = []
    dots: dict[str, list[str]] = {}
    for y, strip in enumerate(app.screen._compositor.render_strips()):
        x = 0
        for segment in strip:
            style = segment.style
            assert style is not None
            fg = style.color.get_truecolor(MONOKAI).hex if style.color else "#ffffff"
            bg = style.bgcolor.get_truecolor(MONOKAI, foreground=False).hex if style.bgcolor else "#000000"
            size = segment.cell_length
            left, top = PAD + x * CELL_W, PAD + y * CELL_H
            back.append(
                f'<path fill="{bg}" d="M{left:.1f} {top:.1f}h{size * CELL_W + 0.2:.1f}v{CELL_H + 0.2:.1f}H{left:.1f}z"/>'
            )
            for place, char in enumerate(segment.text):
                if "\u2800" < char <= "\u28ff":
                    dots.setdefault(fg, []).append(_dots(char, x + place, y))
            text = re.sub("[\u2800-\u28ff]", " ", segment.text)
            if text.strip():
                lead = len(text) - len(text.lstrip())
                shown = text.strip()
                weight = ' font-weight="bold"' if style.bold else ""
                place_at = f'x="{left + lead * CELL_W:.1f}" y="{top + 13.6:.1f}"'
                length = f'textLength="{Text(shown).cell_len * CELL_W:.1f}"'
                front.append(f'<text {place_at} {length} fill="{fg}"{weight}>{_escape(shown)}</text>')
            x += size
    strokes = [
        f'<path stroke="{colour}" stroke-width="2" stroke-linecap="round" fill="none" d="{"".join(found)}"/>'
        for colour, found in dots.items()
    ]
    w, h = width * CELL_W + 2 * PAD, height * CELL_H + 2 * PAD
    body = "\n".join(_joined(back) + front + strokes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w:.0f} {h:.0f}" role="img" aria-label="The cockpit">\n'
        f'<rect width="{w:.0f}" height="{h:.0f}" rx="8" fill="#14161b"/>\n'
        f'<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,\'DejaVu Sans Mono\',monospace" font-size="13.8" '
        f'xml:space="preserve" lengthAdjust="spacingAndGlyphs">\n{body}\n</g></svg>\n'
    )


def _joined(paths: list[str]) -> list[str]:
    """Backgrounds, without those that are the picture's own."""
    return [path for path in paths if 'fill="#14161b"' not in path]


async def test_the_picture_in_the_readme_is_what_the_application_paints() -> None:
    async with sitting(lab_in_progress(), size=(160, 44)) as desk:
        for key in (
            "j",
            "j",
            "j",
            "j",
            "j",
            "space",
            "j",
            "j",
            "j",
            "space",
            "k",
            "k",
            "k",
            "k",
            "k",
            "enter",
            "escape",
        ):
            await desk.press(key)
        await desk.until(
            lambda: "0007 s2" in desk.text and "0005 mean of 3" in desk.text and "0002 mean of 3" in desk.text
        )
        await desk.until(lambda: "log 0007.screen.s2" in desk.text)
        await desk.settle()
        picture = as_svg(desk.app)
    if os.environ.get("UPDATE_SCREENSHOT") == "1":
        PICTURE.write_text(picture, encoding="utf-8")
    assert PICTURE.read_text(encoding="utf-8") == picture, "run UPDATE_SCREENSHOT=1 pytest tests/test_screenshot.py"
