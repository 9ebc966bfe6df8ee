"""Briefs: what came of a batch, written when it is judged. By the history's own queries, or by Claude where the lab says so.

A batch is what was judged since the brief before; it is whole when no approved experiment runs or waits any more. A brief
always comes: where a model cannot be asked, or fails, the queries fill it, and the row says why.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from engine import campaign
from engine import events as e
from engine.asking import Asking
from engine.core import Core, policy
from engine.desk import EngineDesk
from engine.errands import Errands
from engine.field import OPEN
from engine.history.database import StoreError
from engine.lab import Lab
from engine.proposers.brief import Claim, Parsed, brief_request, parse_brief
from engine.proposers.claude import Claude
from engine.proposers.past import five
from engine.proposers.single import single
from engine.proposers.stream import Failed
from engine.proposers.talk import Answer
from engine.resources import shipped
from engine.rpc import NOT_NOW, RpcError
from engine.state import State
from engine.text import clean
from engine.types import ExperimentRow, Failure, Verdict, Who

log = logging.getLogger("engine")


class Briefing:
    """The briefs of one engine. `flush` returns when the index holds all that the ledger does."""

    def __init__(self, core: Core, asking: Asking, flush: Callable[[], Awaitable[None]]) -> None:
        self.core = core
        self.asking = asking
        self.errands = Errands("brief")
        self._flush = flush
        written = [row for row in core.state.briefs.values() if row["body"] is not None]
        self._since = written[-1]["upto"] if written else 0  # the event that the last brief looked back from

    # --- when

    def recover(self) -> None:
        """End what an engine before this one left open."""
        for row in [row for row in self.core.state.briefs.values() if row["state"] == "writing"]:
            self.core.record(
                e.BriefEnded(row["id"], Failure.LOST, row["writer"], detail="the engine ended in the middle")
            )

    def look(self) -> None:
        """Begin a brief when a batch is judged."""
        if self.newer() and not self.errands.busy and at_rest(self.core.state, self.core.lab):
            by = self.core.lab.proposer.brief
            self._begin(by, policy(f'brief = "{by}"'), f"batch-{self.core.state.head}")

    def newer(self) -> list[str]:
        """Experiments that were judged since the last brief, in the order of their verdicts."""
        found = takewhile(lambda each: each[1] > self._since, reversed(self.core.state.judged.items()))
        return [experiment for experiment, _ in found][::-1]

    # --- writing

    def ask(self, who: Who, request: str) -> str:
        """Have Claude write one now, because somebody wants it; its id. The same request again is the same brief.

        It is about what is new, else about the last batch again. Raises RpcError(NOT_NOW).
        """
        state = self.core.state
        if known := state.requests.get(request, {}).get("brief"):
            return str(known)
        if self.errands.busy:
            raise RpcError(NOT_NOW, "a brief is being written: look at that one first")
        return self._begin("model", who, request)

    def _begin(self, writer: str, who: Who, request: str) -> str:
        state = self.core.state
        experiments = self.newer() or next((row["experiments"] for row in reversed(state.briefs.values())), [])
        if not experiments:
            raise RpcError(NOT_NOW, "nothing was judged yet: a brief says what came of a batch")
        name = f"b{len(state.briefs) + 1:04d}"
        model = self.core.lab.proposer.model if writer == "model" else ""
        upto = state.head
        self.core.record(e.BriefBegan(name, writer, model, list(experiments), upto, who.to_json(), request))
        self._since = upto
        self.errands.start(name, self._write(name, experiments, writer))
        return name

    async def _write(self, name: str, experiments: Sequence[str], writer: str) -> None:
        """One brief to its end, which is in the ledger whatever happens."""
        failed: Failed | None = None
        parsed: Parsed | None = None
        try:
            if writer == "model":
                parsed, failed = await self._by_model(name, experiments)
            if parsed is None:
                parsed, writer = Parsed(await self._by_queries(experiments)), "queries"
        except StoreError as error:
            failed = failed or Failed(Failure.REJECTED, f"the index cannot answer just now: {error}")
        except Exception as error:
            log.exception("brief %s", name)
            failed = failed or Failed(Failure.REJECTED, clean(f"it broke: {type(error).__name__}: {error}")[:500])
        finally:
            self._end(name, experiments, writer, parsed, failed or (None if parsed else _CANCELLED))

    def _end(
        self, name: str, experiments: Sequence[str], writer: str, parsed: Parsed | None, failed: Failed | None
    ) -> None:
        body = None
        if parsed is not None:
            body = self.core.blobs.put(json.dumps(self._body(experiments, writer, parsed), indent=1).encode())
        claims = (
            [{"section": each.section, "experiments": list(each.experiments)} for each in parsed.claims]
            if parsed
            else []
        )
        told = {} if failed is None else {name: getattr(failed, name) for name in ("detail", "category", "retry_at")}
        state = failed.failure if failed else "done"
        dropped = len(parsed.dropped) if parsed else 0
        self.core.record(e.BriefEnded(name, state, writer, body, claims, dropped, **told))

    def _body(self, experiments: Sequence[str], writer: str, parsed: Parsed) -> dict[str, Any]:
        """What is shown: the claims, and beside them the record's own numbers as they were when it was written."""
        state = self.core.state
        cited = dict.fromkeys([*experiments, *(id_ for claim in parsed.claims for id_ in claim.experiments)])
        findings = {id_ for claim in parsed.claims for id_ in claim.findings}
        rows = {row["id"]: row for row in state.rows.values() if row["kind"] == "finding" and row["id"] in findings}
        return {
            "writer": writer,
            "experiments": list(experiments),
            "claims": [each.to_json() for each in parsed.claims],
            "dropped": [{"text": text, "why": why} for text, why in parsed.dropped],
            "record": {id_: facts(state.experiments[id_]) for id_ in cited if id_ in state.experiments},
            "findings": {id_: {"severity": row["severity"], "sentence": row["sentence"]} for id_, row in rows.items()},
        }

    async def _by_queries(self, experiments: Sequence[str]) -> tuple[Claim, ...]:
        from engine.history.queries import load

        await self._flush()
        query = load(shipped("queries") / "brief.sql")
        given = query.bind({"experiments": ",".join(experiments)})
        rows = await self.core.index(lambda store: store.answer(query.sql, given))
        return tuple(
            Claim(row["section"], clean(row["text"]), tuple(row["experiments"]), tuple(row["findings"])) for row in rows
        )

    async def _by_model(self, name: str, experiments: Sequence[str]) -> tuple[Parsed | None, Failed | None]:
        core, settings = self.core, self.core.lab.proposer.settings()
        claude, credentials = Claude(settings), self.asking.credentials
        context = await EngineDesk(core, "claude", 0, credentials).context()
        findings = _findings(core.state, experiments)
        known = [row["id"] for row in core.state.experiments.values() if row["role"] == "experiment"]
        batch = [line(core.state.experiments[each]) for each in experiments if each in core.state.experiments]
        noticed = [f"{id_}: {sentence}" for id_, sentence in findings.items()]
        body = brief_request(context, batch, noticed, settings.model, settings.effort, settings.max_tokens)
        answer = Answer()
        failed = await self.asking.errand(name, "claude", single(claude, credentials, "brief", body, answer))
        if failed is not None:
            return None, failed
        parsed = parse_brief(answer.text, known, findings)
        if parsed is None:
            return None, Failed(Failure.MALFORMED, "the answer holds no brief")
        if not parsed.claims:
            why = "; ".join(sorted({why for _, why in parsed.dropped}))
            return None, Failed(Failure.MALFORMED, f"none of its {len(parsed.dropped)} claims counts: {why}"[:500])
        return parsed, None


