"""The referee: scores a run's checkpoint on text that the run has never been given. Protected.

    python -P evaluate.py --run RUN_DIR --held DIR --split search --out score.json

Two processes. This one holds the held text, does all the arithmetic and imports neither torch nor the code under test.
It starts another (`--serve`), which imports train.py, loads the checkpoint and answers one question over a pipe: given
these windows of bytes, what are the log-probabilities of all 256 bytes after each prefix? So the code under test never
learns which byte was right in the end, and what it claims is checked:

- shape, NaN, and that every distribution sums to one (a model cannot bet more than all it has);
- look-ahead: some windows are asked twice, the second time with another ending; what is said about the part before it
  must be the same. They come in an unpredictable order, so that remembering earlier windows shows as well.

This keeps mistakes out of the score. Code that would go looking for the held text on the disk is what boxes are for.
Exit code 0 with a score in --out, or 1 with one line on stderr.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import select
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))  # last: nothing in the run tree may stand in for a library in this process

import data  # noqa: E402

WINDOWS = 96  # scored of each source
HALF_WINDOWS = 24  # the same, of the checkpoint half-way
TWINS = 12  # windows asked twice, at least
ROWS = 36  # windows in one question
NORMALISED_WITHIN = 1e-4  # nats
SAME_WITHIN = 1e-4  # nats
SECONDS = 100  # for everything; the lab's own limit on scoring lies above
MAX_CHECKPOINT = 4 << 30  # bytes
PASSED = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")


class ScoreError(Exception):
    """No score can be given; the text says why in one line."""


# --- the other process, which runs the code under test

ASK_LOAD, ASK_SCORE = 1, 2
QUESTION = struct.Struct("<BIQ")  # what is asked, windows, bytes that follow
ANSWER = struct.Struct("<BQ")  # 1 if answered, 0 if failed; bytes that follow


def serve() -> None:
    """Answer questions until the pipe closes. What train.py prints goes to stderr, never into the answers."""
    answers, questions = os.dup(1), os.dup(0)
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.path.insert(0, str(HERE))
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
    import train

    model = None
    with os.fdopen(questions, "rb") as reader, os.fdopen(answers, "wb") as writer:
        while head := reader.read(QUESTION.size):
            kind, rows, size = QUESTION.unpack(head)
            body = reader.read(size)
            try:
                if kind == ASK_LOAD:
                    model = train.load(Path(os.fsdecode(body)))
                    answer = b""
                else:
                    tokens = torch.frombuffer(bytearray(body), dtype=torch.uint8).view(rows, -1).long()
                    scores = train.log_probs(model, tokens.to(next(model.parameters()).device))
                    answer = scores.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()
            except Exception as error:  # whatever the code under test raises is its answer
                message = f"{type(error).__name__}: {error}".encode()
                writer.write(ANSWER.pack(0, len(message)) + message)
            else:
                writer.write(ANSWER.pack(1, len(answer)))
                writer.write(answer)
            writer.flush()


# --- this process


class Model:
    """The code under test at arm's length: questions to, and answers from, the serving process."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._ends = time.monotonic() + seconds
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `close`)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-B", __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=HERE,
            env={name: os.environ[name] for name in PASSED if name in os.environ},
            bufsize=0,
        )

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def load(self, checkpoint: Path) -> None:
        """Have it load a checkpoint. Raises ScoreError."""
        info = os.lstat(checkpoint) if os.path.lexists(checkpoint) else None
        if info is None or not stat.S_ISREG(info.st_mode) or info.st_size > MAX_CHECKPOINT:
            raise ScoreError(f"there is no {checkpoint.name} in the run directory that is a file of reasonable size")
        self._ask(ASK_LOAD, 0, os.fsencode(checkpoint), 0)

    def log_probs(self, windows: Sequence[bytes]) -> Any:
        """float32 array [windows, length, 256] of log-probabilities in nats. Raises ScoreError."""
        import numpy as np

        shape = (len(windows), len(windows[0]), data.VOCABULARY)
        body = self._ask(ASK_SCORE, len(windows), b"".join(windows), 4 * math.prod(shape))
        return np.frombuffer(body, dtype="<f4").reshape(shape)

    def _ask(self, kind: int, rows: int, body: bytes, expected: int) -> bytes:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(QUESTION.pack(kind, rows, len(body)) + body)
        except BrokenPipeError:
            raise self._gone() from None
        answered, size = ANSWER.unpack(self._read(ANSWER.size))
        if not answered:
            raise ScoreError(f"train.py failed: {_one_line(self._read(min(size, 2000)))}")
        if size != expected:
            raise ScoreError(f"log_probs gave {size} bytes where [windows, length, 256] float32 are {expected}")
        return self._read(size)

    def _read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        body = bytearray()
        while len(body) < size:
            left = self._ends - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise ScoreError("train.py took too long to load or to score the checkpoint")
            piece = os.read(self._process.stdout.fileno(), min(1 << 20, size - len(body)))
            if not piece:
                raise self._gone()
            body += piece
        return bytes(body)

    def _gone(self) -> ScoreError:
        code = self._process.wait()
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 2000))
        lines = [line for line in self._errors.read().splitlines() if line.strip()]
        return ScoreError(f"train.py ended while it was asked (exit {code}): {_one_line(lines[-1] if lines else b'')}")


