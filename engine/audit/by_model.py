"""Claude reads the trunk's code too, where the lab's proposer is Claude and there is a key: same budget, records and redaction.

The same code is asked about once: the calls of an audit are filed under a digest of what was read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from engine.asking import Asking
from engine.audit.suspicion import Suspicion
from engine.conductor import Conductor
from engine.core import Core
from engine.desk import EngineDesk
from engine.proposers.auditor import Suspected, audit_request, parse_audit
from engine.proposers.base import Reply
from engine.proposers.claude import Claude
from engine.proposers.single import single
from engine.proposers.talk import Answer
from engine.proposers.writing import Header
from engine.types import Category, Failure
from engine.watch.detectors.finding import Severity

BY = "claude/"
"""Before the rule's name in a finding that Claude's word is behind."""

Told = dict[str, Any]


class ModelAudit:
    """Asks Claude about the trunk's code, one audit at a time."""

    def __init__(self, core: Core, conductor: Conductor) -> None:
        self.core = core
        self.conductor = conductor
        self.asking: Asking = conductor.asking
        self.busy = False

    async def ask(self, arm: str) -> tuple[list[tuple[Suspicion, str]], Told]:
        """What Claude suspects, each with its fix; and `{state, detail, usd, dropped}`. Nothing is asked without need."""
        if self.core.lab.proposer.kind != "claude":
            return [], _told("not asked", 'the lab\'s proposer is not "claude"')
        if self.asking.credentials is None:
            return [], _told("not asked", "there is no key: set ANTHROPIC_API_KEY in the shell that asks")
        if self.busy:
            return [], _told("not asked", "another audit is being written just now")
        self.busy = True
        try:
            return await self._ask(arm)
        finally:
            self.busy = False

    async def _ask(self, arm: str) -> tuple[list[tuple[Suspicion, str]], Told]:
        core, settings = self.core, self.core.lab.proposer.settings()
        context = await EngineDesk(core, "audit", 0, self.asking.credentials).context()
        name = f"audit-{_digest(context.files)}"
        before = self._before(name, context.files)
        if before is not None:
            return before, _told("not asked", "Claude has read this very code before; what it said is above")
        known = [
            f"{row.get('place', '')} {row['rule']}: {row['sentence']}"
            for row in core.state.findings.values()
            if row.get("mechanism")
        ]
        body = audit_request(context, known, self._runs(arm), settings.model, settings.effort, settings.max_tokens)
        answer = Answer()
        failed = await self.asking.errand(
            name, "claude", single(Claude(settings), self.asking.credentials, "audit", body, answer)
        )
        usd = sum(row["usd"] or 0.0 for row in core.state.calls.values() if row["round"] == name)
        if failed is not None:
            return [], _told(failed.failure, failed.detail, usd)
        read = parse_audit(answer.text, context.files)
        if isinstance(read, str):
            return [], _told(Failure.MALFORMED, read, usd)
        found, dropped = read
        return [(suspicion_of(each), each.fix) for each in found], _told("done", "", usd, dropped)

    def _before(self, name: str, files: Mapping[str, str]) -> list[tuple[Suspicion, str]] | None:
        """What Claude said of the same code before; None when it was not asked, or did not answer as it should."""
        for row in self.core.state.calls.values():
            if row["round"] == name and row["state"] == "done" and row["reply"]:
                read = parse_audit(self.core.blobs.get(row["reply"]).decode("utf-8", "replace"), files)
                if not isinstance(read, str):
                    return [(suspicion_of(each), each.fix) for each in read[0]]
        return None

    def _runs(self, arm: str) -> list[str]:
        """What the trunk's own runs measured, and what was found in them."""
        rows = [row for row in self.core.state.shards_of(arm) if not row.get("smoke") and "retune" not in row]
        lines = [
            f"{row['id']}: {row['outcome'] or row['state']}, {self.core.lab.metric.name} {row['metric']}, "
            f"by source {json.dumps(row['sources'])}"
            for row in rows
        ]
        ours = {row["id"] for row in rows}
        found = [row for row in self.core.state.findings.values() if row["about"] in ours]
        return lines + [f"{row['about']}: {row['severity']}, {row['rule']}: {row['sentence']}" for row in found]

    async def propose(self, finding: str, suspicion: Suspicion, fix: str) -> str:
        """Put a fix into the queue as an ordinary proposal; the machine may refuse it. Its id."""
        header = Header(
            f"Mend {finding}: {suspicion.sentence}",
            Category.BUG_FIX,
            suspicion.mechanism or "not given",
            "the code does what it says; the metric may get better or worse",
        )
        return await self.conductor.put(Reply(f"{header.lines()}\n{fix}\n", f"audit {finding}", "claude"))


def suspicion_of(each: Suspected) -> Suspicion:
    """As the static rules put it. The key is of the quoted line and its file, whatever Claude calls the bug the next time."""
    key = hashlib.sha256(f"{BY}\0{each.path}\0{each.quote}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
    mechanism = each.mechanism or "not given"
    return Suspicion(BY + each.rule, each.path, each.line, Severity(each.severity), each.sentence, mechanism, key)


def _digest(files: Mapping[str, str]) -> str:
    whole = json.dumps(sorted(files.items())).encode()
    return hashlib.sha256(whole).hexdigest()[:12]


def _told(state: str, detail: str, usd: float = 0.0, dropped: int = 0) -> Told:
    return {"state": str(state), "detail": detail, "usd": usd, "dropped": dropped, "proposals": []}
