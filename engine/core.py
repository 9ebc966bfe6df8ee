"""What the engine's parts share: the ledger and the state folded from it, git and the index each on a thread of its own.

Everything here runs on the event loop's thread; `record` is synchronous, so that a check of the state and the event that
follows from it can never be torn apart by another client.
"""

from __future__ import annotations

import asyncio
import getpass
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from engine import events as e
from engine.blobs import Blobs
from engine.history.database import StoreClosed, StoreDamaged, StoreError, set_aside
from engine.history.store import Store
from engine.lab import Lab
from engine.ledger import VERSION, Event, Ledger
from engine.paths import StateDir
from engine.repo import Repo
from engine.rpc import READ_ONLY, RpcError
from engine.state import State, reduce
from engine.types import Who

log = logging.getLogger("engine")
T = TypeVar("T")


class Core:
    """Ledger, state, blobs, git and index of one lab, and the way to change them: `record`."""

    def __init__(self, lab: Lab, repo: Repo, store: Store) -> None:
        self.lab = lab
        self.dir: StateDir = lab.state
        self.blobs = Blobs(self.dir.blobs)
        self._git = ThreadPoolExecutor(1, thread_name_prefix="git")
        identity = self._git.submit(repo.identity)  # both mostly wait, while the ledger is read
        branches = self._git.submit(repo.branches, "exp/")
        self.state = State()
        self.ledger = Ledger(self.dir.ledger, each=partial(fold_one, self.state))
        self.repo = repo
        self.store = store
        self._file = file_of(store.path)
        self.wake = asyncio.Event()  # the conductor should look again
        self.warnings: list[str] = []
        self.damaged = False  # the index is empty, or being filled again: it answers nobody
        self.damages = 0  # how often it was lost while running
        self.phase = "starting"
        self.identity = identity.result()
        self.first_free = 1 + max((number_of(name) for name in branches.result()), default=0)
        self._index = ThreadPoolExecutor(1, thread_name_prefix="index")
        self.listeners: list[Callable[[], None]] = []

    def record(self, *entries: Any) -> None:
        """Make events durable, in order and at once, then fold them. Raises RpcError when the ledger is read-only."""
        self.check_writable()
        for event in self.ledger.append_all([e.dump(entry) for entry in entries]):
            fold_one(self.state, event)
        self.wake.set()
        self._tell()

    def check_writable(self) -> None:
        """Raise RpcError(READ_ONLY) when a newer version wrote this ledger: nothing here may be changed by this one."""
        if self.ledger.read_only:
            raise RpcError(READ_ONLY, f"{self.ledger.path} was written by a newer version: upgrade this one")

    async def git(self, call: Callable[..., T], *args: Any) -> T:
        """Run a call of the repository on git's one thread."""
        return await asyncio.get_running_loop().run_in_executor(self._git, call, *args)

    async def index(self, ask: Callable[[Store], T], *, mending: bool = False) -> T:
        """Run `ask` with the store on the index's one thread. A damaged file is set aside for an empty one, and `damaged`
        says that this has to be filled again; until then only who is `mending` is let in. Raises StoreError."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._index, self._ask, ask, mending)
        except StoreError:
            if self.damaged and not mending:
                self._tell()
            raise

    async def reopen_index(self) -> None:
        """Close the index and open it again, so that it is read from the disk and not from memory. Raises StoreError."""
        await asyncio.get_running_loop().run_in_executor(self._index, self._reopen)
        if self.damaged:
            self._tell()

    def _ask(self, ask: Callable[[Store], T], mending: bool) -> T:
        if self._file is None:  # it could not be opened the last time
            self._reopen()
        if self.damaged and not mending:
            raise StoreError("it was damaged and is being made again from the ledger: ask again in a moment")
        try:
            if file_of(self.store.path) != self._file:
                raise StoreDamaged("the history file was removed or replaced while it was open: it has to be rebuilt")
            return ask(self.store)
        except StoreClosed:
            self._reopen()
            raise
        except StoreDamaged as error:
            self._shut()
            self._file, self.damaged, self.damages = None, True, self.damages + 1
            aside = set_aside(self.store.path)
            kept = f"; it lies in {aside.name}" if aside.exists() else ""
            self._warn(f"the index was damaged ({error}){kept}, and a new one is made from the ledger")
            self._reopen()
            raise

    def _reopen(self) -> None:
        before = self.store
        self._shut()
        self._file = None
        self.store = Store.open(before.path)
        self.store.version = before.version + 1  # whoever has a copy of the one before has to take another
        self._file = file_of(before.path)
        if self.store.recovered:
            self.damaged, self.damages = True, self.damages + 1
            self._warn(self.store.recovered)

    def _shut(self) -> None:
        with suppress(Exception):  # what is damaged, or could not be written, need not close well
            self.store.close()

    def _warn(self, sentence: str) -> None:
        log.warning("%s", sentence)
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def _tell(self) -> None:
        for listener in list(self.listeners):
            listener()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition` holds; it is asked again after every event."""
        changed = asyncio.Event()
        self.listeners.append(changed.set)
        try:
            while not condition():
                changed.clear()
                await changed.wait()
        finally:
            self.listeners.remove(changed.set)

    def set_phase(self, phase: str) -> None:
        """What the engine is doing, in one short sentence; clients see it on the status line."""
        if phase != self.phase:
            self.phase = phase
            self._tell()

    def close(self) -> None:
        self._git.shutdown(wait=True)
        self._index.shutdown(wait=True)
        self.repo.close()
        self.store.close()
        self.ledger.close()


def file_of(path: Path) -> tuple[int, int] | None:
    """Which file a path names, as device and inode; None when there is none. Opens nothing."""
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_dev, info.st_ino


def number_of(branch: str) -> int:
    """The number in `exp/0042-relu-squared` (0 when there is none), so that branches made elsewhere are never reused."""
    digits = branch.rpartition("exp/")[2].partition("-")[0].partition(".")[0]
    return int(digits) if digits.isdigit() and len(digits) < 10 else 0


def fold(ledger: Iterable[Event]) -> State:
    """The state after these events."""
    state = State()
    for event in ledger:
        fold_one(state, event)
    return state


def fold_one(state: State, event: Event) -> None:
    """Fold one event. From the first event of a newer version on nothing is understood, and the state stays as it was."""
    if event.v > VERSION:
        return
    loaded = e.load(event.type, event.v, event.raw)
    if loaded is None:
        state.head = event.n
    else:
        reduce(state, event.n, event.t, loaded)


def person(identity: tuple[str, str]) -> Who:
    """The researcher at this machine: git identity, login name and host."""
    return Who("person", f"{identity[0]} <{identity[1]}>", os_user(), socket.gethostname())


def policy(setting: str) -> Who:
    """A policy that a person set in the lab file decided."""
    return Who("policy", setting, os_user(), socket.gethostname())


def os_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def now() -> float:
    return time.time()
