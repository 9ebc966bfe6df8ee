"""What a row of the runs table says of an experiment or a shard, and in which order rows stand: pure, from the read model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.types import HALF, SMOKE, ExperimentRow, PairRow, ProposalRow, ShardRow

from . import evidence as ev
from . import format as f
from .cluster import place, standing
from .model import ReadModel

CUT_OFF = ("preempted", "node-lost", "lost")
"""Outcomes after which a seed runs again, or goes on, by no fault of its own."""

SORTS = ("newest", "effect", "id")

GLYPHS: dict[str, tuple[str, str]] = {
    "running": ("●", "run"), "scoring": ("◍", "run"), "queued": ("○", "dim"), "solid": ("✓", "good"),
    "harmful": ("▼", "bad"), "barred": ("⊘", "bad"), "not-solid": ("–", "dim"), "broken": ("✗", "bad"),
    "undecided": ("?", "dim"),
    "signed": ("◈", "run"), "vetoed": ("✗", "bad"), "moved": ("→", "dim"), "conflicted": ("✗", "warn"),
    "stopped": ("■", "warn"), "failed": ("✗", "bad"), "merged": ("◆", "good"), "trunk": ("◇", "accent"),
    "smoke": ("◌", "run"), "finished": ("✓", "text"), "killed": ("■", "warn"), "lost": ("✗", "warn"), "judged": ("–", "dim"),
    "ended-early": ("■", "dim"), "preempted": ("■", "warn"), "node-lost": ("✗", "warn"),
}  # fmt: skip
"""Glyph and colour of a state, verdict or outcome; every one of them is also written as a word."""


def glyph(word: str) -> tuple[str, str]:
    """Failures that have no sign of their own are crosses."""
    return GLYPHS.get(word, ("✗", "bad"))


@dataclass(frozen=True, slots=True)
class RowKey:
    """A line of the table: an experiment, or one of its shards."""

    experiment: str
    shard: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the columns show; `done` is the share of the work, None when nothing is known of it."""

    word: str
    name: str
    what: str
    steps: str
    done: float | None
    metric: float | None
    effect: float | None
    lo: float | None
    hi: float | None
    tokens_per_s: float | None
    eta_s: float | None
    trunk: bool = False
    weight: str = ""  # E and its bar
    cost_s: float | None = None  # that its shards ran
    place: str = ""  # node and GPUs of a cluster
    past: bool = False  # an attempt that was cut off, after which there was another


def word_of(row: ExperimentRow) -> str:
    """Verdict when there is one that counts, else the state."""
    verdict = row["verdict"]["verdict"] if row["verdict"] else None
    if row["state"] in ("merged", "signed", "vetoed", "moved", "conflicted", "stopped", "failed"):
        return row["state"]
    if row["role"] == "trunk":
        return row["state"] if row["state"] in ("running", "queued") else "trunk"
    if row["state"] == "judged" and verdict:
        return verdict
    return row["state"]


def experiment_facts(model: ReadModel, row: ExperimentRow) -> Facts:
    """Columns of an experiment: mean metric of its finished shards at its rung, and how far its seeds are."""
    bundle, off = "bundle" in row, row.get("signoff")
    own = (shard for shard in model.shards_of(row["id"]) if bundle or not shard.get("fresh"))
    latest = latest_attempts(shard for shard in own if shard["rung"] == row["rung"])
    scores = [shard["metric"] for shard in latest if shard["metric"] is not None]
    going = row["role"] == "trunk" or row["state"] in ("queued", "running")
    ended = sum(shard["state"] == "ended" and not (going and shard["outcome"] in CUT_OFF) for shard in latest)
    planned = max(len(model.lab["seeds"]) if model.lab else 0, len(latest))
    if row["state"] in ("judged", "signed", "vetoed", "moved", "conflicted", "stopped", "failed", "merged"):
        planned = len(latest)
    live = [model.live[shard["id"]] for shard in latest if shard["state"] == "running" and shard["id"] in model.live]
    share = sum(each.step / each.total for each in live if each.total)
    speeds = [each.tokens_per_s for each in live if each.tokens_per_s is not None]
    etas = [each.eta_s for each in live if each.eta_s is not None]
    verdict = row["verdict"]
    steps = f"{ended}/{planned}" if planned else ""
    if verdict and verdict["rung"] == SMOKE:
        steps = SMOKE  # as far as it came
    smoking = any(shard.get("smoke") and shard["state"] != "ended" for shard in model.shards_of(row["id"]))
    return Facts(
        word=SMOKE if smoking else word_of(row),
        name=row["id"],
        what=row["hypothesis"] or row["branch"],
        steps=steps,
        done=(ended + share) / planned if planned else None,
        metric=sum(scores) / len(scores) if scores else None,
        effect=verdict["effect"] if verdict else off["mean"] if bundle and off else None,
        lo=verdict["lo"] if verdict else off["lo"] if bundle and off else None,
        hi=verdict["hi"] if verdict else off["hi"] if bundle and off else None,
        tokens_per_s=sum(speeds) / len(speeds) if speeds else None,
        eta_s=max(etas) if etas else None,
        trunk=row["role"] == "trunk",
        weight=ev.short_weight(verdict),
        cost_s=ev.seconds([shard for shard in model.shards_of(row["id"]) if "retune" not in shard]),
    )