def _one_line(text: bytes) -> str:
    line = " ".join(text.decode("utf-8", "replace").split())
    return "".join(sign if sign.isprintable() else "?" for sign in line)[:300]


def score(model: Model, texts: dict[str, list[bytes]], key: str) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Bits per byte of each source's windows, and what was checked. `key` decides the order. Raises ScoreError."""
    import numpy as np

    draw = random.Random(key)
    asked = [(source, text[:-1], text[1:]) for source in texts for text in texts[source]]
    twins = []
    for number in draw.sample(range(len(asked)), min(len(asked), TWINS + -(len(asked) + TWINS) % ROWS)):
        inputs = asked[number][1]
        cut = draw.randrange(1, len(inputs))
        ending = bytes(byte ^ draw.randrange(1, 256) for byte in inputs[cut:])
        twins.append((number, cut, inputs[:cut] + ending))
    questions = [inputs for _, inputs, _ in asked] + [inputs for _, _, inputs in twins]
    order = draw.sample(range(len(questions)), len(questions))

    wanted = {number for number, _, _ in twins}
    whole: dict[int, Any] = {}  # the answers that twins are compared with, and the twins' own
    nats: dict[int, float] = {}
    worst = 0.0
    for start in range(0, len(order), ROWS):
        numbers = order[start : start + ROWS]
        answers = model.log_probs([questions[number] for number in numbers])
        if np.isnan(answers).any():
            raise ScoreError("log_probs gave NaN")
        with np.errstate(over="ignore", divide="ignore"):
            sums = np.log(np.exp(answers).sum(axis=2, dtype=np.float64))
        worst = max(worst, float(np.abs(sums).max()))
        if not worst <= NORMALISED_WITHIN:
            raise ScoreError(f"a distribution does not sum to one: the logarithm of its sum is {worst:.3g}")
        for number, answer in zip(numbers, answers, strict=True):
            if number < len(asked):
                targets = np.frombuffer(asked[number][2], dtype=np.uint8)
                nats[number] = -float(np.take_along_axis(answer, targets[:, None], 1).sum(dtype=np.float64))
            if number in wanted or number >= len(asked):
                whole[number] = answer.copy()
    checks = [{"name": "distributions sum to one", "worst": worst, "limit": NORMALISED_WITHIN}]

    moved = 0.0
    for place, (number, cut, _) in enumerate(twins, start=len(asked)):
        with np.errstate(invalid="ignore"):
            moved = max(moved, float(np.nanmax(np.abs(whole[place][:cut] - whole[number][:cut]))))
    if not moved <= SAME_WITHIN:
        raise ScoreError(f"the model looks ahead, or back at other windows: its past answers moved by {moved:.3g} nats")
    checks.append({"name": "same answers before another ending", "worst": moved, "limit": SAME_WITHIN})
    bits = {}
    for source in texts:
        mine = [nats[number] for number, (of, _, _) in enumerate(asked) if of == source]
        bits[source] = math.fsum(mine) / (len(mine) * data.CONTEXT * math.log(2))
        if not math.isfinite(bits[source]):
            raise ScoreError(f"the score of {source} is {bits[source]}: some byte was given no chance at all")
    return bits, checks


def overall(bits: dict[str, float]) -> float:
    """The one number: bits per byte by the fixed weights of the sources."""
    return math.fsum(weight * bits[source] for source, weight in data.SCORE_WEIGHTS.items())


def referee(run: Path, held: Path, split: str) -> dict[str, Any]:
    """The contents of score.json for a finished run. Raises ScoreError."""
    try:
        texts = {source: data.windows(held, split, source, WINDOWS) for source in data.SOURCES}
    except OSError as error:
        raise ScoreError(f"cannot read the held split {split}: {error.strerror}. Run prepare.py again") from None
    final, half = run / "final.safetensors", run / "half.safetensors"
    model = Model()
    try:
        model.load(final)
        secret = hashlib.sha256(b"".join(text for source in texts for text in texts[source]))
        with final.open("rb") as file:
            secret.update(hashlib.file_digest(file, "sha256").digest())
        bits, checks = score(model, texts, secret.hexdigest())
        result: dict[str, Any] = {
            "metric": overall(bits),
            "sources": bits,
            "tokens": data.CONTEXT * sum(map(len, texts.values())),
            "split": split,
            "checks": checks,
        }
        if os.path.lexists(half):
            model.load(half)
            few = {source: text[:: max(1, len(text) // HALF_WINDOWS)] for source, text in texts.items()}
            result["half"] = overall(score(model, few, secret.hexdigest())[0])
    finally:
        model.close()
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description="Score a run's checkpoint on held text.")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help="the run's directory, with its checkpoints")
    parser.add_argument("--held", type=Path, help="what prepare.py wrote to --held")
    parser.add_argument("--split", choices=("search", "audit", "locked"), default="search")
    parser.add_argument("--out", type=Path, help="file to write the score to")
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return 0
    if not (arguments.run and arguments.held and arguments.out):
        parser.error("--run, --held and --out are needed")
    try:
        result = referee(arguments.run.resolve(), arguments.held.resolve(), arguments.split)
    except ScoreError as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 1
    partial = arguments.out.with_name(arguments.out.name + ".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
