"""One call of the Messages API as a stream, made again within bounds of our own when it breaks.

The SDK's own retries are off: it never makes a broken stream again, and obeys any `retry-after` however long. An answer counts
only when it ended with a stop reason that says so; a stream that merely ends is a failure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from engine.proposers.api_errors import CallFailed, clock, told
from engine.proposers.stream import Afresh, Called, Calling, Failed, Said, Text, Thinking, Usage, Used
from engine.types import Failure

WHOLE = ("end_turn", "tool_use", "stop_sequence")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Bounds in seconds: of the round as a whole, of silence within a stream, of one wait; and how often a call is made."""

    whole_s: float = 600.0
    silence_s: float = 90.0
    wait_s: float = 60.0
    tries: int = 3
    first_wait_s: float = 1.0


@dataclass(slots=True)
class Answer:
    """What a call brought: filled in while it streams."""

    text: str = ""
    content: tuple[dict[str, Any], ...] = ()  # blocks as they go back into the conversation
    failed: Failed | None = None


async def ask(client: Any, calling: Calling, bounds: Deadlines, until: float, answer: Answer) -> AsyncIterator[Said]:
    """Make the call, again where that may help, and say all that comes; `answer.failed` is set when it was in vain.

    `until` is a time of `time.monotonic`. Every try is a `Calling` and a `Called`, since each is paid for.
    """
    wait = bounds.first_wait_s
    for number in range(1, bounds.tries + 1):
        yield calling
        once = _Once()
        failed: CallFailed | None = None
        try:
            async for said in once.stream(client, calling.request, until):
                yield said
        except CallFailed as error:
            failed = error
        stop = failed is None or failed.failure in (Failure.REFUSAL, Failure.TRUNCATED)
        yield Called(
            once.usage,
            once.stop_reason,
            once.text,
            failed.failure if failed else None,
            failed.detail if failed else "",
        )
        if failed is None:
            answer.text, answer.content = once.text, once.content
            return
        pause = failed.wait_s if failed.wait_s is not None else wait
        late = time.monotonic() + pause > until or pause > bounds.wait_s
        if stop or not failed.again or number == bounds.tries or late:
            answer.failed = _final(failed, number)
            return
        yield Afresh(failed.detail, pause)
        await asyncio.sleep(pause)
        wait *= 2


def _final(failed: CallFailed, tries: int) -> Failed:
    at = time.time() + failed.wait_s if failed.wait_s is not None else None
    detail = failed.detail + (f"; tried {tries} times" if tries > 1 else "")
    if failed.failure == Failure.RATE_LIMITED and at is not None:
        detail += f"; it may go on at {clock(at)}"
    return Failed(failed.failure, detail, failed.category, at)


class _Once:
    """One try."""

    def __init__(self) -> None:
        self.usage = Usage()
        self.stop_reason: str | None = None
        self.text = ""
        self.content: tuple[dict[str, Any], ...] = ()

    async def stream(self, client: Any, request: Mapping[str, Any], until: float) -> AsyncIterator[Said]:
        """What comes, as it comes. Raises CallFailed."""
        manager = client.messages.stream(**request)
        source = None
        try:
            source = await self._within(manager.__aenter__(), until)
            events = source.__aiter__()
            while True:
                event = await self._within(anext(events, None), until)
                if event is None:
                    break
                for said in self._take(event):
                    yield said
            message = await self._within(source.get_final_message(), until)
        finally:
            if source is not None:
                with suppress(Exception):  # the call is over, whatever its connection says
                    await manager.__aexit__(None, None, None)
        self._judge(message)

    async def _within(self, step: Any, until: float) -> Any:
        try:
            async with asyncio.timeout_at(
                asyncio.get_running_loop().time() + max(0.0, until - time.monotonic())
            ) as limit:
                return await step
        except Exception as error:
            if isinstance(error, TimeoutError) and limit.expired():
                raise CallFailed(Failure.CUT_OFF, "the answer took longer than proposer.timeout allows") from None
            raise told(error, time.time()) from error

    def _take(self, event: Any) -> list[Said]:
        if event.type == "message_start":
            self.usage = usage_of(event.message.usage, self.usage)
            return [Used(self.usage)]
        if event.type == "message_delta":
            self.usage = usage_of(event.usage, self.usage)
            return [Used(self.usage)]
        if event.type == "text":
            self.text += event.text
            return [Text(event.text)]
        if event.type == "thinking":
            return [Thinking(event.thinking)]
        return []

    def _judge(self, message: Any) -> None:
        """Whether the stream that has ended is an answer. Raises CallFailed when it is none."""
        self.stop_reason = message.stop_reason
        if message.stop_reason == "refusal":
            details = message.stop_details
            category = str(getattr(details, "category", None) or "no category")
            why = str(getattr(details, "explanation", None) or "it gave no explanation")
            raise CallFailed(Failure.REFUSAL, f"Claude declined ({category}): {why}", category=category)
        if message.stop_reason in ("max_tokens", "model_context_window_exceeded"):
            what = "proposer.max_tokens" if message.stop_reason == "max_tokens" else "what the model can hold"
            raise CallFailed(Failure.TRUNCATED, f"the reply is longer than {what} allows; nothing of it is used")
        if message.stop_reason not in WHOLE:
            again = message.stop_reason is None
            raise CallFailed(
                Failure.CUT_OFF,
                f"the stream ended early (stop reason {message.stop_reason}); nothing of it is used",
                again,
            )
        self.content = tuple(block.model_dump(mode="json", exclude_none=True) for block in message.content)


def usage_of(found: Any, before: Usage) -> Usage:
    """The SDK's usage object; what it leaves out is as it was `before`."""
    split = getattr(found, "cache_creation", None)
    details = getattr(found, "output_tokens_details", None)
    told_of = {
        "input": getattr(found, "input_tokens", None),
        "cache_read": getattr(found, "cache_read_input_tokens", None),
        "cache_write": getattr(found, "cache_creation_input_tokens", None),
        "cache_write_1h": getattr(split, "ephemeral_1h_input_tokens", None),
        "output": getattr(found, "output_tokens", None),
        "thinking": getattr(details, "thinking_tokens", None),
    }
    return replace(before, **{name: int(value) for name, value in told_of.items() if value is not None})