def shard_facts(model: ReadModel, row: ShardRow) -> Facts:
    """Columns of one shard; the difference is the one of its own seed."""
    live = model.live.get(row["id"]) if row["state"] in ("running", "scoring") else None
    experiment = model.experiments.get(row["experiment"])
    pairs = pairs_beside(experiment, fresh=bool(row.get("fresh"))) if experiment else []
    pair = None if "retune" in row else next((each for each in pairs if each["seed"] == row["seed"]), None)
    stands = standing(model.cluster, row)
    word = row["outcome"] or (stands["state"] if stands and row["state"] == "running" else row["state"])
    seed = f"smoke run, seed {row['seed']}" if row.get("smoke") else f"seed {row['seed']}"
    seed = f"fresh {seed}" if row.get("fresh") else seed
    seed += f" · rate {row['scale']:g}x" if "retune" in row else ""
    what = seed if row.get("smoke") else f"{row['rung']} · {seed}"
    what += " · canary: once more, to see whether the machine has changed" if row.get("canary") else ""
    what += f" · attempt {row['attempt']}" if row["attempt"] > 1 and not row.get("resumes") else ""
    if live is not None and live.total:
        what = f"step {live.step} of {live.total} · {what}"
    if stands and stands["state"] == "queued" and stands.get("why"):
        what = f"{seed} · {stands['why']}"
    if row["detail"] and row["outcome"] != "finished":
        what = f"{seed} · {row['detail']}"
    what = f"↻{row['attempt']} · {what}" if row.get("resumes") else what  # it goes on from an attempt that was cut off
    done = live.step / live.total if live is not None and live.total else 1.0 if row["outcome"] == "finished" else None
    counts = row["metric"] is not None and pair is not None and pair["candidate"] == row["metric"]
    return Facts(
        word=word,
        name=SMOKE if row.get("smoke") else f"s{row['seed']}",
        what=what,
        steps="",
        done=done,
        metric=row["metric"],
        effect=pair["difference"]
        if counts and pair is not None and experiment and experiment["role"] != "trunk"
        else None,
        lo=None,
        hi=None,
        tokens_per_s=live.tokens_per_s if live is not None else None,
        eta_s=live.eta_s if live is not None else None,
        cost_s=ev.seconds([row]),
        place=place(row),
        past=row["outcome"] in CUT_OFF and next_attempt(model, row) is not None,
    )


def next_attempt(model: ReadModel, row: ShardRow) -> ShardRow | None:
    """The attempt after this one at the same seed and rung, if there is one."""
    name, _, _ = row["id"].rpartition(".")
    return model.shards.get(f"{name}.a{row['attempt'] + 1}")


def pairs_beside(row: ExperimentRow, *, fresh: bool) -> list[PairRow]:
    """The pairs of the verdict, or those that were run for a signature."""
    if not fresh:
        return row["pairs"]
    return row["signoff"]["pairs"] if "signoff" in row else []


def latest_attempts(rows: Iterable[ShardRow]) -> list[ShardRow]:
    """The last attempt of each seed and rung, in the given order."""
    last: dict[tuple[str, int], ShardRow] = {}
    for row in rows:
        key = (row["rung"], row["seed"])
        if key not in last or last[key]["attempt"] <= row["attempt"]:
            last[key] = row
    return list(last.values())


