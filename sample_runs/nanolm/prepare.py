"""Make the data on the machine it is used on, from what every Python installation has. Protected.

    python prepare.py --open DIR --held DIR

Four sources: `code` (standard-library modules without their docstrings), `docs` (those docstrings, and the topics of
`help()`), `stories` (a small grammar) and `arithmetic`. The result depends on the Python installation and on nothing
else: two runs give the same bytes.

- Splits are by document, and a module's code and docstrings always share a split. Which one hangs on a hash of the
  module's name, so that another Python version moves no module from one split to another.
- `train` and `dev` go to --open, which training may read; `search`, `audit` and `locked` go to --held alone, each with the
  windows that the referee scores: `<split>.json` describes them. So does `dev.json` there those that runs report on.
- Overlap: a document outside `train` is dropped when its text, or more than a fifth of its 48-byte passages, were
  already seen in `train` or in an earlier split. Both counts are in the manifest.
- A fifth of the training stories is damaged on purpose: crawled text is, and selection rules need something to find.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import random
import re
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import data

SPLITS = {"train": 80, "dev": 5, "search": 5, "audit": 5, "locked": 5}  # per cent of the documents
OPEN = ("train", "dev")
SOURCES = data.SOURCES
MAX_BYTES = 2_000_000  # of one source, all splits together
MAX_DOCUMENT = 16_000  # bytes; longer ones are cut at a line's end, so that no single module is a large share
MAX_MODULE = 60_000  # bytes; longer modules would be cut anyway, and take long to parse
MIN_SPLIT = 1_000  # bytes of a source in a split, below which a score would mean nothing
PASSAGE = 48  # bytes
MAX_SHARED = 0.2  # of a document's passages
WINDOWS = 96  # scored of each source
DEV_WINDOWS = 32  # that a run reports of itself on (train.py), which the referee then checks
DAMAGED = 0.2  # of the training stories
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "pydoc_data", "_bundled", "__pycache__"}


@dataclass
class Corpus:
    """Documents by split and source, and the room that is left in each."""

    max_bytes: int
    texts: dict[tuple[str, str], list[bytes]] = field(default_factory=dict)
    sizes: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, source: str, name: str, text: str) -> None:
        """Put a document where the hash of `name` sends it, unless that place is full."""
        body = text.strip().encode()
        if len(body) > MAX_DOCUMENT:
            body = body[: body.rfind(b"\n", 0, MAX_DOCUMENT) + 1].strip()
        place = (split_of(name), source)
        if len(body) < 64 or b"\0" in body or self.full(*place):
            return
        self.texts.setdefault(place, []).append(body)
        self.sizes[place] += len(body) + 1

    def full(self, split: str, source: str) -> bool:
        return self.sizes[split, source] >= self.max_bytes * SPLITS[split] // 100

    def all_full(self, *sources: str) -> bool:
        return all(self.full(split, source) for split in SPLITS for source in sources)


def split_of(name: str) -> str:
    """The split of a document: a pure function of its name."""
    mark = _number("split", name) % 100
    for split, share in SPLITS.items():
        if mark < share:
            return split
        mark -= share
    raise AssertionError("the shares of SPLITS add up to 100")


def _number(*words: str) -> int:
    return int.from_bytes(hashlib.sha256("\0".join(words).encode()).digest()[:8], "big")


# --- code and its documentation


def library_modules() -> list[tuple[str, Path]]:
    """(name, file) of the standard library's modules, in an order that hangs on their names alone."""
    root = sysconfig.get_paths()["stdlib"]
    found = []
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if name not in LEFT_OUT and not name.startswith("config-")]
        for file in files:
            path = Path(folder, file)
            if not file.endswith(".py") or file.startswith("_sysconfigdata") or path.stat().st_size > MAX_MODULE:
                continue
            found.append((path.relative_to(root).as_posix(), path))
    return sorted(found, key=lambda module: _number("order", module[0]))


_Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def definitions(node: ast.AST) -> Iterator[_Definition]:
    """`node` and all modules, classes and functions in it that have a body, without a look into expressions."""
    if isinstance(node, _Definition) and node.body:
        yield node
    for block in ("body", "orelse", "handlers", "finalbody", "cases"):
        for inner in getattr(node, block, ()):
            yield from definitions(inner)


def code_and_docstrings(text: str) -> tuple[str, str]:
    """A module's code without docstrings, and its docstrings, a blank line between two. Raises SyntaxError."""
    lines = text.split("\n")
    docstrings = []
    for node in definitions(ast.parse(text)):
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            docstrings.append((first.lineno, ast.get_docstring(node) or ""))
            for number in range(first.lineno - 1, first.end_lineno or first.lineno):
                lines[number] = ""
    code = re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in lines))
    return code, "\n\n".join(text for _, text in sorted(docstrings) if text)


