"""The terminal driver that writes only the cells that changed."""

from __future__ import annotations

from textual.driver import Driver


def cell_diffing() -> type[Driver] | None:
    return None
