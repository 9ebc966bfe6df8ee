"""What clients may ask: the methods of the socket protocol (docs/architecture.md), each a few lines over the parts.

Parameters are validated by their annotations before a method runs. Long answers come in pages, bodies by hash.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import orjson

from engine import events as e
from engine import rpc
from engine.acknowledging import acknowledge
from engine.advice_methods import ADVISED, AdviceMethods
from engine.allocation_methods import ALLOCATED, AllocationMethods
from engine.asking_methods import ASKED, AskingMethods
from engine.asking_retune import cost, find, retune
from engine.audit_methods import AUDITED, AuditMethods
from engine.bundle_methods import BUNDLED, BundleMethods
from engine.clustered import ASKED as CLUSTERED
from engine.clustered import Clustered
from engine.conductor import Conductor
from engine.core import Core, now, person
from engine.core import policy as by_policy
from engine.decide import decide, stop
from engine.epochs import Epochs, epochs, measured
from engine.files import read_regular
from engine.history.console import Console
from engine.history.database import StoreError
from engine.history.store import Store
from engine.import_methods import IMPORTING, ImportMethods
from engine.indexer import Indexer
from engine.lab import LabError, load
from engine.live import resumed_at
from engine.mix import MixRow, composition
from engine.opening import version
from engine.past_merges import standing
from engine.pricing import price
from engine.reader import is_closed
from engine.repairs import since_approval
from engine.rpc import RpcError
from engine.runs import Runs
from engine.shortlist import shortlist
from engine.signing import sign
from engine.sql_methods import PAGE_BYTES, SQL, SqlMethods, being_mended
from engine.text import clean
from engine.types import PROTOCOL, ExperimentState, ProposalState, Who
from engine.upkeep import gc, trunk, verify

POLICIES = {"demo --approve-all": "demo.json", "selftest --aa": "selftest.json"}
"""Policies that a client may decide by, each only in labs that were made for it: their state directory has its marker."""
BODY_BYTES = 256 * 1024

Method = Callable[..., Awaitable[Any]]
T = TypeVar("T")


class Methods:
    """The methods, bound to the parts of one engine."""

    def __init__(self, core: Core, conductor: Conductor, runs: Runs, indexer: Indexer, console: Console) -> None:
        self.core = core
        self.conductor = conductor
        self.runs = runs
        self.indexer = indexer
        self.console = console
        self.proposing = AskingMethods(core, conductor)
        self.advising = AdviceMethods(core, conductor)
        self.auditing = AuditMethods(core, conductor, runs)
        self.bundling = BundleMethods(core, runs)
        self.allocating = AllocationMethods(core, runs, self._who)
        self.clustered = Clustered(runs.executor)
        self.importing = ImportMethods(core, indexer)
        self.asking = SqlMethods(core, indexer, console)
        self.stopping = asyncio.Event()
        self.started = now()

    def table(self) -> Mapping[str, Method]:
        """Every method by its name on the wire."""
        names = (
            "pull live curve metrics log diff body decide stop sign price retune retune_cost shortlist ack rank "
            "status verify rebuild gc trunk pause resume shutdown"
        )
        own = {name: getattr(self, f"do_{name}") for name in names.split()}
        parts = (
            (self.proposing, ASKED),
            (self.advising, ADVISED),
            (self.auditing, AUDITED),
            (self.bundling, BUNDLED),
            (self.importing, IMPORTING),
            (self.asking, SQL),
            (self.allocating, ALLOCATED),
            (self.clustered, CLUSTERED),
        )
        return own | {name: getattr(part, f"do_{name}") for part, names in parts for name in names}

    def hello(self) -> dict[str, Any]:
        """The answer to a client's hello."""
        lab = self._lab()
        return {
            "protocol": PROTOCOL,
            "engine": version(),
            "pid": os.getpid(),
            "head": self.core.state.head,
            "lab": lab,
            "phase": self.core.phase,
            **({"cluster": True} if self.clustered.there else {}),
        }

    def _lab(self) -> dict[str, Any] | None:
        lab = self.core.state.lab
        return None if lab is None else {**lab, "phase": self.core.phase}

    # --- reading ---

    async def do_pull(self, since: int = 0, limit: int = 2000) -> dict[str, Any]:
        """Rows changed after event `since`, oldest change first, as many as one message holds."""
        state = self.core.state
        rows: list[Any] = []
        size, upto = 0, state.head
        for row in state.since(since):
            shown = self._lab() if row["kind"] == "lab" else row
            size += len(orjson.dumps(shown))
            if rows and row["seq"] != rows[-1]["seq"] and (len(rows) >= limit or size > PAGE_BYTES):
                upto = rows[-1]["seq"]
                break
            rows.append(shown)
        return {"rows": rows, "next": upto, "head": state.head, "phase": self.core.phase}

    async def do_live(self) -> dict[str, Any]:
        """The latest measurements of every running shard, with its curve so far."""
        return dict(self.runs.live.snapshot(now()))

    async def do_curve(self, shards: list[str], metric: str, points: int = 500) -> dict[str, Any]:
        """Curves of any shards, thinned; a non-finite value is null."""
        points = max(4, min(points, 2000))
        curves = await self._index(lambda store: store.curve(shards[:64], metric, points))
        found: dict[str, Any] = {name: {"steps": steps, "values": values} for name, (steps, values) in curves.items()}
        for name in found:
            if "resumes" not in self.core.state.shards.get(name, {}):
                continue
            at = resumed_at(await self._index(lambda store, name=name: store.facts(name)))  # type: ignore[misc]
            if at is not None:
                found[name]["resumed_at"] = at
        return found

    async def do_metrics(self, shard: str) -> dict[str, Any]:
        """Names of what a shard streams, and what it said of itself."""
        self._shard(shard)
        names = await self._index(lambda store: store.metric_names(shard))
        return {"names": names, "summary": await self._index(lambda store: store.facts(shard))}

    async def do_log(self, shard: str, before: int | None = None, bytes: int = 65536) -> dict[str, Any]:
        """The end of a shard's output, or what comes before a byte offset; made harmless for a terminal."""
        self._shard(shard)
        return await asyncio.to_thread(self._log, shard, before, max(1, min(bytes, BODY_BYTES)))

    def _log(self, shard: str, before: int | None, limit: int) -> dict[str, Any]:
        path = self.core.dir.runs / shard / "output.log"
        try:
            size = path.lstat().st_size
        except OSError:
            return {"text": "", "start": 0, "end": 0, "size": 0}
        end = size if before is None else max(0, min(before, size))
        start = max(0, end - limit)
        body = read_regular(path, limit, start)[: end - start]
        return {"text": clean(body.decode("utf-8", "replace")), "start": start, "end": end, "size": size}

    def _shard(self, shard: str) -> None:
        if shard not in self.core.state.shards:
            raise RpcError(rpc.UNKNOWN_ID, f"no shard {shard!r}; `cockpit ls` lists them")

    async def do_diff(self, proposal: str) -> dict[str, Any]:
        """The diff that a decision is on, with its hash; the reply that it was drawn from; `since`, how a repair differs from
        what had been approved; and `mix`, the shares of a data mix before and after, and the epochs that they come to."""
        core = self.core
        row = core.state.proposals.get(proposal)
        if row is None:
            raise RpcError(rpc.UNKNOWN_ID, f"no proposal {proposal!r}; `cockpit ls` lists them")
        name = core.state.diffs[proposal]
        diff = core.blobs.get(name).decode("utf-8", "replace") if name else ""
        source = core.blobs.get(core.state.sources[proposal]).decode("utf-8", "replace")
        whole = len(diff) <= BODY_BYTES
        shown = diff if whole else diff[:BODY_BYTES]
        since = await core.git(since_approval, core, proposal)
        if since is not None:
            since["diff"] = since["diff"][:BODY_BYTES]  # the whole of it is in the diff that is decided on
        mixes = await core.git(composition, diff, partial(core.repo.read, row["parent"]))
        return {
            "diff": clean(shown),
            "whole": whole,
            "hash": name,
            "parent": row["parent"],
            "source": clean(source[:BODY_BYTES]),
            "since": since,
            "mix": [{**mix, "epochs": self._epochs(mix)} for mix in mixes],
        }

    def _epochs(self, mix: MixRow) -> list[Epochs]:
        trunk = measured(self.core.state, self.core.lab)
        return epochs(mix, trunk, self.core.lab) if trunk is not None else []

    async def do_body(self, hash: str, offset: int = 0, length: int = BODY_BYTES) -> dict[str, Any]:
        """A stretch of a stored body, as text. What a second reader predicted stays closed until the decision."""
        if (proposal := is_closed(self.core.state, hash)) is not None:
            raise RpcError(rpc.NOT_NOW, f"this holds what a second reader predicts of {proposal}: decide it first")
        try:
            body = await asyncio.to_thread(self.core.blobs.get, hash)
        except KeyError:
            raise RpcError(rpc.UNKNOWN_ID, f"no body {hash!r}") from None
        piece = body[max(0, offset) :][: max(1, min(length, BODY_BYTES))]
        return {"text": clean(piece.decode("utf-8", "replace")), "size": len(body)}

    async def do_rank(self, limit: int = 20) -> dict[str, Any]:
        """Experiments, best first, out of the index."""
        await self._flush()
        ranked = await self._index(lambda store: store.rank(max(1, min(limit, 1000))))
        return {"experiments": ranked}

    async def _flush(self) -> None:
        """Have everything indexed that is in the ledger. Raises RpcError."""
        await self.indexer.ready.wait()
        try:
            await self.indexer.flush()
        except StoreError as error:
            raise being_mended(error) from None

    async def _index(self, ask: Callable[[Store], T]) -> T:
        try:
            return await self.core.index(ask)
        except StoreError as error:
            raise being_mended(error) from None

    # --- deciding ---

    def _who(self, policy: str) -> Who:
        """Who decides: the person at this machine, or a policy that this lab was made for."""
        if policy and (policy not in POLICIES or not (self.core.dir.root / POLICIES[policy]).is_file()):
            raise RpcError(
                rpc.NOT_NOW, "a policy decides by the lab file's [gates] alone; --approve-all is the sample lab's"
            )
        return by_policy(policy) if policy else person(self.core.identity)

    async def do_decide(
        self, proposal: str, diff_hash: str | None, action: str, request_id: str, why: str = "", policy: str = ""
    ) -> dict[str, Any]:
        """Approve or decline a proposal, by its diff's hash. `policy` is for the sample lab and a self-test's copy alone."""
        who = self._who(policy)
        row = self.core.state.proposals.get(proposal)
        if policy and row is not None and row.get("repairs"):
            raise RpcError(rpc.NOT_NOW, f"{proposal} repairs what broke: a person has to read the difference first")
        return decide(self.core, proposal, diff_hash or "", action, why, who, request_id)

    async def do_stop(self, id: str, request_id: str, why: str = "") -> dict[str, Any]:
        """Stop an experiment or a shard."""
        return stop(self.core, id, why, person(self.core.identity), request_id)

    async def do_sign(
        self, experiment: str, diff_hash: str, request_id: str, why: str = "", full: bool = False
    ) -> dict[str, Any]:
        """Sign a solid experiment off into the trunk; where fresh pairs run first, the answer comes before the merge. `full`: a
        full-scale run of the new trunk follows it."""
        who = person(self.core.identity)
        answer = sign(self.core, experiment, diff_hash, why, who, request_id, self.runs.setup, full=full)
        if answer["state"] == "confirming":
            return answer
        await self.core.until(lambda: experiment not in self.core.state.merges)
        row = self.core.state.experiments[experiment]
        if row["state"] != ExperimentState.MERGED:
            raise RpcError(rpc.NOT_NOW, f"{experiment} was signed, but {row['why']}")
        return {**answer, "state": "merged", "trunk": self.core.state.lab and self.core.state.lab["trunk"]}

    async def do_price(self, experiment: str) -> dict[str, Any]:
        """What signing an experiment would run, cost and start again."""
        row = self.core.state.experiments.get(experiment)
        if row is None or row["role"] == "trunk":
            raise RpcError(rpc.UNKNOWN_ID, f"no experiment {experiment!r}; `cockpit ls` lists them")
        return dict(price(self.core.state, self.core.lab, row))

    async def do_retune(self, experiment: str, request_id: str, why: str = "") -> dict[str, Any]:
        """Have both sides of an experiment compared at their own best learning rate; the answer comes before the shards run."""
        return retune(self.core, experiment, why, person(self.core.identity), request_id, self.runs.setup)

    async def do_retune_cost(self, experiment: str) -> dict[str, Any]:
        """What retuning an experiment would run."""
        state = self.core.state
        return dict(cost(state, self.core.lab, find(state, experiment), self.runs.setup))

    async def do_shortlist(self) -> dict[str, Any]:
        """Solid experiments on the present trunk, best first."""
        state = self.core.state
        findings = (row for row in state.rows.values() if row["kind"] == "finding")
        return {"experiments": shortlist(state.trunk_arm, state.experiments.values(), state.shards.values(), findings)}

    async def do_ack(self, findings: list[str], request_id: str, why: str = "") -> dict[str, Any]:
        """Acknowledge findings, with a reason. What is left open of their experiments."""
        return acknowledge(self.core, findings, why, person(self.core.identity), request_id)

    async def do_pause(self, why: str = "") -> dict[str, Any]:
        """Launch nothing until resumed; what runs goes on."""
        self.core.record(e.Paused(person(self.core.identity).to_json(), why.strip()))
        return {"paused": True}

    async def do_resume(self) -> dict[str, Any]:
        self.core.record(e.Resumed(person(self.core.identity).to_json()))
        return {"paused": False}

    # --- upkeep ---

    async def do_status(self) -> dict[str, Any]:
        """The engine at a glance."""
        core = self.core
        states = [row["state"] for row in core.state.proposals.values()]
        return {
            "lab": core.lab.name,
            "root": str(core.lab.root),
            "state_dir": str(core.dir.root),
            "engine": {"pid": os.getpid(), "version": version(), "up_s": round(now() - self.started, 1)},
            "log": str(core.dir.engine_log),
            "phase": core.phase,
            "events": core.ledger.head,
            "read_only": core.ledger.read_only,
            "running": sum(row["state"] == "running" for row in core.state.shards.values()),
            "waiting": states.count(ProposalState.WAITING),
            "experiments": sum(row["role"] == "experiment" for row in core.state.experiments.values()),
            "shards": len(core.state.shards),
            "isolation": self.runs.specs.isolation,
            "proposer": core.lab.proposer.kind,
            "trunk": core.state.lab and core.state.lab["trunk"],
            "config_changed": self._config_changed(),
            "detectors": core.state.lab and core.state.lab.get("detectors"),
            "audit": standing(core.state, core.lab),
            "warnings": core.warnings,
            **({"cluster": self.clustered.whole()} if self.clustered.there else {}),
        }

    def _config_changed(self) -> str | None:
        try:
            changed = load(self.core.lab.root).text_hash != self.core.lab.text_hash
        except (LabError, OSError) as error:
            return str(error)
        return "cockpit.toml has changed: `cockpit down`, then `cockpit up`, applies it" if changed else None

    async def do_verify(self) -> dict[str, Any]:
        """Check ledger, decisions, branches, shards and index against one another."""
        await self._flush()
        return {"checks": await verify(self.core, self.runs.metrics_file)}

    async def do_rebuild(self) -> dict[str, Any]:
        """Make the index anew from ledger, blobs and metrics files."""
        return await self.indexer.rebuild()

    async def do_gc(self, dry_run: bool = False) -> dict[str, Any]:
        """Remove what can be made again or is not to be kept; measurements never are."""
        return await gc(self.core, dry_run=dry_run)

    async def do_trunk(self, action: str = "show") -> dict[str, Any]:
        """Show the trunk beside the researcher's branch; pull that branch into it, or push the trunk to the branch."""
        return await trunk(self.core, action, person(self.core.identity))

    async def do_shutdown(self) -> dict[str, Any]:
        """Stop the engine. Shards go on; the next engine re-attaches to them."""
        self.stopping.set()
        return {"running": len(self.core.state.live), "allocation": self.allocating.staying()}
