"""Looking after a lab: is everything whole (`verify`), what can go (`gc`), how the trunk stands to your branch."""

from __future__ import annotations

import asyncio
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import events as e
from engine.blobs import Blobs
from engine.core import Core, fold, now
from engine.decide import next_decision
from engine.field import OPEN
from engine.files import below, read_regular, remove_tree
from engine.further import split
from engine.history.store import Store
from engine.ledger import Event, LedgerError, read_lines
from engine.past_merges import standing
from engine.paths import StateDir
from engine.proposals import one_line
from engine.repo import Repo
from engine.rpc import INVALID_PARAMS, NOT_NOW, RpcError
from engine.runs import checkpoints, keeps_checkpoints
from engine.scoring import scratch_of
from engine.shards.caches import Caches
from engine.state import State
from engine.types import Outcome, ProposalState, ShardState, Who
from engine.watch.parse import make_parser

Check = dict[str, Any]
SHOWN = 5
CHUNK = 1 << 20


def _check(name: str, problems: list[str], detail: str) -> Check:
    more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return {"name": name, "ok": not problems, "detail": "; ".join(problems[:SHOWN]) + more if problems else detail}


# --- verify ------------------------------------------------------------------------------------------------------------


async def verify(core: Core, metrics_file: Callable[[str], Path]) -> list[Check]:
    """Every check, of a running engine: what is on disk is read afresh and compared with what the engine believes."""
    checks = await asyncio.to_thread(check_ledger, core.dir.ledger)
    state = core.state
    checks += [check_decisions(state), check_shards(state, core.dir.runs), check_blobs(state, core.blobs.get)]
    checks.append(
        _check("branches", await core.git(branch_problems, state, core.repo), "every commit is on its branch")
    )
    counts = await core.index(Store.point_counts)
    checks.append(await asyncio.to_thread(_check_points, core, counts, metrics_file))
    return checks


def verify_offline(root: Path, dir: StateDir) -> list[Check]:
    """The checks that need no engine: all but the index, which only an engine opens."""
    checks = check_ledger(dir.ledger)
    if not checks[0]["ok"]:
        return checks
    raw = dir.ledger.read_bytes()
    state = fold([event for event, _ in read_lines(raw[: raw.rfind(b"\n") + 1])])
    checks += [check_decisions(state), check_shards(state, dir.runs), check_blobs(state, Blobs(dir.blobs).get)]
    repo = Repo(root, dir.root / "git")
    try:
        checks.append(_check("branches", branch_problems(state, repo), "every commit is on its branch"))
    finally:
        repo.close()
    return checks


def check_ledger(path: Path) -> list[Check]:
    """The chain of hashes from the first line to the last, read from disk, and that it folds."""
    whole: list[Event] = []
    try:
        raw = path.read_bytes()
        whole = [event for event, _ in read_lines(raw[: raw.rfind(b"\n") + 1], str(path))]
        fold(whole)
    except (LedgerError, OSError, KeyError, ValueError) as error:
        return [_check("ledger", [str(error) or repr(error)], "")]
    return [_check("ledger", [], f"{len(whole)} events, the chain is whole")]


def check_decisions(state: State) -> Check:
    """Each approved proposal has one experiment, each experiment one approval, none is doubled."""
    problems = []
    approved = {row["id"] for row in state.proposals.values() if row["state"] == ProposalState.APPROVED}
    rows = [row for row in state.experiments.values() if row["role"] == "experiment" and "bundle" not in row]
    sources = Counter(row["proposal"] for row in rows if row.get("moved_to") not in state.experiments)
    taken = Counter((row["target"], row["action"]) for row in state.rows.values() if row["kind"] == "decision")
    undone = Counter({target: count for (target, action), count in taken.items() if action == "undo"})
    decisions: Counter[str] = Counter()
    for (target, action), count in taken.items():
        decisions[target] += count if action in ("approve", "decline") else 0
    approvals = {str(target): count for (target, action), count in taken.items() if action == "approve"}
    problems += [f"{each} was approved and has no experiment" for each in sorted(approved - set(sources))]
    problems += [
        f"experiment of {each}, which was not approved" for each in sorted(set(map(str, sources)) - set(approvals))
    ]
    problems += [
        f"{each} has {count} experiments and {approvals.get(str(each), 0)} approvals"
        for each, count in sources.items()
        if count > approvals.get(str(each), 0) > 0
    ]
    problems += [f"{each} was decided {count} times" for each, count in decisions.items() if count > 1 + undone[each]]
    decisions = +decisions
    undecided = {row["id"] for row in state.proposals.values() if row["state"] in ("approved", "declined")} - set(
        decisions
    )
    problems += [f"{each} was decided without a decision" for each in sorted(undecided)]
    return _check(
        "decisions", problems, f"{len(decisions)} decisions, {len(sources)} experiments, none missing or doubled"
    )