_CANCELLED = Failed(Failure.CANCELLED, "the engine was stopped in the middle")


def at_rest(state: State, lab: Lab) -> bool:
    """Whether no approved experiment runs or waits any more. Those at a rung that the lab no longer has wait for a person."""
    if any(state.experiments[state.shards[each]["experiment"]]["role"] == "experiment" for each in state.live):
        return False
    stranded = {row["id"] for row in campaign.stranded(state, lab)}
    return not any(
        row["role"] == "experiment" and row["state"] in OPEN and row["id"] not in stranded
        for row in state.experiments.values()
    )


def facts(row: ExperimentRow) -> dict[str, Any]:
    """What the record says of an experiment, for whoever reads a brief."""
    verdict: Mapping[str, Any] = row["verdict"] or {}
    names = ("verdict", "rung", "effect", "lo", "hi", "n", "sentence")
    told = {name: verdict.get(name) for name in names}
    return {"hypothesis": row["hypothesis"], "category": row["category"], "state": row["state"], **told}


def line(row: ExperimentRow) -> str:
    """An experiment in one line, for a model."""
    found = facts(row)
    numbers = f"effect {five(found['effect'])} [{five(found['lo'])}, {five(found['hi'])}], {found['n'] or 0} pairs"
    verdict = found["verdict"] or Verdict.UNDECIDED
    return f"{row['id']} | {row['category']} | {row['hypothesis'][:400]} | rung {found['rung']}, {numbers} | {verdict}"


def _findings(state: State, experiments: Sequence[str]) -> dict[str, str]:
    """Findings about these experiments or their shards: id to where and what."""
    found = {}
    for row in state.rows.values():
        if row["kind"] == "finding":
            about = state.shards[row["about"]]["experiment"] if row["about"] in state.shards else row["about"]
            if about in experiments:
                found[row["id"]] = f"{row['severity']}, about {about}: {row['sentence']}"
    return found
