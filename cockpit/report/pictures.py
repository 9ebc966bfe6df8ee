"""Which picture goes with which answer, and of which of its columns. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cockpit.axes import column
from cockpit.report import svg
from cockpit.report.gather import Answer, Comparison

MOST_EFFECTS = 40
_COLOURS = {"solid": "good", "harmful": "bad", "broken": "bad", "barred": "bad"}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def leaderboard(answer: Answer, lab: Mapping[str, object]) -> str:
    """Effects with their intervals, best first."""
    effects = []
    for row in answer.dicts():
        effect = _number(row.get("effect"))
        if effect is None:
            continue
        verdict = str(row.get("verdict") or "not judged")
        label = f"{row.get('experiment')} {row.get('hypothesis') or ''}"
        lo, hi = _number(row.get("lo")), _number(row.get("hi"))
        note = f"{label}: {verdict}, {effect:+.4f}" + (
            f" [{lo:+.4f}, {hi:+.4f}]" if lo is not None and hi is not None else ""
        )
        effects.append(svg.Effect(label, effect, lo, hi, _COLOURS.get(verdict, "flat"), note))
    return svg.forest(effects[:MOST_EFFECTS], "Effects with their intervals", str(lab.get("unit") or ""))


def frontier(answer: Answer, lab: Mapping[str, object]) -> str:
    """What merges claimed so far, and beside it what audits measured of it."""
    rows = answer.dicts()
    times = column([row.get("at_utc") for row in rows])
    dated = times.kind == "time" and all(value is not None for value in times.values)
    xs = [float(value or 0) for value in times.values] if dated else [float(at + 1) for at in range(len(rows))]
    found = [
        svg.Curve(name, style, xs, [_number(row.get(key)) for row in rows])
        for key, name, style in (("claimed_so_far", "claimed", "trunk"), ("audited_so_far", "audited", "c0"))
    ]
    held = [  # an audit stands until the next
        svg.Curve(each.name, each.style, *_known(each)) for each in found if any(value is not None for value in each.y)
    ]
    up = f"better than the first trunk by, {lab.get('unit') or 'the metric'}"
    return svg.lines(held, "Frontier", "" if dated else "merge", up, kind="time" if dated else "number", steps=True)


def _known(each: svg.Curve) -> tuple[list[float], list[float | None]]:
    pairs = [(x, y) for x, y in zip(each.x, each.y, strict=True) if y is not None]
    return [x for x, _ in pairs], [y for _, y in pairs]


def predicted(answer: Answer, lab: Mapping[str, object]) -> str:
    """What was predicted against what was measured."""
    points = []
    for row in answer.dicts():
        x, y = _number(row.get("predicted")), _number(row.get("measured"))
        if x is not None and y is not None:
            points.append((x, y, f"{row.get('experiment', '')} {row.get('hypothesis') or ''}"))
    return svg.scatter(points, "Predicted against measured", "predicted effect", "measured effect")


def curves(each: Comparison, loss: str) -> str:
    """Every seed of an experiment over every seed of the trunk."""
    drawn = [
        svg.Curve("the trunk" if at == 0 else "", "trunk", one.steps, one.values) for at, one in enumerate(each.trunk)
    ]
    drawn += [
        svg.Curve(each.experiment if at == 0 else "", "c0", one.steps, one.values) for at, one in enumerate(each.own)
    ]
    marks = [
        (one.resumed_at, f"{one.shard} went on at step {one.resumed_at}")
        for one in (*each.trunk, *each.own)
        if one.resumed_at is not None
    ]
    title = f"Training loss of {each.experiment} and of the trunk"
    return svg.lines(drawn, title, "step", loss, top_share=0.8, height=260, marks=marks)


def sources(answer: Answer) -> str:
    """The gain on each source, the worst last."""
    found = [(str(row.get("source")), gain) for row in answer.dicts() if (gain := _number(row.get("gain"))) is not None]
    return svg.bars(sorted(found, key=lambda pair: -pair[1]), "Gain by source")


OF: Mapping[str, Callable[[Answer, Mapping[str, object]], str]] = {
    "leaderboard": leaderboard,
    "frontier": frontier,
    "predicted": predicted,
}
