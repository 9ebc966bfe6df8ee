"""What a proposer says while it works: thinking, text, calls that cost money, whole replies, and how it failed.

`Failure` (engine/types.py) is what a person sees when it goes wrong; every way of going wrong is one of its values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.types import Failure

if TYPE_CHECKING:
    from engine.proposers.base import Reply


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call as the API counts them: plain input, read from and written into the cache, and output.

    `thinking` is the part of `output` that was thought; `cache_write_1h` the part of `cache_write` that is kept an hour.
    """

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    output: int = 0
    thinking: int = 0

    def to_json(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Thinking:
    """A piece of the summary of what a model thinks."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of what a model writes. Nothing of it counts before the reply is whole."""

    text: str


@dataclass(frozen=True, slots=True)
class Calling:
    """A call is about to be made: its body as it will go out, and the most tokens that it can use."""

    purpose: str  # "propose" | "repair"
    model: str
    effort: str
    request: Mapping[str, Any]
    most: Usage


@dataclass(frozen=True, slots=True)
class Used:
    """What the open call has used so far."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Called:
    """The call has ended: well when `failure` is None. `text` is all that was written."""

    usage: Usage
    stop_reason: str | None
    text: str
    failure: Failure | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Afresh:
    """What came so far is void: the call is made again, after `wait_s` seconds."""

    why: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class Written:
    """A whole reply, to be judged and put before a person."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that a person should know, though all goes on: a model that is about to be retired."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The end, and why. `category` is of a refusal; `retry_at` (seconds since the epoch) of a limit that passes."""

    failure: Failure
    detail: str
    category: str = ""
    retry_at: float | None = None


Said = Thinking | Text | Calling | Used | Called | Afresh | Written | Noted | Failed
