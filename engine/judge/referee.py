"""Scores a checkpoint on text that neither its training nor its model's code was ever given. Run with the lab's interpreter.

    PYTHON referee.py PLAN          PLAN is JSON, written by `engine.scoring`
    PYTHON referee.py --serve FILE  a model's process where it cannot be forked

This process reads the held text and adds up; the model's code runs in two boxes of its own, forked before the text is read:

- one is told the text, window after window, and says how likely it found each next token. Nothing but these numbers leaves it;
- the other is asked about a few places of the same windows that nobody can foresee, each with another ending after it. It gives
  the whole distribution there, which must sum to one, and must be what the first one said of the token that really follows.

So a model that looks ahead, that remembers earlier windows or that bets more than everything disagrees with itself. Neither box
can reach the other. Standard library only, and by itself: nothing in a run tree may stand in for a part of this process.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import random
import select
import stat
import subprocess
import sys
import time
from array import array

if False:  # for the type checker alone
    from collections.abc import Callable, Sequence
    from typing import Any

PROBES = 48  # places that are asked twice
PROBES_HALF = 12  # the same, of the checkpoint half-way
HALF_SHARE = 4  # of the checkpoint half-way every fourth window is scored
MAX_CHECKPOINT = 64 << 30  # bytes
MAX_ANSWER = 1 << 30  # bytes
TYPES = {"u1": "B", "u2": "H", "u4": "I"}  # unsigned integers, little-endian
_BITS = math.log(2)

_HERE = os.path.dirname(os.path.abspath(__file__))
_spec = importlib.util.spec_from_file_location("_join", os.path.join(_HERE, "..", "shards", "join.py"))
assert _spec is not None
assert _spec.loader is not None
join = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(join)
warm = join.beside(os.path.join(_HERE, "..", "shards", "warm.py"))
serving = join.beside(os.path.join(_HERE, "serving.py"))


class ScoreError(Exception):
    """No score can be given; the text says why in one line."""


# --- the text


class Source:
    """Windows of one source. `bytes` is how much text the predicted tokens of all of them stand for."""

    def __init__(self, name: str, windows: Sequence[Sequence[int]], bytes: int, weight: float) -> None:
        self.name, self.windows, self.bytes, self.weight = name, windows, bytes, weight


def read_text(manifest: str) -> tuple[str, list[Source]]:
    """(split, sources) of the held text that `[prepare]` described in the file `manifest`. Raises ScoreError."""
    try:
        with open(manifest, encoding="utf-8") as file:
            described = json.load(file)
        sources = []
        for name, each in described["sources"].items():
            numbers = array(TYPES[each["type"]])
            with open(os.path.join(os.path.dirname(manifest), each["file"]), "rb") as file:
                numbers.frombytes(file.read())
            if sys.byteorder == "big":
                numbers.byteswap()
            length = int(each["length"])
            windows = [numbers[at : at + length] for at in range(0, len(numbers) - length + 1, length)]
            if length < 2 or not windows or not each["bytes"] > 0 or not each["weight"] >= 0:
                raise ValueError(f"{name} has no window of two tokens, no bytes, or a negative weight")
            sources.append(Source(name, windows, int(each["bytes"]), float(each["weight"])))
        if not sum(each.weight for each in sources) > 0:
            raise ValueError("no source has a weight")
        return str(described.get("split", "")), sources
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ScoreError(f"the held text cannot be read: {os.path.basename(manifest)}: {error!r}") from None


# --- asking


class Peer:
    """The model's code at arm's length: what it is asked, and what it answers, as plain numbers."""

    def __init__(self, asked: int, answers: int, life: int, ends: float) -> None:
        self.asked, self.answers, self.life, self.ends = asked, answers, life, ends

    def load(self, checkpoint: str) -> Callable[[], bytes]:
        """Have it load a checkpoint; the function that is returned waits until it has. Raises ScoreError."""
        return self._ask(serving.LOAD, 0, 0, os.fsencode(checkpoint), 0)

    def targets(self, windows: Sequence[Sequence[int]]) -> array[float]:
        """Log-probabilities of every next token of these windows, row after row. Raises ScoreError."""
        rows, length = len(windows), len(windows[0]) - 1
        body = array("i", [token for each in windows for token in each[:-1]])
        body.extend(token for each in windows for token in each[1:])
        return self._numbers(serving.TARGETS, rows, length, body, 4 * rows * length)

    def everything(self, prefixes: Sequence[tuple[Sequence[int], int]]) -> list[array[float]]:
        """The whole distribution after place `at` of each of these (tokens, at), all of one length. Raises ScoreError."""
        rows, length = len(prefixes), len(prefixes[0][0])
        body = array("i", [token for tokens, _ in prefixes for token in tokens])
        body.extend(at for _, at in prefixes)
        found = self._numbers(serving.ALL, rows, length, body, None)
        size = len(found) // rows
        if not size or len(found) != rows * size:
            raise ScoreError(f"log_probs gave {len(found)} numbers for {rows} places")
        return [found[n * size : (n + 1) * size] for n in range(rows)]

    def _numbers(self, kind: int, rows: int, length: int, body: array[int], expected: int | None) -> array[float]:
        if sys.byteorder == "big":
            body.byteswap()
        found = array("f")
        found.frombytes(self._ask(kind, rows, length, body.tobytes(), expected)())
        if sys.byteorder == "big":
            found.byteswap()
        return found

    def _ask(self, kind: int, rows: int, length: int, body: bytes, expected: int | None) -> Callable[[], bytes]:
        whole = memoryview(serving.QUESTION.pack(kind, rows, length, len(body)) + body)
        while whole:
            self._wait([], [self.asked])
            try:
                whole = whole[os.write(self.asked, whole[: select.PIPE_BUF]) :]
            except BrokenPipeError:
                raise self._gone() from None
        return lambda: self._answer(expected)

    def _answer(self, expected: int | None) -> bytes:
        answered, size = serving.ANSWER.unpack(self._read(serving.ANSWER.size))
        if not answered:
            raise ScoreError(f"the model's code failed: {one_line(self._read(min(size, 2000)))}")
        if size > MAX_ANSWER or size % 4 or (expected is not None and size != expected):
            raise ScoreError(f"the model's code gave {size} bytes where {expected or 'float32'} were asked for")
        return self._read(size)

    def _read(self, size: int) -> bytes:
        body = bytearray()
        while len(body) < size:
            self._wait([self.answers], [])
            piece = os.read(self.answers, min(1 << 20, size - len(body)))
            if not piece:
                raise self._gone()
            body += piece
        return bytes(body)

    def _wait(self, readable: list[int], writable: list[int]) -> None:
        left = self.ends - time.monotonic()
        if left <= 0 or not any(select.select(readable, writable, [], left)):
            raise ScoreError("the model's code took too long to load or to score the checkpoint")

    @staticmethod
    def _gone() -> ScoreError:
        return ScoreError("the model's code ended its process while it was asked; the log has what it said")


def one_line(text: bytes) -> str:
    """Untrusted text as one printable line."""
    line = " ".join(text.decode("utf-8", "replace").split())
    return "".join(sign if sign.isprintable() else "?" for sign in line)[:300]


# --- adding up


def score(
    told: Callable[[Sequence[Sequence[int]]], Sequence[float]],
    everything: Callable[[Sequence[tuple[Sequence[int], int]]], Sequence[Sequence[float]]],
    sources: Sequence[Source],
    *,
    rows: int,
    probes: int,
    tolerance: float,
    draw: random.Random,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """(bits per byte of each source, what was checked). Raises ScoreError when a check fails or a number is not finite.

    `told` gives the log-probabilities (nats) of the next tokens of windows, `everything` whole distributions at single places;
    both are answered by the model, apart from one another. `draw` chooses the places; the bits do not depend on it.
    """
    bits: dict[str, float] = {}
    said: dict[tuple[str, int], Sequence[float]] = {}
    highest = -math.inf
    for source in sources:
        nats = []
        for start in range(0, len(source.windows), rows):
            some = source.windows[start : start + rows]
            answer, length = told(some), len(some[0]) - 1
            highest = max(highest, *answer)
            nats.append(-math.fsum(answer))
            for n in range(len(some)):
                said[source.name, start + n] = answer[n * length : (n + 1) * length]
        bits[source.name] = math.fsum(nats) / (source.bytes * _BITS)
        if math.isnan(bits[source.name]):
            raise ScoreError(f"log_probs gave NaN for a token of {source.name}")
        if not math.isfinite(bits[source.name]):
            raise ScoreError(
                f"the score of {source.name} is {bits[source.name]}: some token was given no chance at all"
            )
    if highest > tolerance:
        raise ScoreError(f"a log-probability is {highest:.3g}: no token can be likelier than certain")
    places = [(source, n) for source in sources for n in range(len(source.windows))]
    unsummed = moved = 0.0
    for source, group in _by_source([draw.choice(places) for _ in range(probes)]).items():
        asked = [_with_another_ending(source, n, draw) for n in group]
        for start in range(0, len(asked), rows):
            places_asked = asked[start : start + rows]
            for n, (_, at), whole in zip(group[start:], places_asked, everything(places_asked)):  # noqa: B905 (Python 3.9)
                token = source.windows[n][at + 1]
                if not token < len(whole):
                    raise ScoreError(f"log_probs gives {len(whole)} tokens, and the text has number {token}")
                unsummed = _worst(unsummed, abs(_log_sum(whole)))
                moved = _worst(moved, abs(whole[token] - said[source.name, n][at]))
    if not unsummed <= tolerance:
        raise ScoreError(f"a distribution does not sum to one: the logarithm of its sum is {unsummed:.3g}")
    if not moved <= tolerance:
        raise ScoreError(
            "the model looks ahead, or back at other windows: without what follows, what it says of the next token differs by "
            f"{moved:.3g} nats"
        )
    return bits, [
        {"name": "distributions sum to one", "worst": unsummed, "limit": tolerance, "places": probes},
        {"name": "the same without what follows", "worst": moved, "limit": tolerance, "places": probes},
    ]


def overall(bits: dict[str, float], sources: Sequence[Source]) -> float:
    """The one number: bits per byte by the weights of the sources."""
    return math.fsum(each.weight * bits[each.name] for each in sources) / math.fsum(each.weight for each in sources)


def _by_source(places: list[tuple[Source, int]]) -> dict[Source, list[int]]:
    found: dict[Source, list[int]] = {}
    for source, n in places:
        found.setdefault(source, []).append(n)
    return found


def _with_another_ending(source: Source, n: int, draw: random.Random) -> tuple[list[int], int]:
    """The inputs of a window up to a place, then those of another window: (tokens, place). What follows there is not told."""
    inputs = list(source.windows[n][:-1])
    at = draw.randrange(len(inputs))
    other = source.windows[draw.randrange(len(source.windows))]
    return inputs[: at + 1] + list(other[at + 1 : len(inputs)]), at


def _log_sum(scores: Sequence[float]) -> float:
    most = max(scores)
    if not math.isfinite(most):
        return math.nan
    return most + math.log(math.fsum(math.exp(each - most) for each in scores))


def _worst(one: float, other: float) -> float:
    return math.nan if math.isnan(one) or math.isnan(other) else max(one, other)


# --- the two boxes


def check_checkpoint(path: str, below: str) -> None:
    """A checkpoint is a file of its own in the run directory, of a size that can be. Raises ScoreError."""
    try:
        info = os.lstat(path)
        sound = stat.S_ISREG(info.st_mode) and info.st_nlink == 1 and 0 < info.st_size <= MAX_CHECKPOINT
        sound = sound and os.path.realpath(path) == os.path.join(os.path.realpath(below), os.path.relpath(path, below))
    except OSError:
        sound = False
    if not sound:
        raise ScoreError(
            f"there is no {os.path.relpath(path, below)} in the run directory that is a plain file of its own"
        )


def start(plan: dict[str, Any], name: str, ends: float) -> Peer:
    """Have the model's code served in the box `name` of the plan. Raises OSError when there can be none."""
    box = plan["boxes"][name]
    for each in (box["scratch"], os.path.join(box["scratch"], "tmp")):
        os.mkdir(each, 0o700)
    (asked, ask), (answers, answer), (stands, life) = os.pipe(), os.pipe(), os.pipe()
    if join.threads() == 1:
        _fork(plan, box, asked, answer, stands)
    else:
        serve = [plan["python"], "-B", os.path.abspath(__file__), "--serve", plan["model"]]
        argv = join.command(plan["enter"], box["walls"], plan["cwd"], serve)
        subprocess.Popen(argv, stdin=asked, stdout=answer, cwd=plan["cwd"], env=box["env"])
    for each in (asked, answer, stands):
        os.close(each)
    os.set_blocking(ask, False)
    return Peer(ask, answers, life, ends)


