"""One question to Claude with one answer that is no proposal: what a brief and a second reader are made of.

A call of its own, in no conversation: whoever asks gives the whole of what is to be known. It fails as proposals fail.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from engine.proposers.api_errors import NO_KEY, CallFailed
from engine.proposers.base import Credentials
from engine.proposers.claude import MISSING, Claude, connect
from engine.proposers.stream import Failed, Noted, Said
from engine.proposers.talk import Answer, ask
from engine.types import Failure


async def single(
    claude: Claude, credentials: Credentials | None, purpose: str, body: dict[str, Any], answer: Answer
) -> AsyncIterator[Said]:
    """Ask `body`; `answer` is filled in. Ends with `Failed` when nothing of it is to be used."""
    until = time.monotonic() + claude.bounds.whole_s
    if credentials is None:
        yield Failed(Failure.NO_CREDENTIALS, NO_KEY)
        return
    try:
        client = await asyncio.to_thread(connect, credentials, claude.bounds)
    except ImportError:
        yield Failed(Failure.NOT_INSTALLED, MISSING)
        return
    try:
        try:
            body, note = await claude.fit(client, body, until)
        except CallFailed as failed:
            yield Failed(failed.failure, failed.detail)
            return
        if note:
            yield Noted(note)
        async for said in ask(client, claude.calling(purpose, body), claude.bounds, until, answer):
            yield said
        if answer.failed is not None:
            yield answer.failed
    finally:
        with suppress(Exception):  # a connection that is broken already
            await client.close()