def check_shards(state: State, runs: Path) -> Check:
    """Each shard ran once: one directory, and a record of its end unless it was lost."""
    problems = []
    names = Counter((row["experiment"], row["rung"], row["seed"], row["attempt"]) for row in state.shards.values())
    problems += [f"{each} exists {count} times" for each, count in names.items() if count > 1]
    good = [row for row in state.shards.values() if row["outcome"] == Outcome.FINISHED]
    problems += [f"{row['id']} has no exit record" for row in good if not (runs / row["id"] / "exit.json").is_file()]
    problems += [
        f"{row['id']} finished without a metric" for row in good if not row.get("smoke") and row["metric"] is None
    ]
    problems += [
        f"{row['id']} is a smoke and has a metric" for row in good if row.get("smoke") and row["metric"] is not None
    ]
    bad = [row for row in state.shards.values() if row["outcome"] not in (None, Outcome.FINISHED)]
    problems += [f"{row['id']} failed and has a metric" for row in bad if row["metric"] is not None]
    known = set(state.shards)
    extra = [each.name for each in runs.iterdir() if each.name not in known and not each.name.startswith("prepare-")]
    problems += [f"runs/{each} belongs to no shard" for each in sorted(extra)]
    return _check("shards", problems, f"{len(state.shards)} shards, {len(good)} finished, none doubled")


def check_blobs(state: State, get: Callable[[str], bytes]) -> Check:
    """Every body that an event cites is there and is what its name says."""
    problems = []
    cited = {name for name in (*state.sources.values(), *state.diffs.values(), *state.bodies, state.config) if name}
    for name in cited:
        try:
            get(name)
        except (KeyError, ValueError, OSError) as error:
            problems.append(f"body {name[:12]}: {error}")
    return _check("bodies", problems, f"{len(cited)} bodies, each as its hash says")


def branch_problems(state: State, repo: Any) -> list[str]:
    """Experiments whose branch is missing or stands elsewhere than the ledger says. Runs on git's thread."""
    refs = repo.branches("exp/")
    rows = [row for row in state.experiments.values() if row["role"] == "experiment" and row["commit"]]
    problems = [f"{row['branch']} is gone" for row in rows if row["branch"] not in refs]
    problems += [
        f"{row['branch']} stands at {refs[row['branch']][:10]}, the ledger says {str(row['commit'])[:10]}"
        for row in rows
        if row["branch"] in refs and refs[row["branch"]] != row["commit"]
    ]
    shared = Counter(row["commit"] for row in rows)
    return problems + [
        f"commit {str(each)[:10]} belongs to {count} experiments" for each, count in shared.items() if count > 1
    ]


def _check_points(core: Core, counts: dict[str, tuple[int, int]], metrics_file: Callable[[str], Path]) -> Check:
    """The index holds each measured point once: as many as the file has up to the indexed byte."""
    problems, total = [], 0
    for shard, (offset, points) in counts.items():
        parser, found = make_parser(*core.state.measured[shard]), 0
        for at in range(0, offset, CHUNK):
            parsed = parser.feed(read_regular(metrics_file(shard), min(CHUNK, offset - at), at))
            found += sum(len(point.values) for point in parsed.points)
        total += points
        if found != points:
            problems.append(
                f"{shard}: {found} points in its file, {points} in the index; `cockpit rebuild` makes it anew"
            )
    return _check("metrics", problems, f"{total} points, each once")


# --- gc ----------------------------------------------------------------------------------------------------------------