def add_library(corpus: Corpus) -> None:
    """Fill `code` and `docs`."""
    try:
        from pydoc_data import topics
    except ImportError:  # some distributions package it apart; docstrings remain
        documented = {}
    else:
        documented = topics.topics
    for name, text in sorted(documented.items()):
        corpus.add("docs", f"topic {name}", text)
    for name, path in library_modules():
        split = split_of(name)
        if corpus.full(split, "code") and corpus.full(split, "docs"):
            continue
        try:
            code, docs = code_and_docstrings(path.read_text(encoding="utf-8"))
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue  # a module that this Python cannot read is no text to learn from
        corpus.add("code", name, code)
        corpus.add("docs", name, docs)
        if corpus.all_full("code", "docs"):
            return


# --- generated text

_WORDS = """
name: Ada Bela Carla Dunja Edgar Fatima Goro Hana Ilya Jonas Kofi Lena Mira Nils Oana Pablo Quentin Rosa Sami Tove Uma
  Viktor Wanda Xenia Yusuf Zora Amara Bruno Chiara Dario
trade: baker sailor weaver gardener clockmaker shepherd painter teacher fisher carpenter miller tailor beekeeper
  potter printer cook glazier ferryman doctor cobbler
adjective: old quiet clever tired small green broken golden lonely brave hungry curious careful strange gentle rusty
  silver patient noisy crooked heavy bright sleepy wooden narrow wet
animal: fox heron goat hedgehog crow otter cat mule badger owl frog hare dog swan mouse lizard pony beetle
thing: lantern kettle map ladder violin basket key mirror hammer letter blanket compass bottle drum ring wheel rope
  book bell cup window button candle coat chest
place: mill harbour forest bridge market tower island meadow station library garden quarry river lighthouse orchard
  kitchen cellar hill chapel workshop valley pier
weather: rain snow fog wind sun frost thunder hail drizzle moonlight
verb: found lost carried mended painted hid borrowed sold polished dropped buried drew opened cleaned followed forgot
  weighed kept
"""
_SLOTS = {line.split(":")[0]: line.split()[1:] for line in _WORDS.replace("\n  ", " ").split("\n") if line}
_SLOTS["number"] = [str(number) for number in range(2, 60)]
_SENTENCES = (
    "{name} the {trade} {verb} a {adjective} {thing} near the {place}.",
    "In the {weather}, the {adjective} {animal} {verb} the {thing} of {name}.",
    'Then {name} asked the {animal}, "Who {verb} the {thing} at the {place}?"',
    '"It was the {trade} with the {adjective} {thing}," said the {adjective} {animal}.',
    "Nobody at the {place} knew why {name} {verb} the {thing}.",
    "After {number} days of {weather}, {name} came back to the {place} with {number} {animal}s.",
    "The {animal} and the {trade} shared a {adjective} {thing} and {number} apples.",
    "{name} wrote a letter to {name} about the {adjective} {place}.",
    "When the {weather} ended, the {trade} {verb} the {adjective} {thing} behind the {place}.",
    "So the {adjective} {trade} gave {name} a {thing}, and the {animal} a {thing}.",
    "Every {animal} in the {place} heard how {name} {verb} the {adjective} {thing}.",
    "{name} counted {number} {thing}s in the {place}, but the {animal} saw only {number}.",
)


def story(draw: random.Random) -> str:
    """A story of 8 to 20 sentences about a few people, in paragraphs."""
    people = draw.sample(_SLOTS["name"], 3)

    def word(match: re.Match[str]) -> str:
        return draw.choice(people if match[1] == "name" else _SLOTS[match[1]])

    sentences = [re.sub(r"\{(\w+)\}", word, draw.choice(_SENTENCES)) for _ in range(draw.randint(8, 20))]
    paragraphs = [" ".join(sentences[at : at + 4]) for at in range(0, len(sentences), 4)]
    return f"The {draw.choice(_SLOTS['adjective'])} {draw.choice(_SLOTS['thing'])}\n\n" + "\n\n".join(paragraphs)


def damage(text: str, draw: random.Random) -> str:
    """The text as a bad crawl would have it: four signs in ten are replaced by others."""
    return "".join(chr(draw.randrange(33, 127)) if draw.random() < 0.4 else sign for sign in text)


def arithmetic(draw: random.Random) -> str:
    """A sheet of 12 to 40 exercises with their answers."""
    lines = []
    for _ in range(draw.randint(12, 40)):
        a, b, kind = draw.randint(2, 99), draw.randint(2, 99), draw.randrange(3)
        if kind == 0:
            lines.append(f"{a} + {b} = {a + b}")
        elif kind == 1:
            lines.append(f"{max(a, b)} - {min(a, b)} = {abs(a - b)}")
        else:
            lines.append(f"{a} * {b % 10} = {a * (b % 10)}")
    return "\n".join(lines)


