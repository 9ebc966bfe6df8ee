"""Pictures for the page, as SVG that takes its colours from the page's style: so it is light or dark, and prints. Pure.

Coordinates are numbers that this module made; every label passes `markup.text`. What a line needs in order to be one stands in
its attributes too, for programs that do not know the style.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cockpit.axes import Axis, Kind, axis
from cockpit.report.markup import number, text

WIDTH = 940
_CHAR = 7.0  # pixels of one character at the size of labels


@dataclass(frozen=True, slots=True)
class Curve:
    """A line: `style` is a class of the page's style sheet; None in `y` breaks it. One without a `name` is in no legend."""

    name: str
    style: str
    x: Sequence[float]
    y: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Effect:
    """One row of a forest plot; bounds are None where there is no interval."""

    label: str
    value: float
    lo: float | None
    hi: float | None
    style: str
    note: str = ""


def _open(height: float, title: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{text(title)}">'
        f"<title>{text(title)}</title>"
    )


def _said(x: float, y: float, label: str, style: str = "tick", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}" font-size="11.5">{text(label)}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}" stroke="#999"/>'


def _cut(label: str, most: int) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def _at(one: Axis, value: float, start: float, end: float) -> float:
    """Where a value lies between two coordinates; not bound to them."""
    share = (value / 2 - one.low / 2) / (one.high / 2 - one.low / 2)
    return start + min(max(share, -4.0), 5.0) * (end - start)


# --- forest -----------------------------------------------------------------------------------------------------------


def forest(effects: Sequence[Effect], title: str, unit: str) -> str:
    """Effects with their intervals on one scale around zero, the first on top; "" without any. A bound far outside of all
    effects ends at the edge, so that one wide interval does not press the others together."""
    shown = [each for each in effects if math.isfinite(each.value)]
    values = [each.value for each in shown]
    scale = axis([0.0, *values, *_near(shown)]) if shown else None
    if scale is None:
        return ""
    left, right, row = 330.0, WIDTH - 90.0, 22.0
    bottom = 14 + row * len(shown)
    out = [_open(bottom + 40, title)]
    for at, name in scale.marks(8):
        x = _at(scale, at, left, right)
        out += [_rule(x, 8, x, bottom, "zero" if at == 0 else "grid"), _said(x, bottom + 16, name, anchor="middle")]
    for place, each in enumerate(shown):
        y = 14 + row * (place + 0.5)
        out.append(f'<g class="{each.style}"><title>{text(each.note or each.label)}</title>')
        out.append(_said(0, y + 4, _cut(each.label, 48), "label"))
        out += _interval(each, scale, left, right, y)
        out.append(f'<circle cx="{_at(scale, each.value, left, right):.1f}" cy="{y:.1f}" r="4"/>')
        out.append(_said(WIDTH, y + 4, number(each.value, signed=True), "value", "end") + "</g>")
    out.append(
        _said((left + right) / 2, bottom + 34, f"better than the trunk by, {unit}".rstrip(", "), "axis", "middle")
    )
    return "".join(out) + "</svg>"


def _near(effects: Sequence[Effect]) -> list[float]:
    """Bounds that reach no further out than the effects span."""
    values = [0.0, *(each.value for each in effects)]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    bounds = [bound for each in effects for bound in (each.lo, each.hi) if bound is not None and math.isfinite(bound)]
    return [min(max(bound, low - span), high + span) for bound in bounds]


def _interval(each: Effect, scale: Axis, left: float, right: float, y: float) -> list[str]:
    if each.lo is None or each.hi is None or math.isnan(each.lo) or math.isnan(each.hi):
        return []
    ends = [min(max(_at(scale, bound, left, right), left), right) for bound in (each.lo, each.hi)]
    caps = [
        _rule(x, y - 4, x, y + 4, "bar")
        for x, bound in zip(ends, (each.lo, each.hi), strict=True)
        if scale.low <= bound <= scale.high
    ]
    return [_rule(ends[0], y, ends[1], y, "bar"), *caps]


# --- lines ------------------------------------------------------------------------------------------------------------


