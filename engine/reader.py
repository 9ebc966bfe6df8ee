"""The second reader: what could be wrong with each waiting diff, before a person looks, and two sealed predictions.

A prediction that is seen before a decision changes it, and agreement then means nothing. So the ledger, and with it rows and
index, holds no more than the hash of a salted body until the proposal is decided; only then are the numbers written down.
Nothing here holds up a decision: a proposal can be decided while it is read, and when reading it failed.
"""

from __future__ import annotations

import json
import logging
import secrets

from engine import events as e
from engine.asking import Asking
from engine.core import Core
from engine.decide import CLOSED
from engine.desk import EngineDesk
from engine.errands import Errands
from engine.proposers.claude import Claude
from engine.proposers.second import Claimed, Reading, parse_reading, reading_request
from engine.proposers.single import single
from engine.proposers.stream import Failed
from engine.proposers.talk import Answer
from engine.rpc import INVALID_PARAMS, NOT_NOW, RpcError
from engine.state import State
from engine.text import clean
from engine.types import Failure, ProposalRow, ProposalState, ReadingRow, Verdict

log = logging.getLogger("engine")
TRIES = 3
"""Readings of one diff that may be lost, or have no key that works, before it is left to a person to ask again."""


class Reader:
    """The readings of one engine."""

    def __init__(self, core: Core, asking: Asking) -> None:
        self.core = core
        self.asking = asking
        self.errands = Errands("reading")

    # --- when

    def recover(self) -> None:
        """End what an engine before this one left open."""
        for row in [row for row in self.core.state.readings.values() if row["state"] == "reading"]:
            self.core.record(e.ReadingEnded(row["id"], Failure.LOST, detail="the engine ended in the middle"))

    def look(self) -> None:
        """Open what may be seen now, and begin to read the next diff that waits to be read."""
        for reading in to_open(self.core.state):
            self._open(reading)
        review = self.core.lab.review
        if review == "off":
            return
        for row in list(self.core.state.proposals.values()):
            if row["state"] == ProposalState.WAITING and row["diff_hash"] and self._is_due(row):
                if review == "rules":
                    self._by_rules(row)
                elif not self.errands.busy:
                    self._begin(row)

    def _is_due(self, row: ProposalRow) -> bool:
        """Whether this diff was not read yet, or not for want of a key that is here now, or lost with an engine."""
        before = [each["state"] for each in readings_of(self.core.state, row)]
        if not before or not self.asking.credentials:
            return not before  # without a key that is said once
        again = (Failure.LOST, Failure.NO_CREDENTIALS)
        return before[-1] in again and all(before.count(state) < TRIES for state in again)

    def ask(self, proposal: str) -> str:
        """Have Claude read a diff now, because somebody wants it; the id of the reading. Raises RpcError."""
        row = self.core.state.proposals[proposal]
        if row["state"] != ProposalState.WAITING:
            raise RpcError(NOT_NOW, f"{proposal} is {row['state']}: a second reader reads what waits for review")
        if row["diff_hash"] is None:
            raise RpcError(INVALID_PARAMS, f"{proposal} has no diff to be read")
        before = readings_of(self.core.state, row)
        if before and before[-1]["state"] == "reading":
            return before[-1]["id"]
        if self.errands.busy:
            raise RpcError(NOT_NOW, "another diff is being read: ask again when that has ended")
        return self._begin(row)

    # --- opening

    def _open(self, row: ReadingRow) -> None:
        told: dict[str, float] = {}
        if row["sealed"] is not None:
            try:
                told = json.loads(self.core.blobs.get(row["sealed"]))
            except (KeyError, ValueError) as error:
                log.warning("the predictions of %s cannot be opened: %s", row["id"], error)
        self.core.record(e.ReadingOpened(row["id"], told.get("p_approve"), told.get("p_solid")))

    def _seal(self, p_approve: float, p_solid: float) -> str:
        """The blob of two predictions; salted, since there are few numbers that people and models say."""
        body = {"salt": secrets.token_hex(16), "p_approve": p_approve, "p_solid": p_solid}
        return self.core.blobs.put(json.dumps(body).encode())

    # --- reading

    def _next(self) -> str:
        return f"v{len(self.core.state.readings) + 1:04d}"

    def _by_rules(self, row: ProposalRow) -> None:
        """The static rules' sentences as flags, and how often it went well so far as predictions."""
        name = self._next()
        flags = [{"kind": "rule", "path": "", "sentence": each} for each in row["risks"]]
        sealed = self._seal(*base_rates(self.core.state))
        self.core.record(
            e.ReadingBegan(name, row["id"], str(row["diff_hash"]), "rules", ""),
            e.ReadingEnded(name, "done", flags, sealed),
        )

    def _begin(self, row: ProposalRow) -> str:
        name = self._next()
        self.core.record(e.ReadingBegan(name, row["id"], str(row["diff_hash"]), "model", self.core.lab.proposer.model))
        self.errands.start(name, self._read(name, row))
        return name

    async def _read(self, name: str, row: ProposalRow) -> None:
        """One reading to its end, which is in the ledger whatever happens."""
        found: Reading | None = None
        failed: Failed | None = Failed(Failure.CANCELLED, "the engine was stopped in the middle")
        try:
            found, failed = await self._by_model(name, row)
        except Exception as error:
            log.exception("reading %s", name)
            failed = Failed(Failure.REJECTED, clean(f"the reader broke: {type(error).__name__}: {error}")[:500])
        finally:
            if found is not None:
                flags = [{"kind": kind, "path": path, "sentence": said} for kind, path, said in found.flags]
                sealed = self._seal(found.p_approve, found.p_solid)
                self.core.record(e.ReadingEnded(name, "done", flags, sealed))
            elif failed is not None:
                told = (failed.detail, failed.category, failed.retry_at)
                self.core.record(e.ReadingEnded(name, failed.failure, [], None, *told))

    async def _by_model(self, name: str, row: ProposalRow) -> tuple[Reading | None, Failed | None]:
        core, settings = self.core, self.core.lab.proposer.settings()
        credentials = self.asking.credentials
        context = await EngineDesk(core, "reader", 0, credentials).context()
        diff = core.blobs.get(str(row["diff_hash"])).decode("utf-8", "replace")
        approve, solid = base_rates(core.state)
        rates = f"people approved about {approve:.0%} of what they decided; about {solid:.0%} of what ran was solid."
        claimed = Claimed(row["id"], claim_of(row), diff)
        body = reading_request(context, claimed, rates, settings.model, settings.effort, settings.max_tokens)
        answer = Answer()
        saying = single(Claude(settings), credentials, "reading", body, answer)
        failed = await self.asking.errand(name, "claude", saying)
        if failed is not None:
            return None, failed
        read = parse_reading(answer.text)
        return (None, Failed(Failure.MALFORMED, read)) if isinstance(read, str) else (read, None)


