"""What clients may ask to take the whole history with them: a copy of its file, which is then theirs to read and delete.

The engine's own file is never opened by anybody else: closing it in another process would drop the engine's locks on it. A
process of its own takes the copy, as for SQL.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any

from engine import rpc
from engine.core import Core
from engine.history.database import StoreError
from engine.history.store import Store
from engine.indexer import Indexer
from engine.rpc import RpcError

EXPORTED = ("history_copy",)

COPY_S = 600.0
STALE_S = 6 * 3600.0
"""Age after which a copy that nobody deleted is removed, when the next one is taken."""
_PACKAGES = str(Path(__file__).resolve().parents[1])


class ExportMethods:
    """The methods, bound to one engine."""

    def __init__(self, core: Core, indexer: Indexer) -> None:
        self.core = core
        self.indexer = indexer

    async def do_history_copy(self) -> dict[str, Any]:
        """Copy the history as it is now. `{path, lab}`: a DuckDB file in the private state directory, which the caller deletes;
        and the lab's name."""
        await self.indexer.ready.wait()
        await self.indexer.flush()
        try:
            await self.core.index(Store.checkpoint)
        except StoreError as error:
            raise RpcError(rpc.NOT_NOW, f"the history cannot be copied: {error}") from None
        folder = self.core.dir.root.resolve() / "exports"
        folder.mkdir(mode=0o700, exist_ok=True)
        await asyncio.to_thread(_remove_stale, folder)
        target = folder / f"export-{secrets.token_hex(8)}.duckdb"
        await _copy(self.core.dir.history.resolve(), target)
        return {"path": str(target), "lab": self.core.lab.name}


def _remove_stale(folder: Path) -> None:
    for each in folder.glob("export-*"):
        with contextlib.suppress(OSError):
            if time.time() - each.stat().st_mtime > STALE_S:
                each.unlink()


async def _copy(source: Path, target: Path) -> None:
    """Take a copy in a process of its own. Raises RpcError, and leaves nothing then."""
    environment = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ} | {
        "PYTHONPATH": _PACKAGES
    }
    copier = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-s", "-m", "engine.history.console_child", "copy", str(source), str(target),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        cwd=target.parent, env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(COPY_S):
            said, _ = await copier.communicate()
    except TimeoutError:
        raise RpcError(
            rpc.NOT_NOW, f"copying the history took longer than {COPY_S:g} s: is its disk very slow?"
        ) from None
    finally:
        if copier.returncode is None:
            copier.kill()
            await copier.wait()
        target.with_name(f"{target.name}.partial").unlink(missing_ok=True)
    if copier.returncode != 0:
        raise RpcError(
            rpc.NOT_NOW, said.decode("utf-8", "replace").strip() or "the history could not be copied: try again"
        )
