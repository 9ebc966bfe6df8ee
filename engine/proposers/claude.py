"""Claude, over the Messages API: one request for several hypotheses, and at most two turns to mend what does not apply.

Notable choices: the SDK is imported in a worker thread when it is first wanted; a stream counts only when it ended well; whole
proposals are handed on as they are, those that cannot be applied after they had their chance to be mended; a refusal is final.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from engine.proposers.api_errors import NO_KEY, CallFailed, told
from engine.proposers.base import Credentials, Desk, Reply, Settings
from engine.proposers.context import answered, request
from engine.proposers.redact import redact
from engine.proposers.replies import MENDABLE, repair, split
from engine.proposers.stream import Calling, Failed, Noted, Said, Usage, Written
from engine.proposers.talk import Answer, Deadlines, ask
from engine.reply import Refused
from engine.types import Failure

REPAIRS = 2
MISSING = "the SDK is not installed: pip install 'research-cockpit[claude]' into the environment of the cockpit"


class Claude:
    """Asks Claude. `bounds` are the deadlines; all but that of the round are not for users to choose."""

    name = "claude"
    unasked = False

    def __init__(self, settings: Settings, bounds: Deadlines | None = None) -> None:
        self.settings = settings
        self.bounds = bounds or Deadlines(whole_s=settings.timeout_s)

    async def propose(self, desk: Desk) -> AsyncIterator[Said]:
        """Proposals as they become whole; ends with `Failed` when not all went well."""
        until = time.monotonic() + self.bounds.whole_s
        try:
            async with self.connected(desk.credentials()) as client:
                async for said in self._round(client, desk, until):
                    yield said
        except CallFailed as failed:
            yield Failed(failed.failure, failed.detail)

    @asynccontextmanager
    async def connected(self, credentials: Credentials | None) -> AsyncIterator[Any]:
        """A client of the API, which is closed in the end. Raises CallFailed without a key or without the SDK."""
        if credentials is None:
            raise CallFailed(Failure.NO_CREDENTIALS, NO_KEY)
        try:
            client = await asyncio.to_thread(connect, credentials, self.bounds)
        except ImportError:
            raise CallFailed(Failure.NOT_INSTALLED, MISSING) from None
        try:
            yield client
        finally:
            with suppress(Exception):  # a connection that is broken already
                await client.close()

    async def _round(self, client: Any, desk: Desk, until: float) -> AsyncIterator[Said]:
        context = await desk.context()
        body = request(context, self.settings.model, self.settings.effort, self.settings.max_tokens)
        body, note = await self.fit(client, body, until)
        if note:
            yield Noted(note)
        pending: list[tuple[str, Refused]] = []
        for turn in range(1 + REPAIRS):
            answer = Answer()
            async for said in ask(
                client, self.calling("repair" if turn else "propose", body), self.bounds, until, answer
            ):
                yield said
            if answer.failed is None and turn == 0 and not split(answer.text):
                answer.failed = Failed(Failure.MALFORMED, "the answer holds no proposal")
            if answer.failed is not None:
                for text, _ in pending:  # they were whole, and refused: a person sees why
                    yield Written(self._reply(text))
                yield answer.failed
                return
            texts = self._mended(pending, answer.text) if turn else list(split(answer.text))
            pending = []
            for text in texts:
                refused = await desk.check(text)
                if refused is None or refused.reason not in MENDABLE:
                    yield Written(self._reply(text))
                else:
                    pending.append((text, refused))
            if not pending:
                return
            body = answered(body, answer.content, redact(repair(pending), context.secrets))
        for text, _ in pending:
            yield Written(self._reply(text))
        reasons = "; ".join(f"{refused.reason}: {refused.detail}" for _, refused in pending)
        yield Failed(
            Failure.MALFORMED, f"{len(pending)} could not be applied after {REPAIRS} turns of repair: {reasons}"
        )

    @staticmethod
    def _mended(pending: list[tuple[str, Refused]], text: str) -> list[str]:
        """The proposals sent again, in order; one that is missing stays as it was, and more than were asked for are dropped."""
        found = split(text)
        return [found[n] if n < len(found) else old for n, (old, _) in enumerate(pending)]

    def _reply(self, text: str) -> Reply:
        return Reply(text, self.settings.model, self.name)

    def calling(self, purpose: str, body: dict[str, Any]) -> Calling:
        """A call with this body, and the most that it can use."""
        # a token is three characters at the least in any text that is sent here, so this is no less than will be billed
        size = sum(len(str(part)) for part in (body["system"], body["messages"])) // 3
        most = Usage(cache_write=size, output=body["max_tokens"])
        return Calling(purpose, self.settings.model, self.settings.effort, body, most)

    async def fit(self, client: Any, body: dict[str, Any], until: float) -> tuple[dict[str, Any], str]:
        """The body within the model's limits, and a sentence when the model is on its way out. Raises CallFailed.

        Limits that cannot be asked for, as behind a gateway that knows messages alone, are left to the API.
        """
        try:
            async with asyncio.timeout(max(0.0, min(self.bounds.silence_s, until - time.monotonic()))):
                model = await client.models.retrieve(self.settings.model)
        except Exception as error:
            failed = told(error, time.time())
            if failed.failure in (Failure.NO_CREDENTIALS, Failure.SPEND_LIMIT):
                raise failed from None
            return body, ""
        if model.lifecycle == "retired":
            names = await self._names(client)
            raise CallFailed(Failure.REJECTED, f"{model.id} is retired: set proposer.model to one of {names}")
        if model.max_tokens is not None:
            body = {**body, "max_tokens": min(body["max_tokens"], model.max_tokens)}
        note = ""
        if model.lifecycle == "deprecated":
            when = f" on {model.retires_at:%Y-%m-%d}" if model.retires_at else ""
            note = f"{model.id} is deprecated and will be retired{when}: set another proposer.model in cockpit.toml"
        if model.max_input_tokens is not None:
            await self._check_size(client, body, model.max_input_tokens)
        return body, note

    async def _names(self, client: Any) -> str:
        with suppress(Exception):
            page = await client.models.list()
            return ", ".join(each.id for each in page.data if each.lifecycle == "active")
        return "the models that your account has"

    async def _check_size(self, client: Any, body: dict[str, Any], window: int) -> None:
        if sum(len(str(part)) for part in (body["system"], body["messages"])) < window:
            return  # fewer characters than tokens fit
        names = ("model", "system", "messages", "thinking")
        try:
            found = await client.messages.count_tokens(**{name: body[name] for name in names})
        except Exception:
            return  # the API itself will say
        if found.input_tokens + body["max_tokens"] > window:
            raise CallFailed(
                Failure.REJECTED,
                f"the request has {found.input_tokens} tokens, and {self.settings.model} holds {window} with the answer: "
                "name fewer files in lab.editable",
            )


def connect(credentials: Credentials, bounds: Deadlines) -> Any:
    """The SDK's client. Importing it and reading certificates takes seconds. Raises ImportError."""
    import logging

    import anthropic
    import httpx2

    for name in ("anthropic", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)  # their lower levels tell addresses and headers
    return anthropic.AsyncAnthropic(
        api_key=credentials.key,
        base_url=credentials.base_url or None,
        max_retries=0,
        timeout=httpx2.Timeout(30.0, connect=15.0, read=bounds.silence_s),
    )