async def gc(core: Core, *, dry_run: bool) -> dict[str, Any]:
    """Remove run trees and compile caches of what runs no more, and checkpoints and scratch files that `[retain]` does not
    keep."""
    core.check_writable()
    state = core.state
    used = [row for row in state.experiments.values() if row["id"] == state.trunk_arm or row["state"] in OPEN]
    used += [state.experiments[str(row["baseline"])] for row in used if row["baseline"]]
    used += [state.experiments[state.shards[shard]["experiment"]] for shard in state.live]
    busy = {row["tree"] for row in used}
    trees = [each for each in core.dir.trees.iterdir() if each.name not in busy and not each.name.startswith("making-")]
    freed = await core.git(_remove, trees, dry_run)  # on git's thread, where run trees are made
    files: list[Path] = []
    for row in state.shards.values():
        if row["state"] == ShardState.ENDED:
            passing = row.get("smoke") or (row.get("retune") and core.lab.retain.checkpoints != "all")
            kept = keeps_checkpoints(core, row["experiment"]) and not passing
            files += [] if kept else checkpoints(core.dir.runs / row["id"])
            run_dir = core.dir.runs / row["id"]
            scratch = [run_dir / "tmp", *scratch_of(run_dir)]
            files += [each for each in scratch if each.is_dir() and not each.is_symlink()]
    files += [each for each in core.dir.further.glob("*") if split(each.name)[0] not in state.live]
    caches = Caches(core.dir.caches)
    files += caches.idle({caches.name(str(row["tree"]), trunk=row["role"] == "trunk") for row in used}, set(state.live))
    freed += await asyncio.to_thread(_remove, files, dry_run)
    await core.git(core.repo.pack)
    return {"removed": len(trees) + len(files), "bytes": freed, "dry_run": dry_run}


def _remove(paths: list[Path], dry_run: bool) -> int:
    freed = 0
    for path in paths:
        freed += sum(map(_size, [path] if path.is_file() or path.is_symlink() else below(path)))
        if dry_run:
            continue
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)
    return freed


def _size(path: Path) -> int:
    """Bytes on disk that a file or link holds; 0 for a directory, and where nobody may look. A sparse file holds few."""
    try:
        info = path.lstat()
    except OSError:
        return 0
    return 0 if stat.S_ISDIR(info.st_mode) else min(info.st_size, info.st_blocks * 512)


# --- trunk -------------------------------------------------------------------------------------------------------------


async def trunk(core: Core, action: str, who: Who) -> dict[str, Any]:
    """Show the trunk beside the researcher's branch; "pull" merges that branch into the trunk, "push" the reverse way.

    Neither ever moves a branch that is checked out: then push says what to run.
    """
    branch, head = await core.git(core.repo.head)
    ours = await core.git(core.repo.trunk)
    facts: dict[str, Any] = {"trunk": ours, "branch": branch, "head": head}
    ahead, behind = await core.git(core.repo.ahead_behind, ours, head)
    facts |= {"trunk_ahead": ahead, "trunk_behind": behind, "log": await core.git(core.repo.first_parent_log, ours, 20)}
    facts["audit"] = standing(core.state, core.lab)
    if action == "show":
        return facts
    core.check_writable()
    if action == "pull":
        return {**facts, **await _pull(core, ours, head, behind, who)}
    if action == "push":
        return {**facts, **await _push(core, branch, ours, head, ahead, behind)}
    raise RpcError(INVALID_PARAMS, f"trunk {action!r}: it is show, pull or push")


async def _pull(core: Core, ours: str, head: str, behind: int, who: Who) -> dict[str, Any]:
    if behind == 0:
        return {"done": "the trunk has all of your branch already"}
    if core.state.merges or core.state.pull is not None:
        raise RpcError(NOT_NOW, "the trunk is being moved just now: try again in a moment")
    message = f"Pull {head[:10]} into the trunk\n\nCockpit-Pulled-By: {one_line(who.name)} ({who.os_user}@{who.host})\n"
    plan = e.PullIntended(
        next_decision(core), ours, head, float(int(now())), list(core.identity), message, who.to_json()
    )
    core.record(plan)
    await core.until(lambda: core.state.pull is None)
    trunk = str(core.state.experiments[core.state.trunk_arm]["commit"])
    if trunk == ours:
        raise RpcError(NOT_NOW, f"not pulled: {core.state.pull_error}; merge the trunk into your branch first")
    return {"done": f"pulled {head[:10]} into the trunk", "trunk": trunk}


async def _push(core: Core, branch: str | None, ours: str, head: str, ahead: int, behind: int) -> dict[str, Any]:
    if ahead == 0:
        return {"done": "your branch has all of the trunk already"}
    words = ["git", "merge", *(["--ff-only"] if behind == 0 else []), core.lab.branch]
    why = "your branch is checked out, and the cockpit never moves such a branch"
    return {"done": f"{why}; run: {' '.join(words)}", "run": words}