def broke_at_smoke(model: ReadModel, row: ProposalRow) -> ExperimentRow | None:
    """The experiment of an approved proposal that ended at its smoke: such a one can be edited, which repairs it."""
    found = model.experiments.get(row["experiment"] or "")
    verdict = found["verdict"] if found else None
    broken = verdict is not None and verdict["verdict"] == "broken" and verdict["rung"] == SMOKE
    return found if broken and row["state"] == "approved" else None


def full(rows: Iterable[ShardRow]) -> list[ShardRow]:
    """Without smokes, which say nothing about how well something trains, and what ends elsewhere: the trunk's shorter runs, and
    those at a scaled learning rate."""
    return [row for row in rows if not row.get("smoke") and row["rung"] != HALF and "retune" not in row]


def main_shard(model: ReadModel, experiment: str) -> str | None:
    """The shard whose log speaks for an experiment: a failed one, else one that runs, else the last one."""
    rows = [row for row in model.shards_of(experiment) if "retune" not in row]
    rows = [row for row in rows if row["outcome"] not in CUT_OFF or next_attempt(model, row) is None]
    for wanted in (
        lambda row: row["state"] in ("running", "scoring"),
        lambda row: row["outcome"] not in (None, "finished"),
        lambda row: row["state"] == "ended",
    ):
        found = [row["id"] for row in rows if wanted(row)]
        if found:
            return found[-1]
    return rows[-1]["id"] if rows else None


def ordered(model: ReadModel, sort: str, terms: str, unfolded: set[str]) -> list[RowKey]:
    """Lines of the table: the present trunk, then experiments that match, each followed by its shards when unfolded."""
    present = model.lab["trunk_arm"] if model.lab else None
    rows = [row for row in model.experiments.values() if matches(row, terms) or row["id"] == present]

    def effect(row: ExperimentRow) -> float:
        found = row["verdict"]["effect"] if row["verdict"] else None
        return found if found is not None else float("-inf")

    rows.sort(key=lambda row: row["id"], reverse=sort == "newest")
    if sort == "newest":
        rows.sort(key=lambda row: row["created"], reverse=True)
    elif sort == "effect":
        rows.sort(key=effect, reverse=True)
    rows.sort(key=lambda row: (row["id"] != present, row["role"] == "trunk"))
    keys: list[RowKey] = []
    for row in rows:
        keys.append(RowKey(row["id"]))
        if row["id"] in unfolded:
            keys += [RowKey(row["id"], shard["id"]) for shard in model.shards_of(row["id"])]
    return keys


def matches(row: ExperimentRow, terms: str) -> bool:
    """Every word must be found; `state:running` looks in one field, `!word` must not be found. Case does not matter."""
    fields = {
        "id": row["id"],
        "state": f"{row['state']} {word_of(row)}",
        "verdict": row["verdict"]["verdict"] if row["verdict"] else "",
        "category": row["category"],
        "branch": row["branch"],
        "hypothesis": row["hypothesis"],
    }
    for term in terms.lower().split():
        wanted = not term.startswith("!")
        word = term.removeprefix("!")
        name, colon, value = word.partition(":")
        here = value in fields[name].lower() if colon and name in fields else word in " ".join(fields.values()).lower()
        if here != wanted:
            return False
    return True


# --- what the reviewer should know before deciding


def past_of_category(model: ReadModel, category: str) -> str:
    """How experiments of this kind fared so far, in one sentence."""
    rows = [row for row in model.experiments.values() if row["role"] == "experiment" and row["category"] == category]
    judged = [row for row in rows if row["verdict"] and row["state"] in ("judged", "signed", "vetoed", "merged")]
    if not rows:
        return f"nothing of the kind “{category}” was tried yet"
    tally: dict[str, int] = {}
    for row in judged:
        verdict = row["verdict"]
        tally[verdict["verdict"] if verdict else ""] = tally.get(verdict["verdict"] if verdict else "", 0) + 1
    words = [
        f"{tally[name]} {name}"
        for name in ("solid", "barred", "harmful", "not-solid", "broken", "undecided")
        if name in tally
    ]
    if len(rows) > len(judged):
        words.append(f"{len(rows) - len(judged)} without a verdict")
    effects = [(v["effect"], row["id"]) for row in judged if (v := row["verdict"]) and v["effect"] is not None]
    tail = f"; best {max(effects)[1]} {f.signed(max(effects)[0])}" if effects else ""
    return f"{f.plural(len(rows), 'experiment')} of the kind “{category}”: {', '.join(words)}{tail}"


