"""The engine's process: one a lab, detached from every terminal. `python -m engine.daemon LAB`

It takes the lab's lock, opens ledger, git and index, listens on its socket, re-attaches to what runs, and then conducts the
campaign until it is told to stop or killed; either way shards go on.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import json
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from engine.clustered import LOOK_S
from engine.conductor import Conductor
from engine.core import Core
from engine.detecting import Detecting
from engine.exclude import exclude
from engine.executors import make_executor
from engine.history.console import Console
from engine.history.database import StoreError
from engine.history.store import Store
from engine.indexer import Indexer
from engine.lab import Lab, LabError, load
from engine.ledger import LedgerError
from engine.live import Live
from engine.measuring import Measuring
from engine.methods import Methods
from engine.opening import boot_id
from engine.paths import StateDir
from engine.proposals import Intake
from engine.proposers.base import make
from engine.repo import Repo, RepoError
from engine.runs import Runs
from engine.server import Server
from engine.shards.executor import ExecutorError
from engine.shards.sandbox import probe
from engine.watch.tail import Tailer

log = logging.getLogger("engine")
TICK_S = 0.25


class AlreadyRunning(Exception):
    """Another engine has this lab; the message says which."""


def lock(state: StateDir) -> int:
    """Take the lab's lock and return its descriptor. Raises AlreadyRunning, also for an engine on another host."""
    handle = os.open(state.engine_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    mine = {"host": socket.gethostname(), "boot": boot_id(), "pid": os.getpid()}
    if not _flock(handle):
        held = _holder(handle)
        os.close(handle)
        raise AlreadyRunning(f"an engine runs for this lab already (pid {held.get('pid')} on {held.get('host')})")
    held = _holder(handle)
    if held and held.get("host") != mine["host"] and held.get("boot") != mine["boot"]:
        os.close(handle)
        raise AlreadyRunning(
            f"an engine on {held['host']} (pid {held.get('pid')}) holds this lab: run `cockpit down` there; "
            f"when that machine is gone for good, remove {state.engine_lock}"
        )
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(mine).encode(), 0)
    os.fsync(handle)
    return handle


def _flock(handle: int) -> bool:
    """Take the lock, over the moments in which a client asks whether it is free."""
    for _ in range(20):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.01)
        else:
            return True
    return False


def unlock(handle: int) -> None:
    """Give the lock back, and say so in the file, so that an engine on another host may take it."""
    os.ftruncate(handle, 0)
    os.close(handle)


def _holder(handle: int) -> dict[str, object]:
    with suppress(ValueError, OSError):
        held = json.loads(os.pread(handle, 4096, 0) or b"{}")
        if isinstance(held, dict):
            return held
    return {}