# --- pure


def readings_of(state: State, row: ProposalRow) -> list[ReadingRow]:
    """Readings of a proposal's present diff, oldest first."""
    return [
        each
        for each in state.readings.values()
        if (each["proposal"], each["diff_hash"]) == (row["id"], row["diff_hash"])
    ]


def to_open(state: State) -> list[ReadingRow]:
    """Readings that have ended, are closed still, and whose proposal is decided."""
    return [
        row
        for row in state.readings.values()
        if row["opened"] is None and row["ended"] is not None and state.proposals[row["proposal"]]["state"] in CLOSED
    ]


def is_closed(state: State, body: str) -> str | None:
    """The proposal that has to be decided before this blob may be read; None for any other."""
    reading = state.readings.get(state.sealed.get(body, ""))
    if reading is None or reading["opened"] is not None:
        return None
    return reading["proposal"]


def base_rates(state: State) -> tuple[float, float]:
    """How often a person approved what they decided, and a verdict was solid, each with one success and one failure added:
    what can be predicted without reading anything (Laplace's rule of succession)."""
    decided = [row["state"] for row in state.proposals.values() if row["state"] in CLOSED]
    verdicts = [row["verdict"]["verdict"] for row in state.experiments.values() if row["verdict"]]
    judged = [each for each in verdicts if each != Verdict.UNDECIDED]
    approved, solid = decided.count(ProposalState.APPROVED), judged.count(Verdict.SOLID)
    return (approved + 1) / (len(decided) + 2), (solid + 1) / (len(judged) + 2)


def claim_of(row: ProposalRow) -> str:
    """What a proposal says of itself, as its reader sees it."""
    effect = row.get("predicted_effect")
    lines = [f"{name}: {row[name]}" for name in ("hypothesis", "category", "mechanism", "prediction")]
    lines += [f"claims: {row['claims']}"] if row.get("claims") else []
    return "\n".join([*lines, *([] if effect is None else [f"predicted_effect: {effect!r}"])])
