"""The one seam behind which shards run: local processes now, a cluster later, without a change for the engine.

An executor starts, watches and stops. It never retries and never decides: a shard is what (tree, seed, rung, attempt)
says, and whether it runs again is the engine's business.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from engine.shards.sandbox import Probe
from engine.shards.spec import ExitRecord, ShardSpec


class ExecutorError(RuntimeError):
    """The executor could not do it; the message is for a person. Nothing is known to have been started."""


@dataclass(frozen=True, slots=True)
class Handle:
    """Answer to a launch.

    `known`: it had been launched before and nothing was started now. `state`: "running"; "queued" (it was handed over and
    waits for its turn: `Began` follows); "ended" (its record can be read; also when it could not be started at all);
    "lost" (its directory exists, but it neither runs nor left a record: a launch was cut short). `where` is the executor's
    own name for it, for people; `node` the machine that it runs on, empty for this one.
    """

    id: str
    state: Literal["running", "queued", "ended", "lost"]
    known: bool
    where: str = ""
    node: str = ""


@dataclass(frozen=True, slots=True)
class Began:
    """What waited runs now, or it is known now what it runs on: `node`, and the GPUs there as its own program is told them."""

    id: str
    where: str = ""
    node: str = ""
    gpus: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """How what was launched stands in a queue that is not the engine's: `job` is its name there, `why` the reason that it
    waits, in words, `left_s` the seconds that its allocation has left (None: no limit, or not running), `starts` when the
    queue expects one that waits to begin, in unix seconds (None: it does not say)."""

    state: Literal["queued", "running"]
    job: str = ""
    why: str = ""
    left_s: float | None = None
    node: str = ""
    gpus: str = ""
    starts: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """It ended, and its exit record is on disk (`exit` is None when it cannot be read)."""

    id: str
    record: str
    exit: ExitRecord | None


@dataclass(frozen=True, slots=True)
class Vanished:
    """It is gone without an exit record."""

    id: str
    why: str


Event = Began | Ended | Vanished


@dataclass(frozen=True, slots=True)
class Held:
    """How an allocation stands. `state`: "none"; "asked" (it has no name yet); "waiting" for its turn, `why` in words; "begun"
    (it has its nodes, which are being looked at); "ready". `why` of "none": what became of the last one, if there was one.
    `left_s` None: no limit, or not running. `trouble`: why the queue could not be asked, while it could not. `gpu_hours` of
    its whole walltime, 0 where it has no GPUs; jobs beside it are not counted. `starts`: unix seconds, where the queue
    foretells it. `unwell`: of the nodes that were asked for, how many it has lost, or has on which nothing is started now."""

    state: Literal["none", "asked", "waiting", "begun", "ready"]
    job: str = ""
    nodes: str = ""
    why: str = ""
    left_s: float | None = None
    trouble: str = ""
    gpu_hours: float = 0.0
    starts: float | None = None
    unwell: int = 0


@dataclass(frozen=True, slots=True)
class Over:
    """How an allocation ended. `id` is its own from when it was confirmed, `name` the cluster's for it (empty: it had none).

    `how`: "released" by `who`, "idle" by `rule` of the lab file, or the cluster's word for it ("timeout", "preempted",
    "cancelled", …; "refused": it never was; "gone": nothing is known). `since`, `until`: when it was held, Unix seconds of this
    machine's clock.
    """

    id: str
    name: str
    how: str
    why: str
    who: Mapping[str, Any] | None = None
    rule: str = ""
    since: float | None = None
    until: float | None = None


class Allocation(Protocol):
    """What an executor has to ask for before it can start anything, and a person has to confirm. Methods raise
    ExecutorError."""

    @property
    def asked(self) -> bool:
        """Whether there is one, or one is on its way."""
        ...

    @property
    def words(self) -> str:
        """How large it is and what it costs, as a person is asked about it."""
        ...

    @property
    def sentence(self) -> str:
        """How it stands: not there, waiting and why, or running and for how long."""
        ...

    @property
    def held(self) -> Held:
        """The same in parts."""
        ...

    async def confirm(self) -> None:
        """Ask for it, as a person confirmed it."""
        ...

    async def release(self, why: str, who: Mapping[str, Any] | None = None) -> None:
        """Give it back, as `who` wants; what runs in it ends. It is among `ends` then."""
        ...

    @property
    def view(self) -> dict[str, Any]:
        """All that is known of it, as JSON: `{asked, words, sentence, job, state, why, starts, left_s, idle_release_s,
        files_offset_s, nodes: [{node, state, level, gpus, offset_s, within_s, apart}]}`."""
        ...

    @property
    def stays(self) -> str:
        """What becomes of it when the engine stops now, in a sentence; empty where there is none."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """What a person should know of it, in sentences."""
        ...

    @property
    def ends(self) -> Sequence[Over]:
        """Those that ended, oldest first, until they are `written`; also of earlier engines."""
        ...

    def written(self, id: str) -> None:
        """The end of that one is in the ledger."""
        ...


class Executor(Protocol):
    """Where shards run. All methods may raise ExecutorError."""

    changed: Callable[[], None]
    """Called when more, or fewer, shards can be started than before. The engine sets it."""

    @property
    def shortage(self) -> str | None:
        """Why it can start no shard now, in a sentence; None where it can."""
        ...

    @property
    def capacity(self) -> int | None:
        """How many shards it can run at once now; None: as many as there are slots."""
        ...

    @property
    def probe(self) -> Probe | None:
        """What boxes can be made where shards run; None: not known yet, or on this machine."""
        ...

    @property
    def program(self) -> str | None:
        """The bubblewrap that works where shards run; None: this machine's."""
        ...

    @property
    def allocation(self) -> Allocation | None:
        """What has to be asked for first; None where nothing has."""
        ...

    @property
    def isolation(self) -> str:
        """How well a shard is boxed, as the status line shows it."""
        ...

    @property
    def standing(self) -> Mapping[str, Standing]:
        """What was launched, has not ended, and stands in a queue that is not the engine's, by id; empty on this machine."""
        ...

    async def launch(self, spec: ShardSpec) -> Handle:
        """Start `spec` unless its id is known. Calling it again is safe, also after an error."""
        ...

    def events(self) -> AsyncIterator[Event]:
        """What happens to the shards that were launched or re-attached, each ending once, until `close`. `Began` may come
        again for one that is known to run."""
        ...

    async def stop(self, id: str, grace_s: float) -> bool:
        """Ask it to end, and end it after `grace_s` seconds; the event comes later. False: it does not run."""
        ...

    async def kill(self, id: str) -> bool:
        """End it at once; the event comes later. False: it does not run."""
        ...

    async def reattach(self) -> frozenset[str]:
        """Take up the shards that run already, and name them, and those whose end is still being found out. Call it first;
        their endings become events."""
        ...

    async def retire(self) -> None:
        """End what only serves shards, where none runs; the next engine starts it again."""
        ...

    async def close(self) -> None:
        """Let go. What runs goes on running."""
        ...
