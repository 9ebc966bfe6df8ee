"""Imports histories that other programs made: read in a child process, kept as a body, told in the ledger, then indexed.

The ledger's event names the source by its hash, so a rebuild reads the very same bytes again, whatever became of the file.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import orjson

from engine import events as e
from engine.core import Core
from engine.history.database import StoreError
from engine.history.importers import ImportRefused, Reading, beside, body_of, called
from engine.history.importers.base import DEADLINE_S, cut
from engine.history.importers.child import unpacked
from engine.rpc import NOT_NOW, RpcError
from engine.types import Who

log = logging.getLogger("engine")
_PACKAGES = str(Path(__file__).resolve().parents[1])
_GRACE_S = 30.0
_ANSWER = 2 << 30
IMPORTED = "history.imported"


@dataclass(frozen=True, slots=True)
class Apart:
    """What a child read of a source: the reading, and the hash and size (bytes) of the very bytes that it read."""

    reading: Reading
    hash: str
    size: int


async def read_apart(path: Path, name: str, format: str, mapping: Mapping[str, str]) -> Apart:
    """Read a source in a child process. Raises ImportRefused, also when the child is out of memory or time."""
    environment = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-s", "-m", "engine.history.importers.child"),
        *(str(path), name, format, orjson.dumps(dict(mapping)).decode()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**environment, "PYTHONPATH": _PACKAGES, "MALLOC_ARENA_MAX": "1"},
        cwd="/",
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(DEADLINE_S + _GRACE_S):
            out, err = await process.communicate()
    except TimeoutError:
        raise ImportRefused(
            f"reading {cut(name)} took longer than {DEADLINE_S:.0f} s: import it in smaller parts"
        ) from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0 or b"\n" not in out:
        log.error("reading %s failed: %s", cut(name), err.decode("utf-8", "replace")[-4000:])
        raise ImportRefused(f"reading {cut(name)} failed (exit {process.returncode}); the engine's log says why")
    return await asyncio.to_thread(_unpack, out)


def _unpack(out: bytes) -> Apart:
    end = out.index(b"\n")
    head = orjson.loads(out[:end])
    if "refused" in head:
        raise ImportRefused(head["refused"])
    return Apart(unpacked(head, memoryview(out)[end + 1 :]), head["hash"], head["size"])


class Imports:
    """Imports of one engine; one at a time."""

    def __init__(self, core: Core, ready: dict[str, Reading]) -> None:
        self.core = core
        self.ready = ready
        self._busy = asyncio.Lock()

    async def take(
        self, path: Path, format: str, mapping: Mapping[str, str], repo: str, who: Who, request: str
    ) -> tuple[e.HistoryImported, Reading, list[str], bool]:
        """Import a source: (its event, what was read, notes on what lies around it, whether it is new). The same source,
        read the same way, changes nothing.

        Raises ImportRefused; RpcError when the ledger is read-only.
        """
        async with self._busy:
            self.core.check_writable()
            name = called(path)
            apart = await read_apart(path, name, format, mapping)
            if not apart.reading.runs:
                raise ImportRefused(
                    f"{name}: none of its {apart.reading.account.total} {apart.reading.account.unit} tells of a run, read as "
                    f"{apart.reading.format}: see `cockpit import --dry-run`, and --format"
                )
            known = self.core.state.imports.get(name_of(apart.hash))
            how = {str(key): str(value) for key, value in mapping.items()}
            if known is not None and (known.format, known.mapping) == (apart.reading.format, how):
                return known, apart.reading, [], False
            body = await asyncio.to_thread(self._keep, path, apart.hash)
            notes = beside(path)
            links = await asyncio.to_thread(self._links, path, repo, apart.reading, notes)
            event = e.HistoryImported(
                id=name_of(apart.hash), name=name, body=body, size=apart.size, format=apart.reading.format, mapping=how,
                links=links, account=asdict(apart.reading.account), who=asdict(who), request=request,
            )  # fmt: skip
            self.core.record(event)
            self.ready[event.id] = apart.reading  # before anybody else has a turn
            return event, apart.reading, notes, True

    def _keep(self, path: Path, wanted: str) -> str:
        """Store the source as a body. Raises ImportRefused when it is not what the child read."""
        body = self.core.blobs.put(body_of(path))
        if body != wanted:
            raise ImportRefused(f"{cut(path.name)} was changed while it was read: import it when nothing writes it")
        return body

    def _links(self, path: Path, repo: str, reading: Reading, notes: list[str]) -> str:
        """What a repository says of the runs' commits, as a body; "" where there are none or no repository."""
        from engine.import_links import link

        links = link(self.core, path, repo, [run.commit for run in reading.runs if run.commit], notes)
        return self.core.blobs.put(orjson.dumps(links, option=orjson.OPT_SORT_KEYS)) if links else ""


def name_of(body: str) -> str:
    """The id of the import of a source with this hash."""
    return f"i{body[:12]}"


async def index_imports(core: Core, base: int, upto: int, ready: dict[str, Reading]) -> None:
    """Index the imports among events `base` + 1 to `upto`. One whose body is gone or cannot be read is said, not fatal.
    `ready` are those that were read just now, by id; each is taken out."""
    if not core.state.imports:
        return
    for event in core.ledger.since(base, upto):
        if event.type != IMPORTED:
            continue
        found = e.load(event.type, event.v, event.raw)
        if not isinstance(found, e.HistoryImported) or core.state.imports.get(found.id) != found:
            continue  # of a newer version, or read anew by a later event
        try:
            reading = ready.pop(found.id, None) or await _again(core, found)
            links = orjson.loads(await asyncio.to_thread(core.blobs.get, found.links)) if found.links else {}
            await _put(core, {**msgspec.structs.asdict(found), "event": event.n, "t": event.t}, reading, links)
        except StoreError:
            raise
        except Exception as error:  # whatever is in one source, the others and the lab's own history go on
            warning = f"the import {found.id} ({found.name}) cannot be indexed: {cut(str(error))}"
            log.warning("%s", warning, exc_info=not isinstance(error, ImportRefused))
            if warning not in core.warnings:
                core.warnings.append(warning)


async def _again(core: Core, found: e.HistoryImported) -> Reading:
    """What an import's body holds, read anew."""
    await asyncio.to_thread(core.blobs.get, found.body)  # that it is what its name says
    place = core.blobs.root / found.body[:2] / found.body
    return (await read_apart(place, found.name, found.format, found.mapping)).reading


async def _put(core: Core, entry: dict[str, Any], reading: Reading, links: dict[str, Any]) -> None:
    await core.index(lambda store: store.put_import(entry, reading, links), mending=True)


def refused(error: ImportRefused | StoreError) -> RpcError:
    """The same as an answer to a client."""
    return RpcError(NOT_NOW, str(error))
