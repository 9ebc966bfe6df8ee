"""What every proposer offers, and the registry that makes one by the name that `cockpit.toml` gives it.

A proposer only writes text. Reading it, applying it and asking a person are the engine's, the same for all of them. A new
kind is a new module and a line in `KINDS`; modules are imported when one is made, since some of them are slow to import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol


class ProposerError(Exception):
    """A proposer cannot be made or asked; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply in the SEARCH/REPLACE format, untrusted, and where it came from (a file, a model) in a few words."""

    text: str
    source: str

    @property
    def digest(self) -> str:
        """SHA-256 of the text, hex: what `used` sets hold."""
        return sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


class Proposer(Protocol):
    """Where proposals come from."""

    @property
    def name(self) -> str:
        """Who proposes, as the ledger and the commit messages say it."""
        ...

    def replies(self, used: frozenset[str]) -> Iterator[Reply]:
        """Replies whose digest is not in `used`, made one at a time as they are asked for; ends when there are no more.

        `used` holds the digests of all texts proposed before, so that a restart goes on where it was.
        Raises ProposerError.
        """
        ...


class NoProposer:
    """Proposes nothing: experiments come from people."""

    name = "none"

    def replies(self, used: frozenset[str]) -> Iterator[Reply]:
        """No replies."""
        return iter(())


def _none(lab_root: Path, path: str) -> Proposer:
    return NoProposer()


def _recording(lab_root: Path, path: str) -> Proposer:
    from engine.proposers.recording import Recording

    return Recording(lab_root, path)


KINDS: dict[str, Callable[[Path, str], Proposer]] = {"none": _none, "recording": _recording}


def make(kind: str, lab_root: Path, path: str | None) -> Proposer:
    """The proposer of `kind` for the lab; `path` is its setting of that name. Raises ProposerError for an unknown kind."""
    if kind not in KINDS:
        raise ProposerError(f"proposer.kind {kind!r} is unknown: use one of {', '.join(sorted(KINDS))}")
    return KINDS[kind](lab_root, path or "")
