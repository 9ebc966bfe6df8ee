"""Keeps the read model up with the engine: rows by cursor, live points, recovery after a broken line."""

from __future__ import annotations

import asyncio

from engine.rpc import DISCONNECTED, RpcError

from .model import Link, ReadModel

OFFLINE = (ConnectionError, OSError, TimeoutError)
"""What a link may raise, besides RpcError, while the engine cannot be reached."""


class Follower:
    """Pulls until the model has every row, then on each `head`; goes on from its cursor after a reconnection."""

    def __init__(self, link: Link, model: ReadModel) -> None:
        self.link = link
        self.model = model
        self.trouble: str | None = None
        self.attached = asyncio.Event()
        self._wake = asyncio.Event()
        self._resync = True
        self._clustered = False  # whether the engine at the other end has its shards on a cluster

    async def run(self) -> None:
        """Follow until cancelled. An error of the engine is kept in `trouble`; the next notification tries again."""
        listener = asyncio.create_task(self._listen())
        try:
            while True:
                await self._catch_up()
                await self._wake.wait()
                self._wake.clear()
        finally:
            listener.cancel()

    def reattach(self) -> None:
        """The line is back: subscribe, pull and read the live points again."""
        self._resync = True
        self._wake.set()

    async def _catch_up(self) -> None:
        try:
            if self._resync:
                await self.link.call("subscribe", live=True)
                await self._pull()
                self.model.take_live(await self.link.call("live"), whole=True)
                if self._clustered or self.model.cluster is not None:
                    told = await self.link.call("cluster") if self._clustered else {}
                    self.model.take_cluster(told, whole=True)
                self._resync = False
            else:
                await self._pull()
            self.trouble = None
            self.attached.set()
        except RpcError as error:
            self.trouble = None if error.code == DISCONNECTED else error.message
        except OFFLINE:
            self.trouble = None

    async def _pull(self) -> None:
        while True:
            page = await self.link.call("pull", since=self.model.next)
            if page["head"] < self.model.next:  # another ledger answers: what is here belongs to the old one
                self.model.clear()
                continue
            self.model.apply(page["rows"], page["next"])
            if "phase" in page:
                self.model.take_phase(page["phase"])
            if page["next"] >= page["head"]:
                return

    async def _listen(self) -> None:
        async for method, params in self.link.notifications():
            if method == "head":
                if "phase" in params:
                    self.model.take_phase(params["phase"])
                if params.get("seq", 0) > self.model.next:
                    self._wake.set()
            elif method == "live":
                self.model.take_live(params["shards"], whole=False)
            elif method == "cluster":
                self.model.take_cluster(params, whole=False)
            elif method in ("resync", "connected"):
                if method == "connected":
                    self._clustered = bool(params.get("cluster"))
                self.reattach()
