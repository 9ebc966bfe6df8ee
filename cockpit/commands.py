"""What each command does: a question to the engine, and its answer as text or as one JSON object."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cockpit import listing
from cockpit.attach import EngineDown, NotALab, Session, attached, is_running, lab_here, state_dir
from cockpit.cluster import cluster_words, place, standing, waits
from cockpit.findings import asleep_words, detectors_words
from cockpit.listing import retune_words
from cockpit.merges import audit_words
from engine.rpc import RpcError
from engine.text import clean
from engine.types import ClusterRow

Command = Callable[[argparse.Namespace], int]


def run(args: argparse.Namespace) -> int:
    """Carry out the command that was parsed. User errors are one line on standard error."""
    try:
        code = COMMANDS[args.command](args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (NotALab, EngineDown, RpcError, WrongUse, Failed) as error:
        code = 2 if isinstance(error, NotALab | WrongUse) else 1
        if getattr(args, "json", False):
            print(json.dumps({"error": str(error)}))
        print(f"cockpit: {clean(str(error))}", file=sys.stderr)
        return code
    except KeyboardInterrupt:
        return 130


class WrongUse(Exception):
    """The command was given something that it cannot take."""


class Failed(Exception):
    """The work could not be done; the message says why, and what to do."""


def emit(args: argparse.Namespace, value: Any, text: str) -> int:
    """Print the JSON object when it was asked for, else the text."""
    print(json.dumps(value, indent=2, default=str) if args.json else text)
    return 0


def _width() -> int:
    return shutil.get_terminal_size((0, 0)).columns if sys.stdout.isatty() else 0


def _root(args: argparse.Namespace) -> Path:
    return lab_here(args.lab)


# --- the engine --------------------------------------------------------------------------------------------------------


def _up(args: argparse.Namespace) -> int:
    with attached(_root(args)) as session:
        hello = session.hello
        return emit(args, hello, f"engine {hello['pid']} runs, {hello['head']} events in the ledger")


def _down(args: argparse.Namespace) -> int:
    root = _root(args)
    state = state_dir(root)
    if not is_running(state):
        return emit(args, {"stopped": False}, "no engine runs")
    with attached(root, start=False) as session:
        answer = session.call("shutdown")
    wait_down(root)
    running, pilot = answer["running"], answer.get("allocation")
    text = f"engine stopped; {running} shards go on, `cockpit up` re-attaches" if running else "engine stopped"
    if pilot is not None:
        text += f"; {clean(pilot['sentence'])}"
    return emit(args, {"stopped": True, "running": running, "pilot": pilot}, text)


def wait_down(root: Path) -> None:
    """Return when the lab's engine, told to stop, has let go of it. Raises EngineDown when it does not."""
    state = state_dir(root)
    deadline = time.monotonic() + 30
    while is_running(state):
        if time.monotonic() > deadline:
            raise EngineDown(f"the engine does not stop; see {state.engine_log}")
        time.sleep(0.05)


def _status(args: argparse.Namespace) -> int:
    root = _root(args)
    if not is_running(state_dir(root)):
        emit(args, {"running": False, "root": str(root)}, "no engine runs for this lab: `cockpit up` starts it")
        return 0
    with attached(root, start=False) as session:
        status = session.call("status")
    engine = status["engine"]
    lines = [
        clean(f"{status['lab']}  {status['phase']}"),
        f"engine    pid {engine['pid']}, {engine['version']}, log {status['log']}",
        f"ledger    {status['events']} events{', read-only' if status['read_only'] else ''}",
        f"running   {status['running']} shards, isolation: {status['isolation']}",
        *[f"cluster   {clean(each)}" for each in cluster_words(status.get("cluster"), time.time())],
        f"waiting   {status['waiting']} for review, proposer: {status['proposer']}",
        f"history   {status['experiments']} experiments, {status['shards']} shards",
        f"detectors {detectors_words(status['detectors'])}",
        *[f"          {clean(each)}" for each in asleep_words(status["detectors"])],
        *[f"audit     {clean(each)}" for each in audit_words(status["audit"])],
        *[f"warning   {clean(each)}" for each in [*status["warnings"], status["config_changed"]] if each],
    ]
    return emit(args, status, "\n".join(lines))


def cluster_of(session: Session) -> ClusterRow | None:
    """What the cluster's queue says; None where shards run on this machine."""
    return session.call("cluster") if session.hello.get("cluster") else None