def _fork(plan: dict[str, Any], box: dict[str, Any], asked: int, answer: int, stands: int) -> None:
    mark = {name: os.environ[name] for name in ("COCKPIT_LAUNCH",) if name in os.environ}  # what the launcher sweeps by
    built = join.build(box["walls"], stands, 2, mark)
    middle = os.fork()
    if middle:
        if built is not None:
            built.close()
        os.waitpid(middle, 0)
        return
    try:
        if built is not None:
            built.join()
        if os.fork() == 0:
            for each in warm._descriptors() - {0, 1, 2, asked, answer}:
                os.close(each)
            os.chdir(plan["cwd"])
            os.environ.clear()
            os.environ.update({**box["env"], **mark})
            join.confine(box["walls"])
            warm.forget({"env": box["env"]})
            sys.argv[:] = sys.orig_argv[:] = [plan["model"]]
            serving.serve(plan["model"], asked, answer)
            warm.end(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(1)


# --- the whole


def referee(plan: dict[str, Any]) -> dict[str, Any]:
    """What score.json says of a finished run. Raises ScoreError, and OSError when there is no box to be had."""
    ends = time.monotonic() + plan["seconds"]
    checkpoints = [plan["checkpoint"]]
    if plan["half"] and os.path.lexists(plan["half"]):
        checkpoints.append(plan["half"])
    for each in checkpoints:
        check_checkpoint(each, plan["run_dir"])
    try:
        if any(name not in sys.modules for name in plan["imports"]):
            warm.prepare(plan["imports"])
    except warm.Unfit:
        pass  # the boxes then import by themselves
    told, asked = (start(plan, name, ends) for name in ("told", "asked"))
    split, sources = read_text(plan["text"])
    result: dict[str, Any] = {}
    for checkpoint in checkpoints:
        final = checkpoint == plan["checkpoint"]
        some = sources if final else [_fewer(each) for each in sources]
        for wait in [peer.load(checkpoint) for peer in (told, asked)]:
            wait()
        probes = PROBES if final else PROBES_HALF
        how = {"rows": plan["rows"], "probes": probes, "tolerance": plan["tolerance"], "draw": random.SystemRandom()}
        bits, checks = score(told.targets, asked.everything, some, **how)
        if final:
            tokens = sum(len(window) - 1 for each in sources for window in each.windows)
            result = {
                "metric": overall(bits, sources),
                "sources": bits,
                "tokens": tokens,
                "split": split,
                "checks": checks,
            }
            if plan["report"]:
                _, again = read_text(plan["report"])
                bits, _ = score(told.targets, asked.everything, again, **{**how, "probes": PROBES_HALF})
                result["evaluated"] = overall(bits, again)
        else:
            result["half"] = overall(bits, some)
    return result


def _fewer(source: Source) -> Source:
    windows = source.windows[::HALF_SHARE]
    return Source(source.name, windows, round(source.bytes * len(windows) / len(source.windows)), source.weight)


def write(path: str, result: dict[str, Any]) -> None:
    """Put the result into a file of its own, whatever a run has left there under that name. Raises OSError."""
    partial = f"{path}.{os.urandom(8).hex()}"
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(json.dumps(result, indent=1) + "\n")
    os.replace(partial, path)


def main(argv: list[str]) -> int:
    """Returns 0 with a score in the plan's `out`, or 1 with one line on stderr."""
    if argv[:1] == ["--serve"]:
        asked, answers = os.dup(0), os.dup(1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        serving.serve(argv[1], asked, answers)
        return 0
    sys.path[:] = [each for each in sys.path if os.path.realpath(each) != os.path.realpath(_HERE)]  # nothing to import
    plan = json.loads(argv[0])
    try:
        write(plan["out"], referee(plan))
    except ScoreError as error:
        print(f"referee: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"referee: cannot score: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
