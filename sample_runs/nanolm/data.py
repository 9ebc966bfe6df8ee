"""What training and scoring have in common: how documents are read, chosen and drawn, and what a score weighs.

Protected: an experiment changes `mix.toml`, never this file. Only the standard library is imported, so that the
referee can use it without torch.

- A split of a source is one file, `<folder>/<split>/<source>.bin`: documents, each ended by one zero byte.
- The data order comes from a generator of its own, seeded by the run's seed alone. Two runs with the same seed and the
  same mix see the same bytes in the same order, whatever their models look like.
- Every draw takes two random numbers, whatever the weights are, so that two mixes differ only where they must.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import tomllib
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

SOURCES = ("code", "docs", "stories", "arithmetic")
SCORE_WEIGHTS = {"code": 0.4, "docs": 0.3, "stories": 0.2, "arithmetic": 0.1}
"""What the overall score weighs; fixed, so that a training mix cannot choose what it is measured by."""

CONTEXT = 128
"""Bytes of context in scoring. A model may train on longer or shorter windows and must score these."""

VOCABULARY = 256
END = b"\0"
"""Ends every document; it occurs nowhere else."""


class MixError(ValueError):
    """`mix.toml` asks for something that this file does not know, or leaves no data to train on."""


@dataclass(frozen=True)
class Rules:
    """Which training documents are used. The defaults keep everything."""

    min_bytes: int = 0  # shorter documents are left out
    max_bytes: int = 1 << 30  # longer documents are cut to this length
    max_symbol_share: float = 1.0  # left out when more of their bytes are neither letters, digits nor white space
    min_letter_share: float = 0.0  # left out when fewer of their bytes are letters
    drop_duplicates: bool = False  # of documents with the same text, keep the first
    keep_share: float = 1.0  # keep this share of the documents, the first ones


@dataclass(frozen=True)
class Mix:
    """Relative weight of each source in training, and the rules of each source."""

    weights: Mapping[str, float]
    rules: Mapping[str, Rules]


def load_mix(path: Path) -> Mix:
    """Read `mix.toml`: `[weights]`, `[select]` for all sources and `[select.<source>]` for one. Raises MixError."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise MixError(f"{path.name}: {error}") from None
    _known(path.name, table, ("weights", "select"))
    weights = table.get("weights", {})
    _known(f"{path.name} [weights]", weights, SOURCES)
    for source, weight in weights.items():
        if not isinstance(weight, (int, float)) or not 0 <= weight < float("inf"):
            raise MixError(f"{path.name} [weights]: {source} = {weight!r} is not a weight; give a number of 0 or more")
    if not sum(weights.values()) > 0:
        raise MixError(f"{path.name} [weights]: no source has a weight above 0")
    select = dict(table.get("select", {}))
    own = {source: select.pop(source, {}) for source in SOURCES}
    rules = {}
    for source in SOURCES:
        chosen = {**select, **own[source]}
        _known(f"{path.name} [select]", chosen, [field.name for field in fields(Rules)])
        rules[source] = Rules(**chosen)
    return Mix({source: float(weights.get(source, 0)) for source in SOURCES}, rules)


def _known(where: str, table: Mapping[str, object], names: Iterable[str]) -> None:
    unknown = sorted(set(table) - set(names))
    if unknown:
        raise MixError(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(names)}")


def read_documents(folder: Path, split: str, source: str) -> list[bytes]:
    """The documents of one source in one split, in file order, without their end marks."""
    return (folder / split / f"{source}.bin").read_bytes().split(END)[:-1]


_LETTERS = bytes(byte for byte in range(256) if chr(byte).isalpha() and byte < 128)
_PLAIN = bytes(byte for byte in range(128) if chr(byte).isalnum() or chr(byte).isspace())


def _count(document: bytes, signs: bytes) -> int:
    """How many bytes of `document` are among `signs`."""
    return len(document) - len(document.translate(None, signs))


def select(documents: list[bytes], rules: Rules) -> list[bytes]:
    """The documents that `rules` keep, in their order."""
    chosen: list[bytes] = []
    seen: set[bytes] = set()
    for document in documents[: max(1, round(rules.keep_share * len(documents)))]:
        size = max(1, len(document))
        if (
            len(document) < rules.min_bytes
            or (rules.min_letter_share > 0 and _count(document, _LETTERS) / size < rules.min_letter_share)
            or (rules.max_symbol_share < 1 and (size - _count(document, _PLAIN)) / size > rules.max_symbol_share)
            or (rules.drop_duplicates and document in seen)
        ):
            continue
        seen.add(document)
        chosen.append(document[: rules.max_bytes])
    return chosen


class Batches:
    """An endless stream of batches: `rows` windows of `length` + 1 bytes each, drawn by the mix.

    `fingerprint` is a hash of everything drawn so far: equal on two runs that saw the same bytes in the same order.
    """

    def __init__(self, folder: Path, mix: Mix, seed: int, rows: int, length: int) -> None:
        self.rows = rows
        self.length = length
        self._random = random.Random(f"data order {seed}")
        self._hash = hashlib.sha256()
        self._texts: list[bytes] = []
        self.source_tokens: dict[str, int] = {}  # bytes of each source that windows are drawn from
        shares: list[float] = []
        for source in SOURCES:
            if mix.weights[source] == 0:
                continue
            chosen = select(read_documents(folder, "train", source), mix.rules[source])
            text = END.join([*chosen, b""])
            if len(text) <= length + 1:
                raise MixError(f"[select] leaves {len(text)} bytes of {source}: loosen its rules or weigh it 0")
            self._texts.append(text)
            self.source_tokens[source] = len(text)
            shares.append(mix.weights[source])
        self._bounds = [bound / sum(shares) for bound in itertools.accumulate(shares)][:-1]

    def next(self) -> bytes:
        """One batch: `rows` x (`length` + 1) bytes, row after row."""
        drawn = []
        for _ in range(self.rows):
            text = self._texts[bisect_right(self._bounds, self._random.random())]
            start = int(self._random.random() * (len(text) - self.length - 1))
            drawn.append(text[start : start + self.length + 1])
        batch = b"".join(drawn)
        self._hash.update(batch)
        return batch

    @property
    def fingerprint(self) -> str:
        return self._hash.hexdigest()[:16]


def windows(folder: Path, split: str, source: str, count: int) -> list[bytes]:
    """Up to `count` windows of CONTEXT + 1 bytes, evenly spread over a split and not overlapping."""
    text = END.join([*read_documents(folder, split, source), b""])
    size = CONTEXT + 1
    slots = len(text) // size
    taken = min(count, slots)
    return [text[size * (i * slots // taken) :][:size] for i in range(taken)]
