"""What every proposer offers, and the registry that makes one by the name that `cockpit.toml` gives it.

A proposer only writes text. Reading it, applying it and asking a person are the engine's, the same for all of them. A new
kind is a new module and a line in `KINDS`; modules are imported when one is made, since some of them are slow to import.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engine.proposers.stream import Said
from engine.reply import Refused

if TYPE_CHECKING:
    from engine.proposers.context import Context


class ProposerError(Exception):
    """A proposer cannot be made or asked; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply in the SEARCH/REPLACE format, untrusted, and where it came from (a file, a model) in a few words.

    `by` names the proposer where that is not the lab's own; `again` that a person wants it though it was proposed before;
    `replaces` the proposal that it is a revision of, `co_author` the person who edited it, and `repairs` the approved one that
    it mends."""

    text: str
    source: str
    by: str = ""
    again: bool = False
    replaces: str = ""
    co_author: str = ""
    repairs: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of the text, hex: what `used` sets hold."""
        return sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client handed over for the Messages API. Its key is in no representation of it."""

    key: str = field(repr=False)
    base_url: str = ""


@dataclass(frozen=True, slots=True)
class Tried:
    """An earlier proposal of the same proposer: how it said what it changes, and how that went. An effect > 0 is better."""

    mechanism: str
    effect: float | None
    verdict: str | None


class Desk(Protocol):
    """What a proposer may know and ask. Nothing here changes anything."""

    @property
    def wanted(self) -> int:
        """How many proposals are asked for."""
        ...

    @property
    def used(self) -> frozenset[str]:
        """Digests of all texts proposed before, so that a restart goes on where it was."""
        ...

    def credentials(self) -> Credentials | None:
        """The key for the Messages API, when a client has handed one over."""
        ...

    async def files(self) -> Mapping[str, bytes]:
        """The editable files of the present trunk."""
        ...

    async def tried(self) -> tuple[Tried, ...]:
        """What this proposer proposed before, oldest first."""
        ...

    async def context(self) -> Context:
        """All that a model is to know."""
        ...

    async def check(self, text: str) -> Refused | None:
        """Why the machine would refuse this reply, or None."""
        ...


class Proposer(Protocol):
    """Where proposals come from."""

    @property
    def name(self) -> str:
        """Who proposes, as the ledger and the commit messages say it."""
        ...

    @property
    def unasked(self) -> bool:
        """Whether it costs nothing to ask, so that the engine keeps the queue full by itself."""
        ...

    def propose(self, desk: Desk) -> AsyncIterator[Said]:
        """Replies and what is said on the way to them; ends when there are no more. Raises ProposerError.

        Whoever stops reading closes the iterator; all that it was doing then ends at once.
        """
        ...


class NoProposer:
    """Proposes nothing: experiments come from people."""

    name = "none"
    unasked = True

    async def propose(self, desk: Desk) -> AsyncIterator[Said]:
        """No replies."""
        nothing: tuple[Said, ...] = ()
        for said in nothing:
            yield said


@dataclass(frozen=True, slots=True)
class Settings:
    """What the lab file says of its proposer; see docs/configuration.md."""

    path: str = ""
    model: str = "claude-opus-5-5"
    effort: str = "high"
    max_tokens: int = 32_000
    timeout_s: float = 600.0
    seed: int = 0
    search: str = "random"


def _none(lab_root: Path, settings: Settings) -> Proposer:
    return NoProposer()


def _recording(lab_root: Path, settings: Settings) -> Proposer:
    from engine.proposers.recording import Recording

    return Recording(lab_root, settings.path)


def _sweep(lab_root: Path, settings: Settings) -> Proposer:
    from engine.proposers.sweep import Sweep

    return Sweep(settings.seed, settings.search)


def _claude(lab_root: Path, settings: Settings) -> Proposer:
    from engine.proposers.claude import Claude

    return Claude(settings)


KINDS: dict[str, Callable[[Path, Settings], Proposer]] = {
    "none": _none,
    "recording": _recording,
    "sweep": _sweep,
    "claude": _claude,
}


def make(kind: str, lab_root: Path, path: str | None, settings: Settings | None = None) -> Proposer:
    """The proposer of `kind` for the lab; `path` is its setting of that name. Raises ProposerError for an unknown kind."""
    from dataclasses import replace

    if kind not in KINDS:
        raise ProposerError(f"proposer.kind {kind!r} is unknown: use one of {', '.join(sorted(KINDS))}")
    return KINDS[kind](lab_root, replace(settings or Settings(), path=path or ""))
