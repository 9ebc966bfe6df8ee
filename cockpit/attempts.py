"""What is to come and what came before: shards that wait, time that they need, attempts that follow each other. Pure."""

from __future__ import annotations

from engine.types import ShardRow

from .model import ReadModel
from .summary import CUT_OFF, latest_attempts, next_attempt, shard_seconds

FATES = {"node-lost": "lost with its node"}


def needed(model: ReadModel, now: float) -> float | None:
    """Seconds that the longest of the allocation's running shards still takes, by its own speed or by what its rung took so
    far; None where nothing runs, or nothing is known of it."""
    cluster, found = model.cluster, list[float]()
    if cluster is None:
        return None
    for row in model.shards.values():
        if row["state"] not in ("running", "scoring") or not row.get("node") or row["id"] in cluster["shards"]:
            continue
        live = model.live.get(row["id"])
        if live is not None and live.eta_s is not None:
            found.append(live.eta_s)
        elif row["started"] and (usual := shard_seconds(model, row["rung"])) is not None:
            found.append(max(0.0, row["started"] + usual - now))
    return max(found, default=None)


def waiting(model: ReadModel) -> int:
    """Shards that would start if there were places for all: queued ones, and seeds of arms that have begun or may."""
    seeds = len(model.lab["seeds"]) if model.lab else 0
    count = 0
    for row in model.experiments.values():
        going = row["state"] in ("queued", "running")
        if not going and row["id"] != (model.lab["trunk_arm"] if model.lab else ""):
            continue
        shards = [each for each in model.shards_of(row["id"]) if each["rung"] == row["rung"] and not each.get("smoke")]
        latest = latest_attempts(shards)
        started = [each for each in latest if each["state"] != "queued" and each["outcome"] not in CUT_OFF]
        count += (max(seeds, len(latest)) if going else len(latest)) - len(started)
    return count


def after(model: ReadModel, row: ShardRow) -> str:
    """What came after an attempt that was cut off, in words; empty for any other."""
    if row["outcome"] not in CUT_OFF:
        return ""
    following = next_attempt(model, row)
    if following is None:
        return "its seed runs again, or goes on from what it saved, when there is a place"
    short = following["id"].rpartition(".")[2]
    if following.get("resumes") != row["id"]:
        return f"its seed ran again as {short}" if following["state"] == "ended" else f"its seed runs again as {short}"
    at = model.resumed_at(following["id"])[-1:]
    return f"{short} went on from it" + (f" at step {at[0]}" if at else "")


def before(model: ReadModel, row: ShardRow) -> str:
    """Which attempt this one went on from, at which step, and what had become of that one; empty where there is none."""
    name = row.get("resumes")
    if not name:
        return ""
    at, earlier = model.resumed_at(row["id"])[-1:], model.shards.get(name)
    said = f"goes on from {name.rpartition('.')[2]}" + (f" at step {at[0]}" if at else "")
    if earlier is None or not earlier["outcome"]:
        return said
    return f"{said}, which was {FATES.get(earlier['outcome'], earlier['outcome'])}" + (
        f" on {earlier['node']}" if earlier.get("node") else ""
    )
