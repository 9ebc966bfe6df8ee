"""Numbers, times and text as a reader wants them in a fixed width: pure functions, no terminal.

Missing values are a middle dot, never 0. Widths count terminal cells, so that wide characters keep columns straight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from rich.cells import cell_len, set_cell_size

NOTHING = "·"


def metric(value: float | None) -> str:
    """A metric to five significant digits, at least: 2.0134, 0.9712, 12.345."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size and (size < 0.001 or size >= 100_000):
        return f"{value:.2e}"
    return f"{value:.4f}" if size < 10 else f"{value:.3f}" if size < 100 else f"{value:.1f}"


def signed(value: float | None) -> str:
    """A difference with its sign, without the leading zero: +.0123, −.0040, +1.250."""
    if value is None or math.isnan(value):
        return NOTHING
    sign = "−" if value < 0 else "+"
    size = abs(value)
    if math.isinf(size):
        return f"{sign}∞"
    if size >= 100:
        return f"{sign}{size:.0f}"
    text = f"{size:.4f}" if size < 1 else f"{size:.3f}" if size < 10 else f"{size:.2f}"
    return sign + text.removeprefix("0")


def interval(effect: float | None, lo: float | None, hi: float | None, *, short: bool = False) -> str:
    """A difference with its interval: `+.0123 [+.0082, +.0164]`, or short `+.0123 ±.0041` (the wider half)."""
    if effect is None:
        return NOTHING
    if lo is None or hi is None or math.isnan(lo) or math.isnan(hi):
        return signed(effect)
    if short:
        return f"{signed(effect)} ±{signed(max(effect - lo, hi - effect))[1:]}"
    return f"{signed(effect)} [{signed(lo)}, {signed(hi)}]"


def count(value: float | None) -> str:
    """A large count in three digits or so: 812, 51.0k, 1.24M."""
    if value is None or not math.isfinite(value):
        return NOTHING
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit * 0.9995:
            scaled = value / limit
            digits = 0 if abs(scaled) >= 99.95 else 1 if abs(scaled) >= 9.995 else 2
            return f"{scaled:.{digits}f}{unit}"
    return f"{value:.0f}"


def duration(seconds: float | None) -> str:
    """How long: 42s, 2m, 1h05m, 3d04h. Whole minutes after the first minute, so that it seldom changes."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.0f}s" if seconds < 59.5 else "1m"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h{minutes:02d}m"
    return f"{hours // 24}d{hours % 24:02d}h"


def eta(seconds: float | None) -> str:
    """Time left, in steps of five seconds below a minute, so that a line is not repainted for every second."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return NOTHING
    return duration(math.ceil(seconds / 5) * 5 if seconds < 60 else seconds)


def plural(number: int, noun: str, many: str | None = None) -> str:
    """`1 seed`, `3 seeds`, `2 queries`."""
    return f"{number} {noun if number == 1 else many or noun + 's'}"


def bar(done: float, width: int) -> tuple[str, str]:
    """A progress bar as its done and its open part, `width` cells together; `done` between 0 and 1."""
    share = min(max(done if math.isfinite(done) else 0.0, 0.0), 1.0)
    full = min(int(share * width + 1e-9), width)
    return "━" * full, "╌" * (width - full)


def width_of(text: str) -> int:
    """Cells that `text` takes on a terminal."""
    return len(text) if text.isascii() else cell_len(text)


def fit(text: str, width: int, *, right: bool = False) -> str:
    """`text` cut (with an ellipsis) or padded to exactly `width` cells; `right` pads on the left."""
    if width <= 0:
        return ""
    have = width_of(text[: width * 2 + 2])
    if have > width:
        return set_cell_size(text[: width * 2 + 2], width - 1) + "…"
    pad = " " * (width - have)
    return pad + text if right else text + pad


def wrap(text: str, width: int, most: int = 99) -> list[str]:
    """Words of `text` in lines of at most `width` cells, at most `most` lines; the last one ends in `…` when cut."""
    width = max(width, 4)
    lines: list[str] = []
    line = ""
    for paragraph in text.split("\n"):
        for word in paragraph.split():
            rest = word
            while rest:
                if not line and width_of(rest) > width:
                    head, rest = _break(rest, width)
                    lines.append(head)
                elif not line or width_of(line) + 1 + width_of(rest) <= width:
                    line, rest = (f"{line} {rest}" if line else rest), ""
                else:
                    lines.append(line)
                    line = ""
        if line:
            lines.append(line)
            line = ""
    if len(lines) > most:
        kept = lines[:most]
        kept[-1] = (
            fit(f"{kept[-1]} …", width).rstrip() if width_of(kept[-1]) + 2 <= width else fit(kept[-1] + "…", width)
        )
        return kept
    return lines


def _break(word: str, width: int) -> tuple[str, str]:
    """A word too long for a line, cut where the line ends; always at least one character goes."""
    head = ""
    for char in word:
        if head and width_of(head + char) > width:
            break
        head += char
    return head, word[len(head) :]


_LEVELS = 4
_LEFT = (0x00, 0x40, 0x44, 0x46, 0x47)
_RIGHT = (0x00, 0x80, 0xA0, 0xB0, 0xB8)


def sparkline(values: Sequence[float], width: int) -> str:
    """The last shape of a series in `width` braille cells, two values a cell, filled from below; gaps stay blank."""
    if width <= 0:
        return ""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return " " * width
    points = resample(values, width * 2)
    low, high = min(finite) / 2, max(finite) / 2  # halves, whose difference is always finite
    span = (high - low) or 1.0

    def level(value: float) -> int:
        return 0 if not math.isfinite(value) else 1 + min(int((value / 2 - low) / span * _LEVELS), _LEVELS - 1)

    levels = [level(value) for value in points] + [0] * (width * 2 - len(points))
    pairs = zip(levels[::2], levels[1::2], strict=True)
    return "".join(chr(0x2800 + _LEFT[left] + _RIGHT[right]) for left, right in pairs).replace("\u2800", " ")


def resample(values: Sequence[float], width: int) -> list[float]:
    """At most `width` values: means of equal stretches, NaN where a stretch has no finite value."""
    if len(values) <= width:
        return list(values)
    out: list[float] = []
    for column in range(width):
        part = values[column * len(values) // width : (column + 1) * len(values) // width]
        finite = [value for value in part if math.isfinite(value)]
        out.append(sum(finite) / len(finite) if finite else math.nan)
    return out


@lru_cache(maxsize=512)
def ticks(low: float, high: float, most: int) -> tuple[float, ...]:
    """At most `most` round numbers between `low` and `high`, for an axis."""
    span = high - low
    if most < 1 or not math.isfinite(span) or span / most < 1e-290:
        return ()
    raw = span / most
    scale = 10.0 ** math.floor(math.log10(raw))
    digits = max(12, 3 - math.floor(math.log10(raw)))
    for factor in (1.0, 2.0, 2.5, 5.0, 10.0, 20.0):
        step = factor * scale
        first = math.ceil(low / step - 1e-9)
        last = math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return tuple(round(index * step, digits) for index in range(first, last + 1))
    return ()
