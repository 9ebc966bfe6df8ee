"""What a diff does to the data mix, as bars: the share of each source before and after. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from engine.text import clean

from . import format as f
from .widgets.diff_view import DiffLine

BAR = 20  # cells of a share of 1
SEVERAL = (
    4.0  # epochs from which on repeating costs: Muennighoff et al., "Scaling Data-Constrained Language Models", 2023
)


def mix_lines(mixes: Iterable[dict[str, Any]]) -> Iterator[DiffLine]:
    """Lines for the reader, above the diff itself; `mixes` as the engine's `diff` method gives them."""
    for mix in mixes:
        head = f"THE DATA MIX, before and after ({mix['path']}, {mix['table']})"
        yield DiffLine("file", clean(head), "")
        before, after = mix["before"], mix["after"]
        wide = min(max(f.width_of(clean(name)) for name in (*before, *after)), 24)
        for name in dict.fromkeys((*before, *after)):
            old, new = before.get(name, 0.0), after.get(name, 0.0)
            change = "" if abs(new - old) < 5e-4 else f"  {100 * (new - old):+.1f} points"
            text = f"{f.fit(clean(name), wide)}  {_side(old)}  {_side(new)}{change}"
            yield DiffLine("note", text.rstrip(), "")
        for each in mix.get("epochs", ()):
            yield from _epochs(each, wide)


def _epochs(run: dict[str, Any], wide: int) -> Iterator[DiffLine]:
    """How often one run goes through each source: once is all of it, above that it comes again."""
    yield DiffLine("note", clean(f"epochs at rung {run['rung']}, {f.count(run['tokens'])} tokens"), "")
    before, after = run["before"], run["after"]
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name, 0.0), after.get(name, 0.0)
        again = "  each text comes again and again" if new > SEVERAL else ""
        yield DiffLine("note", f"{f.fit(clean(name), wide)}  {_times(old)} → {_times(new).strip()}{again}", "")


def _times(epochs: float) -> str:
    return f"{epochs:7.2g}" if epochs < 10 else f"{epochs:7,.0f}"


def _side(share: float) -> str:
    full = max(round(share * BAR), 1 if share > 0 else 0)
    return f"{100 * share:5.1f} % {'━' * full}{' ' * (BAR - full)}"
