"""The process in which a candidate's model answers the referee. Standard library only, run with the lab's interpreter.

It is asked through one pipe and answers through another; `engine.judge.referee` asks, and trusts nothing that comes back.
The candidate's file defines `load(path)`, which gives the model of a checkpoint, and `log_probs(model, tokens)`: for integers
[rows, length] the log-probabilities (nats) of every next token after each prefix, [rows, length, vocabulary].
"""

from __future__ import annotations

import importlib
import os
import struct
import sys

if False:  # for the type checker alone
    from typing import Any

LOAD, TARGETS, ALL = 1, 2, 3
QUESTION = struct.Struct("<BIIQ")  # what is asked, rows, length of a row, bytes that follow
ANSWER = struct.Struct("<BQ")  # 1 when answered, 0 when failed; bytes that follow


def serve(path: str, asked: int, answers: int) -> None:
    """Answer what comes through the descriptor `asked` until it ends. What the model's code prints goes to the log."""
    model, loaded = None, None
    with os.fdopen(asked, "rb") as reader, os.fdopen(answers, "wb") as writer:
        while head := reader.read(QUESTION.size):
            kind, rows, length, size = QUESTION.unpack(head)
            body = reader.read(size)
            try:
                if model is None:
                    model = _module(path)
                if kind == LOAD:
                    loaded = model.load(_path(body))
                    answer = b""
                else:
                    answer = _answer(model, loaded, kind, rows, length, body)
            except Exception as error:  # whatever the code under test raises is its answer
                message = f"{type(error).__name__}: {error}".encode("utf-8", "replace")[:2000]
                writer.write(ANSWER.pack(0, len(message)) + message)
            else:
                writer.write(ANSWER.pack(1, len(answer)))
                writer.write(answer)
            writer.flush()


def _module(path: str) -> Any:
    """The candidate's file, imported under its own name from its own directory, as its script would find it."""
    folder, name = os.path.split(path)
    sys.path.insert(0, folder)
    torch = importlib.import_module("torch")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
    return importlib.import_module(name.rpartition(".")[0])


def _path(body: bytes) -> Any:
    return importlib.import_module("pathlib").Path(os.fsdecode(body))


def _answer(module: Any, model: Any, kind: int, rows: int, length: int, body: bytes) -> bytes:
    """TARGETS: log-probabilities of the tokens that follow, in every row. ALL: of every token, at one place of each row."""
    torch = sys.modules["torch"]
    numbers = torch.frombuffer(bytearray(body), dtype=torch.int32).long()
    tokens, more = numbers[: rows * length].view(rows, length), numbers[rows * length :]
    with torch.no_grad():
        parameter = next(iter(getattr(model, "parameters", lambda: ())()), None)
        scores = module.log_probs(model, tokens if parameter is None else tokens.to(parameter.device))
        if scores.ndim != 3 or tuple(scores.shape[:2]) != (rows, length):
            raise ValueError(f"log_probs gave {tuple(scores.shape)} for tokens [{rows}, {length}]")
        if kind == TARGETS:
            found = scores.gather(2, more.view(rows, length, 1).to(scores.device))
        else:
            found = scores[torch.arange(rows, device=scores.device), more.to(scores.device)]
        return bytes(found.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
