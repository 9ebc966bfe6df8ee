"""What a proposer may know of this engine's lab: the parent's files, the history, the budget, and the machine's opinion."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.applying import applied
from engine.core import Core, now
from engine.edits import Refused, parse
from engine.files import read_regular
from engine.history.database import StoreError
from engine.history.store import Store
from engine.money import Spent, dollars, left, midnight, minutes
from engine.paths import CONFIG
from engine.proposers.base import Credentials, Tried
from engine.proposers.context import MAX_FILE, Context
from engine.proposers.past import broke, noise_lines, past_lines, without_gain
from engine.scales import unscaled
from engine.shards.spec import is_secret
from engine.types import ExperimentState, ProposalState

MAX_FILES, MAX_TEXT = 200, 2_000_000
FENCE = os.urandom(32)
"""Of this process: nothing that was written before it began, or by anything that runs, can know it."""


class EngineDesk:
    """The desk of one request: `wanted` proposals of the proposer called `name`, with a note of the person's."""

    def __init__(
        self,
        core: Core,
        name: str,
        wanted: int,
        credentials: Credentials | None = None,
        note: str = "",
        revises: str = "",
        repairs: str = "",
    ) -> None:
        self.core = core
        self.name = name
        self.note = note
        self.revises = revises  # the proposal that the note is about
        self.repairs = repairs  # the proposal that broke at its smoke
        self._wanted = wanted
        self._credentials = credentials
        self._parent: str | None = None

    @property
    def wanted(self) -> int:
        return self._wanted

    @property
    def used(self) -> frozenset[str]:
        return frozenset(self.core.state.seen)

    def credentials(self) -> Credentials | None:
        return self._credentials

    async def parent(self) -> str:
        """The trunk's commit when it was first asked for: all of a request is about this one."""
        if self._parent is None:
            self._parent = await self.core.git(self.core.repo.trunk)
        return self._parent

    async def files(self) -> Mapping[str, bytes]:
        parent = await self.parent()
        return (await self.core.git(editable_files, self.core, parent))[0]

    async def tried(self) -> tuple[Tried, ...]:
        state = self.core.state
        out = []
        for row in state.proposals.values():
            if row["proposer"] == self.name:
                verdict = state.experiments[row["experiment"]]["verdict"] if row["experiment"] else None
                shown = (verdict["effect"], verdict["verdict"]) if verdict else (None, None)
                out.append(Tried(row["mechanism"], *shown))
        return tuple(out)

    async def check(self, text: str) -> Refused | None:
        parent = await self.parent()
        try:
            await self.core.git(applied, self.core, parse(text), parent)
        except Refused as refused:
            return refused
        return None

    async def context(self) -> Context:
        core, state = self.core, self.core.state
        files = {
            path: data.decode("utf-8", "replace").removeprefix("\ufeff") for path, data in (await self.files()).items()
        }
        sign = "lower" if core.lab.metric.direction == "min" else "higher"
        rungs = "; ".join(
            f"{rung.name}: budget {rung.budget}, at most {rung.timeout_s:.0f} s" for rung in core.lab.rungs
        )
        return Context(
            lab=core.lab.name,
            metric=f"The metric is {core.lab.metric.name}{_unit(core)}; {sign} is better; runs are compared "
            f"at equal {core.lab.compare}. "
            f"Rungs: {rungs}. Seeds: {' '.join(map(str, core.lab.seeds))}.",
            program=_text(core.lab.root / "program.md"),
            files=files,
            protected=core.lab.protected,
            config=_text(core.lab.root / CONFIG),
            history=past_lines(core.ledger.since(0), state, await self._speeds()),
            noise=noise_lines(state),
            trying=tuple(self._titles("experiment")),
            waiting=tuple(self._titles("proposal")),
            budget=left(core.lab.budget, spent(core, now())),
            without_gain=without_gain(state),
            wanted=self.wanted,
            note=self.note,
            revises=self.revises,
            revised=self._reply(self.revises) if self.revises else "",
            repairs=self.repairs,
            repaired=self._reply(self.repairs) if self.repairs else "",
            broke=broke(state, self.repairs) if self.repairs else "",
            secrets=secrets_here(self._credentials),
            key=FENCE,
        )

    def _reply(self, proposal: str) -> str:
        return self.core.blobs.get(self.core.state.sources[proposal]).decode("utf-8", "replace")

    def _titles(self, kind: str) -> list[str]:
        state = self.core.state
        if kind == "proposal":
            rows: list[Any] = [row for row in state.proposals.values() if row["state"] == ProposalState.WAITING]
        else:
            alive = (ExperimentState.QUEUED, ExperimentState.RUNNING)
            rows = [row for row in state.experiments.values() if row["role"] == "experiment" and row["state"] in alive]
        return [f"{row['id']}: {row['category']}: {row['hypothesis'][:300]}" for row in rows]

    async def _speeds(self) -> dict[str, float]:
        try:
            return await self.core.index(Store.speeds)
        except StoreError:
            return {}  # it is being mended; a request without speeds is better than none


def editable_files(core: Core, parent: str) -> tuple[dict[str, bytes], list[str]]:
    """The editable text files of a commit, by path, and the paths of what is left out as too large or no text. Runs on git's
    thread."""
    found: dict[str, bytes] = {}
    left_out: list[str] = []
    size = 0
    for path in sorted(filter(core.lab.is_editable, core.repo.entries(parent))):
        data = core.repo.read(parent, path)
        if (
            data is None
            or b"\0" in data
            or len(data) > MAX_FILE
            or len(found) >= MAX_FILES
            or size + len(data) > MAX_TEXT
        ):
            left_out.append(path)
            continue
        found[path] = data
        size += len(data)
    return found, left_out


def _unit(core: Core) -> str:
    return f", in {core.lab.metric.unit}" if core.lab.metric.unit else ""


def _text(path: Path) -> str:
    return read_regular(path, MAX_FILE).decode("utf-8", "replace")


def secrets_here(credentials: Credentials | None) -> tuple[str, ...]:
    """Values that must never go out: the key itself, and what this process's environment calls a secret."""
    values = [value for name, value in os.environ.items() if is_secret(name) and len(value) >= 8]
    return tuple(dict.fromkeys([*([credentials.key] if credentials else []), *values]))


def spent(core: Core, at: float) -> Spent:
    """What the budget has gone to, as of the time `at`, with all that is in flight."""
    state, since = core.state, midnight(at)
    lab = core.lab
    timeouts = {
        rung.name: rung.timeout_s for rung in (*lab.rungs, lab.half_length(), *([lab.smoke] if lab.smoke else []))
    }
    for row in state.shards.values():
        if "retune" in row:
            timeouts.setdefault(row["rung"], timeouts.get(unscaled(row["rung"]), 0.0))
    today, total = dollars(state.calls.values(), since)
    shards = minutes(state.shards.values(), state.experiments, len(core.lab.seeds), timeouts, at, since)
    return Spent(today, total, *shards)
