"""From the curves of a source that has no table of results to what each of its runs came to: its metric's last value."""

from __future__ import annotations

from collections.abc import Mapping

from engine.history.importers.base import ImportRefused, Reading, cut
from engine.history.importers.words import direction_of, direction_said, likeliest_metric, settle, unmask
from engine.types import Outcome

_INF = float("inf")


def finish(reading: Reading, mapping: Mapping[str, str], unended: Mapping[int, str] | None = None) -> None:
    """Name the metric of every segment and settle each run that has no outcome of its own yet, by the last value of it.

    `unended` are runs, by their `n`, of which the source does not say how they ended, and why; they keep their metric and
    that is said with it. Raises ImportRefused when the mapping names a metric that no run has.
    """
    names, curves = list(reading.curves.names), reading.curves
    wanted = mapping.get("metric", "")
    if wanted and wanted not in curves.names:
        some = ", ".join(names[:30]) or "none"
        raise ImportRefused(f"--map metric={cut(wanted)}: the source has no such metric; it has {some}")
    last: list[dict[int, float]] = [{} for _ in reading.runs]
    steps = [0] * len(reading.runs)
    for at, metric, step, value in zip(curves.run, curves.metric, curves.step, curves.value, strict=True):
        last[at][metric] = value
        if step > steps[at]:
            steps[at] = step
    for segment in reading.segments:
        mine = [run for run in reading.runs if run.segment == segment.number]
        present = sorted({metric for run in mine for metric in last[run.n - 1]})
        segment.metric = wanted or likeliest_metric([names[each] for each in present]) or ""
        segment.direction = direction_said(mapping.get("direction", "")) or direction_of(segment.metric)
        segment.unit = cut(mapping.get("unit", segment.unit))
        for run in mine:
            values = last[run.n - 1]
            run.steps = run.steps or steps[run.n - 1] or None
            found = values.get(curves.names.get(segment.metric, -1))
            run.further.update((names[each], value) for each, value in values.items() if abs(value) < _INF)
            settle(run, found, segment.direction, run.detail)
            if run.outcome == Outcome.FINISHED and run.n in (unended or {}):
                run.detail = (unended or {})[run.n]
            elif not segment.metric:
                run.detail = "no metric of the source is known to be the one to compare by"
    if any(not segment.metric for segment in reading.segments):
        reading.note(f"no metric is known to be the one to compare by: --map metric=… one of {', '.join(names[:20])}")
    else:
        told = ", ".join(sorted({segment.metric for segment in reading.segments}))
        reading.note(f"a run's metric is the last value of {told}; --map metric=… says otherwise")
    unmask(reading)
