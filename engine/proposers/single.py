"""One question to Claude with one answer that is no proposal: what a brief and a second reader are made of.

A call of its own, in no conversation: whoever asks gives the whole of what is to be known. It fails as proposals fail.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from engine.proposers.api_errors import CallFailed
from engine.proposers.base import Credentials
from engine.proposers.claude import Claude
from engine.proposers.stream import Failed, Noted, Said
from engine.proposers.talk import Answer, ask


async def single(
    claude: Claude, credentials: Credentials | None, purpose: str, body: dict[str, Any], answer: Answer
) -> AsyncIterator[Said]:
    """Ask `body`; `answer` is filled in. Ends with `Failed` when nothing of it is to be used."""
    until = time.monotonic() + claude.bounds.whole_s
    try:
        async with claude.connected(credentials) as client:
            body, note = await claude.fit(client, body, until)
            if note:
                yield Noted(note)
            async for said in ask(client, claude.calling(purpose, body), claude.bounds, until, answer):
                yield said
            if answer.failed is not None:
                yield answer.failed
    except CallFailed as failed:
        yield Failed(failed.failure, failed.detail)