def add_generated(corpus: Corpus) -> None:
    """Fill `stories` and `arithmetic`; each document has a generator of its own, keyed by its name."""
    for source, make in (("stories", story), ("arithmetic", arithmetic)):
        number = 0
        while not corpus.all_full(source):
            name = f"{source} {number}"
            number += 1
            if corpus.full(split_of(name), source):
                continue
            draw = random.Random(name)
            text = make(draw)
            if source == "stories" and split_of(name) == "train" and draw.random() < DAMAGED:
                text = damage(text, draw)
            corpus.add(source, name, text)


# --- overlap


def passages(document: bytes) -> Iterator[int]:
    """Hashes of the 48-byte passages that begin with a word (wherever in a line they stand)."""
    for match in re.finditer(rb"(?<!\S)\S", document):
        if match.start() + PASSAGE > len(document):
            return
        yield hash(document[match.start() : match.start() + PASSAGE])


def drop_overlap(corpus: Corpus) -> dict[str, dict[str, int]]:
    """Drop documents outside `train` whose text was seen before; returns the counts by split."""
    seen: set[int] = set()
    whole: set[bytes] = set()
    report: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        counts = Counter({"same_text": 0, "shared_passages": 0, "kept": 0})
        fresh: set[int] = set()
        for source in SOURCES:
            kept = []
            for document in corpus.texts.get((split, source), []):
                found = list(passages(document))
                shared = sum(each in seen for each in found) / max(1, len(found))
                if split != "train" and (document in whole or shared > MAX_SHARED):
                    counts["same_text" if document in whole else "shared_passages"] += 1
                    continue
                kept.append(document)
                fresh.update(found)
                whole.add(document)
            counts["kept"] += len(kept)
            corpus.texts[split, source] = kept
        seen |= fresh
        report[split] = dict(counts)
    return report


# --- writing


def write(corpus: Corpus, overlap: dict[str, dict[str, int]], folders: dict[str, Path]) -> None:
    """Write the splits, and a manifest beside them: all of it under --held, the open splits' part under --open."""
    manifest: dict[str, dict[str, dict[str, object]]] = {}
    for split in SPLITS:
        for source in SOURCES:
            documents = corpus.texts[split, source]
            body = b"".join(document + b"\0" for document in documents)
            if len(body) < MIN_SPLIT:
                raise SystemExit(
                    f"prepare.py: only {len(body)} bytes of {source} are left for the split {split}. This Python "
                    f"installation may lack its library's sources, or --max-bytes is too small."
                )
            path = folders[split] / split / f"{source}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
            manifest.setdefault(split, {})[source] = {
                "documents": len(documents),
                "bytes": len(body),
                "sha256": hashlib.sha256(body).hexdigest(),
            }
    for folder, splits in ((folders["train"], OPEN), (folders["search"], tuple(SPLITS))):
        record = {
            "python": sys.version.split()[0],
            "splits": {split: manifest[split] for split in splits},
            "overlap": {split: overlap[split] for split in splits},
        }
        (folder / "manifest.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def write_windows(folder: Path, held: Path, split: str, count: int) -> None:
    """What the referee scores of a split in `folder`: windows of CONTEXT + 1 bytes of each source, and their description."""
    sources = {}
    for source in SOURCES:
        found = data.windows(folder, split, source, count)
        name = f"{split}/{source}.windows"
        (held / split).mkdir(exist_ok=True)
        (held / name).write_bytes(b"".join(found))
        sources[source] = {
            "file": name,
            "type": "u1",  # unsigned integers of one byte
            "length": data.CONTEXT + 1,
            "bytes": data.CONTEXT * len(found),  # of text that the predicted tokens stand for
            "weight": data.SCORE_WEIGHTS[source],
        }
    (held / f"{split}.json").write_text(json.dumps({"split": split, "sources": sources}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make nanolm's data from this Python installation.")
    parser.add_argument("--open", type=Path, required=True, help="directory for what training may read")
    parser.add_argument("--held", type=Path, required=True, help="directory for what only the referee may read")
    parser.add_argument("--max-bytes", type=int, default=MAX_BYTES, help="cap on one source, all splits together")
    arguments = parser.parse_args()
    corpus = Corpus(arguments.max_bytes)
    add_library(corpus)
    add_generated(corpus)
    overlap = drop_overlap(corpus)
    folders = {split: arguments.open if split in OPEN else arguments.held for split in SPLITS}
    write(corpus, overlap, folders)
    for split in SPLITS:
        if split not in OPEN:
            write_windows(arguments.held, arguments.held, split, WINDOWS)
    write_windows(arguments.open, arguments.held, "dev", DEV_WINDOWS)
    for split in SPLITS:
        sizes = ", ".join(f"{source} {len(b'0'.join(corpus.texts[split, source])) / 1e6:.2f} MB" for source in SOURCES)
        print(f"{split}: {sizes}; overlap {overlap[split]}")


if __name__ == "__main__":
    main()
