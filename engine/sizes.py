"""Amounts of memory and disk as people write them: "8 GiB". Pure, standard library only."""

from __future__ import annotations

import re

UNITS = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")
_BY_NAME = {name.lower(): factor for name, factor in UNITS.items()}


def size_of(text: str) -> int | None:
    """Bytes that `text` names, e.g. "1.5 GiB"; None when it names none. Upper and lower case are the same."""
    found = _SIZE.fullmatch(text.strip())
    factor = _BY_NAME.get(found[2].lower()) if found else None
    if found is None or factor is None or len(found[1]) > 20:
        return None
    return int(float(found[1]) * factor)


def sized(count: int) -> str:
    """`count` bytes in the unit that suits: "9.1 GiB", "64.0 MiB", "812 bytes"."""
    for name in ("TiB", "GiB", "MiB", "KiB"):
        if count >= UNITS[name]:
            return f"{count / UNITS[name]:.1f} {name}"
    return f"{count} bytes"