def lines(
    curves: Sequence[Curve],
    title: str,
    across: str,
    up: str,
    *,
    kind: Kind = "number",
    steps: bool = False,
    top_share: float = 1.0,
    height: float = 300,
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """Lines over a common axis; "" without a point. `steps` hold each value until the next. `top_share` below 1 lets that much
    less of the values set the top of the frame: the steep start of training is above it. `marks` are upright lines, each with
    what it says when it is pointed at."""
    xs = [float(x) for each in curves for x, y in zip(each.x, each.y, strict=True) if y is not None]
    ys = sorted(y for each in curves for y in each.y if y is not None and math.isfinite(y))
    if not xs or not ys:
        return ""
    room = (max(xs) - min(xs)) * 0.03 if steps else 0.0  # else what came last would be an upright line alone
    flat = axis([*xs, max(xs) + room], kind, pad=0.0)
    tall = axis([ys[0], ys[min(int(len(ys) * top_share), len(ys) - 1)]])
    assert flat is not None
    assert tall is not None
    left, right, top, bottom = 70.0, WIDTH - 10.0, 30.0, height - 44
    out = [_open(height, title), *_legend(curves)]
    for at, name in tall.marks(6):
        y = _at(tall, at, bottom, top)
        out += [_rule(left, y, right, y, "zero" if at == 0 else "grid"), _said(left - 8, y + 4, name, anchor="end")]
    for at, name in flat.marks(8):
        x = _at(flat, at, left, right)
        out += [_rule(x, bottom, x, bottom + 5, "grid"), _said(x, bottom + 19, name, anchor="middle")]
    for at, note in marks:
        x = _at(flat, at, left, right)
        out.append(f"<g><title>{text(note)}</title>{_rule(x, top, x, bottom, 'equal')}</g>")
    out.append(f'<svg x="{left}" y="{top - 4}" width="{right - left}" height="{bottom - top + 8}">')
    for each in curves:
        path = _path(each, flat, tall, (right - left, bottom - top), steps)
        out.append(
            f'<path d="{path}" class="line {each.style}" fill="none" stroke="#777"><title>{text(each.name)}</title></path>'
        )
    out.append("</svg>")
    out.append(_said(left, 12, up, "axis"))
    out.append(_said(right, height - 6, across, "axis", "end"))
    return "".join(out) + "</svg>"


def _legend(curves: Sequence[Curve]) -> list[str]:
    out: list[str] = []
    x = float(WIDTH) - 10
    for name, style in reversed({each.name: each.style for each in curves if each.name}.items()):
        label = _cut(name, 40)
        x -= len(label) * _CHAR
        out += [_said(x, 12, label, "label"), _rule(x - 24, 8, x - 6, 8, f"line {style}")]
        x -= 44
    return out


def _path(each: Curve, flat: Axis, tall: Axis, size: tuple[float, float], steps: bool) -> str:
    width, height = size
    out: list[str] = []
    broken = True
    for x, y in zip(each.x, each.y, strict=True):
        if y is None or not math.isfinite(y):
            broken = True
            continue
        px, py = _at(flat, float(x), 0, width), _at(tall, y, height, 0) + 4
        if broken:
            out.append(f"M{px:.1f} {py:.1f}")
        elif steps:
            out.append(f"H{px:.1f}V{py:.1f}")
        else:
            out.append(f"L{px:.1f} {py:.1f}")
        broken = False
    if steps and out:
        out.append(f"H{width:.1f}")
    return "".join(out)


# --- scatter and bars -------------------------------------------------------------------------------------------------


def scatter(points: Sequence[tuple[float, float, str]], title: str, across: str, up: str, height: float = 380) -> str:
    """Points `(x, y, note)` on equal axes with the line on which both are equal; "" without a point."""
    shown = [each for each in points if math.isfinite(each[0]) and math.isfinite(each[1])]
    both = axis([0.0, *(value for x, y, _ in shown for value in (x, y))]) if shown else None
    if both is None:
        return ""
    left, top, bottom = 70.0, 24.0, height - 44
    right = left + bottom - top
    out = [_open(height, title)]
    for at, name in both.marks(6):
        x, y = _at(both, at, left, right), _at(both, at, bottom, top)
        style = "zero" if at == 0 else "grid"
        out += [_rule(left, y, right, y, style), _said(left - 8, y + 4, name, anchor="end")]
        out += [_rule(x, top, x, bottom, style), _said(x, bottom + 19, name, anchor="middle")]
    out.append(_rule(left, bottom, right, top, "equal"))
    for x, y, note in shown:
        at_x, at_y = _at(both, x, left, right), _at(both, y, bottom, top)
        out.append(
            f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="3.5" class="point"><title>{text(note)}</title></circle>'
        )
    out += [_said(left, 12, up, "axis"), _said(right, height - 6, across, "axis", "end")]
    return "".join(out) + "</svg>"


def bars(items: Sequence[tuple[str, float]], title: str) -> str:
    """Bars around zero, what is below it to the left; "" without any."""
    shown = [each for each in items if math.isfinite(each[1])]
    scale = axis([0.0, *(value for _, value in shown)], pad=0.02) if shown else None
    if scale is None:
        return ""
    left, right, row = 200.0, WIDTH - 90.0, 20.0
    out = [_open(8 + row * len(shown), title)]
    zero = _at(scale, 0.0, left, right)
    for place, (label, value) in enumerate(shown):
        y = 4 + row * place
        start, end = sorted((zero, _at(scale, value, left, right)))
        style = "good" if value > 0 else "bad"
        out.append(_said(0, y + 14, _cut(label, 30), "label"))
        out.append(
            f'<rect x="{start:.1f}" y="{y + 4:.1f}" width="{max(end - start, 1):.1f}" height="12" class="{style}"/>'
        )
        out.append(_said(WIDTH, y + 14, number(value, signed=True), "value", "end"))
    out.append(_rule(zero, 2, zero, 6 + row * len(shown), "zero"))
    return "".join(out) + "</svg>"