def write_token(state: StateDir) -> str:
    """A fresh attach token in the private runtime directory; whoever can read it may attach."""
    token = secrets.token_hex(32)
    temporary = state.token.with_suffix(".new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(token)
    os.rename(temporary, state.token)
    return token


class Engine:
    """All parts of one engine, wired together."""

    def __init__(self, lab: Lab, state: StateDir) -> None:
        repo = Repo(lab.root, state.root / "git", lab.branch)
        if state.root.is_relative_to(lab.root):
            exclude(repo.common)
        store = Store.open(state.history)
        looking = threading.Thread(target=probe)  # mostly waits for what it starts, while the ledger is read
        looking.start()
        self.core = Core(lab, repo, store)
        looking.join()
        self.live = Live(lab.metric.loss)
        self.executor, self.slots = make_executor(lab, state)
        self.tailer = Tailer(state.runs)
        self.runs = Runs(self.core, self.executor, self.tailer, self.live, self.slots)
        proposer = make(lab.proposer.kind, lab.root, str(lab.proposer.path), lab.proposer.settings())
        self.conductor = Conductor(self.core, self.runs, Intake(self.core, proposer))
        self.indexer = Indexer(self.core, self.tailer, self.live, self.runs.metrics_file, self.runs.parser)
        self.runs.indexer = self.indexer
        self.runs.detecting = Detecting(self.core, self.live, self.runs.parsed, self.runs.held_text)
        self.runs.measuring = Measuring(self.core, self.live, self.runs.parsed)
        self.indexer.watcher = self.runs.detect
        console = Console(state.history, state.root / "sql", self._checkpoint)
        self.console = console
        self.methods = Methods(self.core, self.conductor, self.runs, self.indexer, console)
        self.server = Server(state.socket, write_token(state), self.methods.table(), self.methods.hello)
        self._told = -1
        self._phase = ""

    async def _checkpoint(self) -> int:
        await self.indexer.flush()
        return await self.core.index(Store.checkpoint)

    async def run(self) -> None:
        """Serve and conduct until a shutdown is asked for. Raises what ends any of the parts."""
        core = self.core
        for warning in (
            core.store.recovered,
            core.ledger.torn and f"a torn last line was set aside: {core.ledger.torn}",
            core.ledger.read_only
            and f"a newer version wrote this ledger: only its first {core.state.head} events are shown, and nothing is "
            "changed; upgrade this version, then `cockpit down` and `cockpit up`",
        ):
            if warning:
                core.warnings.append(str(warning))
                log.warning("%s", warning)
        await self.server.start()
        core.listeners.append(self._tell_soon)
        parts = [
            self.conductor.run,
            self.conductor.listen,
            self._index,
            self.indexer.follow,
            self.indexer.write,
            self._tick,
            self._tell_of_cluster,
            self.methods.stopping.wait,
        ]
        tasks = [asyncio.create_task(part(), name=part.__qualname__) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.close()

    async def close(self) -> None:
        """Stop serving and let go of everything; shards run on."""
        await self.conductor.close()
        await self.server.stop()
        await self.tailer.close()
        await self.executor.close()
        await self.executor.retire()
        await self.console.close()
        if not self.core.damaged:  # what was lost is made again by the next engine
            with suppress(StoreError):
                await self.indexer.flush()
        self.core.close()

    async def _index(self) -> None:
        await self.indexer.start()
        await self.indexer.run()

    def _tell_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        """One `head` however many events were recorded in this turn of the loop."""
        head, phase = self.core.state.head, self.core.phase
        if (head, phase) != (self._told, self._phase):
            self._told, self._phase = head, phase
            self.server.broadcast("head", {"seq": head, "phase": phase})

    async def _tick(self) -> None:
        """Tell of live rows as soon as something was read, but not more often than every `TICK_S`."""
        while True:
            await self.indexer.news.wait()
            self.indexer.news.clear()
            changes = self.indexer.tick()
            if changes:
                self.server.broadcast("live", {"shards": changes}, live=True)
            await asyncio.sleep(TICK_S)

    async def _tell_of_cluster(self) -> None:
        """Tell of a cluster's queue where there is one, when something of it has changed."""
        while self.methods.clustered.there:
            if changes := self.methods.clustered.changes():
                self.server.broadcast("cluster", changes, live=True)
            await asyncio.sleep(LOOK_S)
        await asyncio.get_running_loop().create_future()


def main() -> int:
    """Run an engine in the foreground until it is told to stop. Exit codes: 0 stopped, 1 cannot start or failed."""
    if len(sys.argv) != 2:
        print("usage: python -m engine.daemon LAB", file=sys.stderr)
        return 2
    try:
        lab = load(Path(sys.argv[1]).resolve())
        state = lab.state
        state.make()
        handle = lock(state)
    except (LabError, AlreadyRunning, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    logging.basicConfig(
        filename=state.engine_log, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        asyncio.run(_main(lab, state))
    except (LedgerError, RepoError, StoreError, ExecutorError, OSError, ValueError) as error:
        log.exception("the engine cannot go on")
        print(error, file=sys.stderr)
        return 1
    finally:
        unlock(handle)
    return 0


async def _main(lab: Lab, state: StateDir) -> None:
    gc.disable()  # a long ledger becomes millions of objects, and none of them is garbage
    engine = Engine(lab, state)
    gc.freeze()
    gc.enable()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, engine.methods.stopping.set)
    log.info("engine of %s, pid %d, %d events", lab.root, os.getpid(), engine.core.ledger.head)
    await engine.run()
    log.info("engine stopped")


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the database's bindings would complain at length about what is still referenced