# --- looking -----------------------------------------------------------------------------------------------------------


def _ls(args: argparse.Namespace) -> int:
    with attached(_root(args)) as session:
        rows, _ = session.rows()
        cluster = cluster_of(session)
    found = listing.experiments(rows, cluster)
    waiting = [row for row in rows if row["kind"] == "proposal" and row["state"] == "waiting"]
    text = listing.experiment_lines(found, _width())
    if waiting:
        body = [(row["id"], row["category"], _size(row), row["hypothesis"]) for row in waiting]
        text += f"\n\n{len(waiting)} waiting for review\n"
        text += listing.table(("id", "category", "diff", "hypothesis"), body, _width())
    names = ("id", "state", "hypothesis", "category", "diff_hash", "refusal", "detail")
    refused = [row for row in rows if row["kind"] == "proposal" and row["state"] == "refused"]
    found["waiting"] = [{name: row[name] for name in names} for row in waiting]
    found["refused"] = [{name: row[name] for name in names} for row in refused]
    if refused:
        why = [(row["id"], row["refusal"], row["hypothesis"]) for row in refused]
        text += f"\n\n{len(refused)} refused by the machine\n"
        text += listing.table(("id", "because", "hypothesis"), why, _width())
    return emit(args, found, text)


def _size(row: Mapping[str, Any]) -> str:
    added = sum(file["added"] for file in row["files"])
    return f"+{added} -{sum(file['removed'] for file in row['files'])}"


def _show(args: argparse.Namespace) -> int:
    with attached(_root(args)) as session:
        rows, _ = session.rows()
        row = _find(rows, args.id)
        value = dict(row)
        if row["kind"] == "experiment":
            value["shards"] = [each for each in rows if each["kind"] == "shard" and each["experiment"] == args.id]
            value["retunes"] = [each for each in rows if each["kind"] == "retune" and each["experiment"] == args.id]
        proposal = args.id if row["kind"] == "proposal" else row.get("proposal")
        if proposal:
            shown = session.call("diff", proposal=proposal)
            value |= {"since": listing.since_approval(shown), "mix": shown["mix"], "diff": shown["diff"]}
            value["readings"] = [each for each in rows if each["kind"] == "reading" and each["proposal"] == proposal]
        cluster = cluster_of(session)
        for shard in [value] if row["kind"] == "shard" else value.get("shards", []):
            if (stands := standing(cluster, shard)) is not None:
                shard["standing"] = stands
        if row["kind"] == "shard":
            value["log"] = session.call("log", shard=args.id)["text"]
            value |= session.call("metrics", shard=args.id)
    return emit(args, value, _fields(value))


