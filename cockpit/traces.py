"""Which curves are drawn for a selection: the run itself, the trunk always, and every marked experiment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.types import ShardRow

from .model import ReadModel
from .summary import RowKey, full, latest_attempts, main_shard
from .widgets.curves import Trace, mean_of


def chosen(model: ReadModel, selected: RowKey | None, marks: Mapping[str, int]) -> list[Trace]:
    """Traces for the legend's order: the selected one first, then marked ones, the trunk last.

    A running experiment is drawn as its running shard against the trunk's shard of the same seed; a finished one as the
    mean of its seeds against the mean of the trunk's.
    """
    trunk = model.trunk()
    traces: list[Trace] = []
    seed: int | None = None
    here = selected.experiment if selected else None
    if selected is not None and here in model.experiments and (trunk is None or here != trunk["id"] or selected.shard):
        shard = model.shards.get(selected.shard or "") or _running(model, selected.experiment)
        if shard is not None:
            seed = shard["seed"]
            traces += _one(model, shard, "curve0")
        else:
            traces += _mean(model, selected.experiment, "curve0")
    for name, number in sorted(marks.items(), key=lambda item: item[1]):
        if name != here and (trunk is None or name != trunk["id"]):
            traces += _mean(model, name, f"curve{number}")
    if trunk is not None and not (selected and selected.shard and here == trunk["id"]):
        same = _of_seed(model, trunk["id"], seed) if seed is not None and here != trunk["id"] else None
        traces += _one(model, same, "trunk") if same else _mean(model, trunk["id"], "trunk")
    return traces


def wanted_shards(model: ReadModel, selected: RowKey | None, marks: Iterable[str]) -> list[str]:
    """Ended shards whose curves would be drawn or sparkled and are not here: they have to be asked for."""
    trunk = model.trunk()
    names = [*([selected.experiment] if selected else []), *marks, *([trunk["id"]] if trunk else [])]
    found: dict[str, None] = {}
    for name in names:
        for row in model.shards_of(name):
            if row["state"] == "ended" and model.curve_of(row["id"]) is None:
                found[row["id"]] = None
    return list(found)


def _running(model: ReadModel, experiment: str) -> ShardRow | None:
    name = main_shard(model, experiment)
    row = model.shards.get(name or "")
    return row if row is not None and (row["state"] != "ended" or row["outcome"] != "finished") else None


def _compared(model: ReadModel, experiment: str) -> list[ShardRow]:
    """The full runs of an arm at the rungs that experiments climb: a full-scale one is compared with none."""
    climbed = model.lab["rungs"] if model.lab else None
    return [row for row in full(model.shards_of(experiment)) if climbed is None or row["rung"] in climbed]


def _of_seed(model: ReadModel, experiment: str, seed: int) -> ShardRow | None:
    rows = [row for row in _compared(model, experiment) if row["seed"] == seed and model.curve_of(row["id"])]
    return rows[-1] if rows else None


def _name(model: ReadModel, experiment: str) -> str:
    trunk = model.trunk()
    return "trunk" if trunk is not None and experiment == trunk["id"] else experiment


def _one(model: ReadModel, row: ShardRow, colour: str) -> list[Trace]:
    curve = model.curve_of(row["id"])
    if curve is None:
        return []
    live = model.live.get(row["id"])
    label = f"{_name(model, row['experiment'])} s{row['seed']}"
    resumed = tuple(model.resumed_at(row["id"]))
    return [Trace(label, colour, *curve, live.total if live else None, resumed)]


def _mean(model: ReadModel, experiment: str, colour: str) -> list[Trace]:
    """The mean over finished seeds; before any has finished, over those that run, as far as all of them are."""
    rows = latest_attempts(_compared(model, experiment))
    ready = [row for row in rows if row["outcome"] == "finished" and model.curve_of(row["id"])]
    ready = ready or [row for row in rows if model.curve_of(row["id"])]
    curves = [curve for row in ready if (curve := model.curve_of(row["id"])) is not None]
    if not curves:
        return []
    totals = [model.live[row["id"]].total or 0 for row in ready if row["id"] in model.live]
    steps, values = mean_of(curves)
    label = _name(model, experiment) + (f" mean of {len(curves)}" if len(curves) > 1 else "")
    return [Trace(label, colour, steps, values, max(totals, default=0) or None)] if steps else []