def trunk_noise(model: ReadModel) -> str:
    """The trunk's metric and its spread over seeds, in one sentence."""
    trunk = model.trunk()
    if trunk is None or model.lab is None:
        return "the trunk has no runs yet"
    rows = latest_attempts(row for row in model.shards_of(trunk["id"]) if row["rung"] == trunk["rung"])
    scores = [row["metric"] for row in rows if row["metric"] is not None]
    if not scores:
        return "the trunk has no finished run yet"
    mean = sum(scores) / len(scores)
    if len(scores) < 2:
        return f"trunk {model.lab['metric']} {f.metric(mean)} on one seed; its noise is not known yet"
    spread = (sum((each - mean) ** 2 for each in scores) / (len(scores) - 1)) ** 0.5
    return f"trunk {model.lab['metric']} {f.metric(mean)}, seed to seed ±{f.metric(spread)} (sd of {len(scores)} seeds)"


def shard_seconds(model: ReadModel, rung: str | None) -> float | None:
    """Mean seconds that a finished shard took at a rung, None before the first."""
    spans = [
        row["ended"] - row["started"]
        for row in model.shards.values()
        if row["outcome"] == "finished"
        and row["started"]
        and row["ended"]
        and not row.get("smoke")
        and (rung is None or row["rung"] == rung)
    ]
    return sum(spans) / len(spans) if spans else None


def asked_cost(model: ReadModel, row: ProposalRow) -> str:
    """What asking for a proposal cost, in one sentence; empty where no model was asked."""
    asked = model.rounds.get(row.get("round", ""))
    if asked is None:
        return ""
    many = len(asked["added"]) or sum(each.get("round") == asked["id"] for each in model.proposals.values())
    usd = "no price is known" if asked["usd"] is None else f"${asked['usd']:.4f}"
    name = model.model_of(asked["id"]) or asked["proposer"]
    return f"{usd} for {f.plural(many, 'proposal')} of {asked['id']}, {name}"


def cost(model: ReadModel) -> str:
    """What an approval would run, and about how long: seeds, rung, seconds from what shards took so far."""
    lab = model.lab
    if lab is None:
        return "cost unknown: the lab's row is not here yet"
    rung = lab["rungs"][0] if lab["rungs"] else "first"
    seconds = shard_seconds(model, rung)
    what = f"{f.plural(len(lab['seeds']), 'seed')} at rung {rung} on {f.plural(max(lab['slots'], 1), 'slot')}"
    if seconds is None:
        return f"{what}; no shard has finished yet, so the time is not known"
    rounds = -(-len(lab["seeds"]) // max(lab["slots"], 1))
    return f"{what}, about {f.duration(seconds * rounds)} ({f.duration(seconds)} a shard so far)"


def reviews(model: ReadModel, keep: str | None = None) -> list[ProposalRow]:
    """The review queue: waiting first (oldest first, put off ones last), then refused, then decided ones, newest first.

    `keep` stays among the waiting ones although it was decided: the row that the reader is looking at must not move away.
    """
    rank = {"waiting": 0, "refused": 1}

    def key(row: ProposalRow) -> tuple[int, float, float, str]:
        group = 0 if row["id"] == keep else rank.get(row["state"], 2)
        put_off = row.get("deferred", 0.0) if group == 0 else 0.0
        return group, put_off, (row["created"] if group == 0 else -row["seq"]), row["id"]

    return sorted(model.proposals.values(), key=key)


def kept_text(model: ReadModel) -> str:
    """What is said on leaving: what goes on without this terminal."""
    running = sum(row["state"] in ("running", "scoring") for row in model.shards.values())
    queued = sum(row["state"] == "queued" for row in model.shards.values())
    if not running and not queued:
        return "Nothing runs now; `cockpit` opens this lab again."
    parts: Sequence[str] = (
        [f"{f.plural(running, 'run')} {'keeps' if running == 1 else 'keep'} going"] if running else []
    )
    if queued:
        parts = [*parts, f"{queued} queued"]
    return f"{', '.join(parts)}; `cockpit` re-attaches."