def _find(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for row in rows:
        if row["id"] == name and row["kind"] in (
            "proposal",
            "experiment",
            "shard",
            "finding",
            "decision",
            "brief",
            "reading",
            "audit",
            "retune",
        ):
            return row
    raise WrongUse(f"nothing is called {name!r}; `cockpit ls` lists what there is")


def _fields(value: Mapping[str, Any]) -> str:
    long = {name: value[name] for name in ("since", "diff", "log") if value.get(name)}
    lines = []
    for name, each in value.items():
        if name in long or name in ("kind", "seq") or each in (None, [], {}):
            continue
        if name == "retunes":
            lines += ["", *(f"{each['id']:12} {retune_words(each)}" for each in value[name])]
        elif name == "shards":
            lines += ["", _shards(each)]
        else:
            text = each if isinstance(each, str) else json.dumps(each, ensure_ascii=False)
            lines.append(f"{name:12} {clean(text)}")
    return "\n".join([*lines, *(f"\n{text}" for text in long.values())])


def _shards(rows: list[dict[str, Any]]) -> str:
    """Shards with what became of them; on a cluster with their node and GPUs, and why one waits."""
    placed, now = any(place(row) for row in rows), time.time()
    head = ("shard", "outcome", "metric", *(("node:gpu",) if placed else ()), "detail")
    body = [
        (
            row["id"],
            row["outcome"] or row["state"],
            row["metric"],
            *((place(row),) if placed else ()),
            row["detail"] or waits(row.get("standing", {}), now),
        )
        for row in rows
    ]
    return listing.table(head, body, _width())


def _rank(args: argparse.Namespace) -> int:
    with attached(_root(args)) as session:
        ranking = session.call("rank", limit=args.limit)
    rows = [
        (
            place,
            each["id"],
            each["verdict"],
            listing.signed(each["effect"]),
            listing.interval(each["interval"]),
            listing.weight(each),
            listing.outcomes(each["shards"]),
            each.get("minutes"),
            each["hypothesis"],
        )
        for place, each in enumerate(ranking["experiments"], 1)
    ]
    head = ("#", "id", "verdict", "effect", "interval", "E/bar", "shards", "minutes", "hypothesis")
    return emit(args, ranking, listing.table(head, rows, _width()))


def _sql(args: argparse.Namespace) -> int:
    from cockpit.querying import sql

    return sql(args)


def _snapshot(args: argparse.Namespace) -> int:
    from cockpit.snapshotting import snapshot

    return snapshot(args)


def _exporting(args: argparse.Namespace) -> int:
    from cockpit import exporting

    return int(getattr(exporting, args.command)(args))


# --- deciding ----------------------------------------------------------------------------------------------------------


def _approve(args: argparse.Namespace) -> int:
    if args.diff and len(args.diff) != len(args.ids):
        raise WrongUse(f"{len(args.ids)} proposals and {len(args.diff)} --diff: name one for each, in the same order")
    answers = []
    with attached(_root(args)) as session:
        for name, given in zip(args.ids, args.diff or [""] * len(args.ids), strict=True):
            seen = given or _ask(session, args, name, f"Approve {name}: its branch is made and its shards run?")
            if seen is None:
                print(f"{name} not approved", file=sys.stderr)
                return 1
            told = {"proposal": name, "diff_hash": seen, "action": "approve", "why": args.why}
            answers.append((name, session.call("decide", **told, request_id=uuid.uuid4().hex)))
    if len(answers) == 1:
        return _decided(args, *answers[0])
    emit(args, {"decisions": dict(answers)}, "\n".join(_outcome(*each) for each in answers))
    return 0 if all(answer["first"] for _, answer in answers) else 1


def _ask(session: Session, args: argparse.Namespace, proposal: str, question: str) -> str | None:
    """Show the diff and ask; the hash of what was shown, or None for a no."""
    shown = session.call("diff", proposal=proposal)
    if args.json or not sys.stdin.isatty():
        raise WrongUse(f"name the diff that you decide on: --diff {shown['hash']} (`cockpit show {proposal}` shows it)")
    print(listing.since_approval(shown) + shown["diff"])
    if not shown["whole"]:
        raise WrongUse("the diff is too long to be shown here: read it on the Review screen")
    try:
        return shown["hash"] if input(f"{question} [yes/no] ").strip().lower() == "yes" else None
    except EOFError:
        return None


def _decline(args: argparse.Namespace) -> int:
    with attached(_root(args)) as session:
        shown = session.call("diff", proposal=args.id)["hash"]
        answer = session.call(
            "decide", proposal=args.id, diff_hash=shown, action="decline", why=args.why, request_id=uuid.uuid4().hex
        )
    return _decided(args, args.id, answer)


def _decided(args: argparse.Namespace, name: str, answer: dict[str, Any]) -> int:
    emit(args, answer, _outcome(name, answer))
    return 0 if answer["first"] else 1


def _outcome(name: str, answer: dict[str, Any]) -> str:
    if not answer["first"]:
        return f"{name} was {answer['state']} before, by {clean(answer['by'] or '?')}: nothing was changed"
    more = f" as experiment {answer['experiment']}" if answer["experiment"] else ""
    return f"{name} {answer['state']}{more}"


def _stop(args: argparse.Namespace) -> int:
    with attached(_root(args)) as session:
        answer = session.call("stop", id=args.id, why=args.why, request_id=uuid.uuid4().hex)
    return emit(args, answer, f"stopping {args.id}")


def _retune(args: argparse.Namespace) -> int:
    from cockpit.retuning import retune

    return retune(args)


def _signing(args: argparse.Namespace) -> int:
    """The shortlist, or a signature."""
    from cockpit import signing

    return int(getattr(signing, args.command)(args))


# --- upkeep ------------------------------------------------------------------------------------------------------------


def _simple(method: str, say: Callable[[dict[str, Any]], str], *names: str) -> Command:
    """A command that is one call with some of the arguments, and a sentence of its answer."""

    def command(args: argparse.Namespace) -> int:
        with attached(_root(args)) as session:
            answer = session.call(method, **{name: getattr(args, name) for name in names})
        return emit(args, answer, clean(say(answer)))

    return command


def _propose(args: argparse.Namespace) -> int:
    from cockpit.proposing import propose

    return propose(args)


def _otherwise(args: argparse.Namespace) -> int:
    """Neither yes nor no: revise, edit, defer or undo."""
    from cockpit import deciding

    return int(getattr(deciding, args.command)(args))


def _advice(args: argparse.Namespace) -> int:
    """A brief, or what a second reader said."""
    from cockpit import briefs

    return int(getattr(briefs, args.command)(args))


def _found(args: argparse.Namespace) -> int:
    """What detectors found, or a person's word on it."""
    from cockpit import acknowledging

    return int(getattr(acknowledging, args.command)(args))


def _import(args: argparse.Namespace) -> int:
    from cockpit.importing import import_history

    return import_history(args)


def _audit(args: argparse.Namespace) -> int:
    from cockpit.auditing import audit

    return audit(args)


def _verify(args: argparse.Namespace) -> int:
    root = _root(args)
    if is_running(state_dir(root)):
        with attached(root, start=False) as session:
            checks = session.call("verify")["checks"]
    else:
        from cockpit.offline import verify

        checks = verify(root)
    text = "\n".join(f"{'ok  ' if each['ok'] else 'FAIL'} {each['name']:10} {clean(each['detail'])}" for each in checks)
    whole = all(each["ok"] for each in checks)
    emit(args, {"ok": whole, "checks": checks}, text)
    return 0 if whole else 1


def _ledger(args: argparse.Namespace) -> int:
    from cockpit.lab_book import show

    return _verify(args) if args.action == "verify" else show(args)


def _selftest(args: argparse.Namespace) -> int:
    from cockpit.selftest import selftest

    return selftest(args)


def _trunk_text(answer: dict[str, Any]) -> str:
    where = f"branch {answer['branch']}" if answer["branch"] else "detached HEAD"
    lines = [
        f"trunk {answer['trunk'][:10]}, {answer['trunk_ahead']} ahead and {answer['trunk_behind']} behind "
        f"your {where} at {answer['head'][:10]}",
        *answer["log"],
        *[f"audit of past merges: {each}" for each in audit_words(answer["audit"])],
    ]
    return "\n".join([*lines, *([answer["done"]] if "done" in answer else [])])


def _init(args: argparse.Namespace) -> int:
    from cockpit.offline import init

    return init(args)


def _doctor(args: argparse.Namespace) -> int:
    from cockpit.offline import doctor

    return doctor(args)


def _demo(args: argparse.Namespace) -> int:
    from cockpit.demo import demo

    return demo(args)


def _pilot(args: argparse.Namespace) -> int:
    from cockpit.piloting import pilot

    return pilot(args)


COMMANDS: dict[str, Command] = {
    "init": _init,
    "demo": _demo,
    "pilot": _pilot,
    "up": _up,
    "down": _down,
    "status": _status,
    "ls": _ls,
    "show": _show,
    "approve": _approve,
    "decline": _decline,
    "revise": _otherwise,
    "edit": _otherwise,
    "defer": _otherwise,
    "undo": _otherwise,
    "stop": _stop,
    "sign": _signing,
    "retune": _retune,
    "shortlist": _signing,
    "findings": _found,
    "ack": _found,
    "audit": _audit,
    "rank": _rank,
    "sql": _sql,
    "import": _import,
    "export": _exporting,
    "report": _exporting,
    "plot": _exporting,
    "snapshot": _snapshot,
    "propose": _propose,
    "brief": _advice,
    "read": _advice,
    "rebuild": _simple("rebuild", lambda a: f"rebuilt from {a['events']} events and {a['shards']} shards"),
    "verify": _verify,
    "ledger": _ledger,
    "selftest": _selftest,
    "gc": _simple(
        "gc",
        lambda a: (
            f"{'would remove' if a['dry_run'] else 'removed'} {a['removed']} files and trees, {a['bytes'] / 1e6:.1f} MB"
        ),
        "dry_run",
    ),
    "trunk": _simple("trunk", _trunk_text, "action"),
    "pause": _simple("pause", lambda a: "paused: nothing is launched until `cockpit resume`", "why"),
    "resume": _simple("resume", lambda a: "resumed"),
    "doctor": _doctor,
}
