"""Weights & Biases offline files (`run-….wandb`): the run, its config, its history as points, and how it ended.

The format: a 7-byte file header, then LevelDB's log format in blocks of 32 KiB (CRC-32, length, type), each record a protobuf
message. wandb is not needed. A damaged record is listed, and reading goes on at the next block.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterator
from struct import Struct
from typing import Any

from engine.history.importers.base import Curves, Reading, Run, Source, cut, finite, real, whole
from engine.history.importers.columns import check_mapping, commit_of, param, text
from engine.history.importers.curves import finish
from engine.history.importers.wire import BYTES, DOUBLE, FIXED64, VARINT, fields, signed
from engine.history.importers.wire import text as string
from engine.history.importers.words import begin

_MAGIC = b":W&B"
_BLOCK = 32768
_HEAD = Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_MAX_RECORD = 64 << 20
_KINDS = {
    3: "summaries",
    4: "output lines",
    6: "lists of files",
    7: "system measurements",
    8: "artifacts",
    9: "tensorboard links",
    10: "alerts",
    11: "telemetry",
    12: "metric definitions",
    13: "output lines",
    26: "environments",
    100: "requests",
}
_HEADERS = (20, 21, 22)
_NAN = float("nan")


class Wandb:
    name = "wandb"
    says = "a Weights & Biases offline file (run-….wandb)"

    def suits(self, name: str, head: bytes) -> float:
        return 0.99 if head.startswith(_MAGIC) else 0.9 if name.endswith(".wandb") else 0.0

    def read(self, source: Source) -> Reading:
        reading = Reading(self.name)
        reading.account.unit = "records"
        check_mapping(source.mapping)
        begin(reading, 0, source.mapping.get("metric", ""), source.mapping.get("direction", ""))
        run = reading.run(1, name=cut(source.name), status="running")
        assert run is not None
        file = _File(reading, source, run)
        file.read()
        if not file.ended:
            run.detail = "the file has no record of the run's end: it goes on, or never wrote one"
        if not reading.account.run + reading.account.measured:  # nothing says that this is a run
            reading.runs.clear()
        finish(reading, source.mapping)
        return reading


def records(source: Source, reading: Reading) -> Iterator[bytes]:
    """The whole records of the log; each damaged stretch is one record that was not understood."""
    data = source.body
    at, end = 7, len(data)
    parts: list[bytes] = []
    account = reading.account
    if not data.startswith(_MAGIC):
        if data:
            account.total += 1
            reading.puzzled(1, data[:100], "not the header of a W&B file")
        return
    while at < end:
        room = _BLOCK - at % _BLOCK
        if room < 7:  # too little for a head: padding
            at += room
            continue
        if end - at < 7:
            yield from _lost(reading, f"the last {end - at} bytes are half a record: cut off while written")
            return
        crc, length, kind = _HEAD.unpack_from(data, at)
        body = data[at + 7 : at + 7 + length]
        sound = len(body) == length and length <= room - 7 and kind in (_FULL, _FIRST, _MIDDLE, _LAST)
        if kind == 0 and length == 0 and crc == 0:  # zeros to the end of the block
            at += room
            continue
        if not sound or zlib.crc32(body, zlib.crc32(bytes((kind,)))) != crc:
            why = "is cut off" if at + 7 + length > end else "is damaged: what follows in its block of 32 KiB is lost"
            yield from _lost(reading, f"the record at byte {at} {why}")
            parts, at = [], at + room
            continue
        at += 7 + length
        if (kind in (_FULL, _FIRST)) == bool(parts):  # a start within a record, or a piece without a start
            yield from _lost(reading, f"the record before byte {at} has no {'end' if parts else 'start'}")
            parts = []
            if kind in (_MIDDLE, _LAST):
                continue
        parts.append(body)
        if sum(map(len, parts)) > _MAX_RECORD:
            yield from _lost(reading, f"the record before byte {at} is longer than {_MAX_RECORD} bytes")
            parts = []
        elif kind in (_FULL, _LAST):
            account.total += 1
            yield b"".join(parts) if len(parts) > 1 else parts[0]
            parts = []
    if parts:
        yield from _lost(reading, "the last record has no end: cut off while written")


def _lost(reading: Reading, why: str) -> Iterator[bytes]:
    reading.account.total += 1
    reading.puzzled(reading.account.total, b"", why)
    return iter(())


class _File:
    """One pass over the records."""

    def __init__(self, reading: Reading, source: Source, run: Run) -> None:
        self.reading = reading
        self.source = source
        self.run = run
        self.curves: Curves = reading.curves
        self.names: dict[bytes, int | None] = {}
        self.left_out: Counter[str] = Counter()
        self.ended = False
        self.steps = 0

    def read(self) -> None:
        """Place every record of the file."""
        for record in records(self.source, self.reading):
            number = self.reading.account.total
            if number % 5000 == 0:
                self.source.check_time()
            try:
                self._record(record)
            except (ValueError, IndexError):
                self.reading.puzzled(number, b"", "no record of W&B")
        for kind, count in sorted(self.left_out.items()):
            self.reading.note(f"{count} {kind} are left out")

    def _record(self, data: bytes) -> None:
        account = self.reading.account
        for field, wire, start, end in fields(data):
            if field in (1, 16, 19, 200) or wire != BYTES:
                continue
            if field == 2:
                points = self._history(data, start, end)
                account.measured += points > 0
                account.left_out += points == 0
                if not points:
                    self.left_out["steps without a number"] += 1
            elif field == 17:
                self._run(data, start, end)
                account.run += 1
            elif field == 18:
                self._exit(data, start, end)
                account.run += 1
            elif field == 5:
                self._config(data, start, end)
                account.run += 1
            elif field in _HEADERS:
                account.header += 1
            else:
                account.left_out += 1
                self.left_out[_KINDS.get(field, "other records")] += 1
            return
        account.left_out += 1
        self.left_out["empty records"] += 1

    def _history(self, data: bytes, start: int, end: int) -> int:
        """Points of one step; how many."""
        step, t, found = self.steps, _NAN, []
        for field, wire, begins, ends in fields(data, start, end):
            if wire != BYTES:
                continue
            if field == 1:
                key, value = _item(data, begins, ends)
                if value is None:
                    continue
                if key == b"_step":
                    step = int(value) if abs(value) < 2**62 else step
                elif key == b"_timestamp":
                    t = value
                elif key != b"_runtime":
                    found.append((key, value))
                elif value == value:
                    self.run.seconds = finite(value)
            elif field == 2:
                step = next((signed(s) for n, w, s, _ in fields(data, begins, ends) if n == 1 and w == VARINT), step)
        self.steps = step + 1
        points = 0
        for key, value in found:
            if key not in self.names and len(self.names) < 20000:
                self.names[key] = self.curves.name(key.decode("utf-8", "replace"))
            name = self.names.get(key)
            if name is None:
                self.reading.note("some names of metrics are beyond the cap and left out")
            else:
                self.curves.add(0, name, step, t, value)
                points += 1
        return points

    def _run(self, data: bytes, start: int, end: int) -> None:
        run = self.run
        for field, wire, begins, ends in fields(data, start, end):
            if wire != BYTES:
                continue
            if field == 3:
                self.reading.segments[0].name = cut(string(data, begins, ends))
            elif field == 4:
                self._config(data, begins, ends)
            elif field == 6:
                run.group = cut(string(data, begins, ends))
            elif field == 8:
                run.name = cut(string(data, begins, ends))
            elif field == 9:
                run.description = text(string(data, begins, ends))
            elif field == 17:
                run.t = next((float(s) for n, w, s, _ in fields(data, begins, ends) if n == 1 and w == VARINT), run.t)
            elif field == 21:
                for n, w, s, e in fields(data, begins, ends):
                    if n == 2 and w == BYTES:
                        run.commit = commit_of(string(data, s, e))

    def _config(self, data: bytes, start: int, end: int) -> None:
        """Hyperparameters; a `seed` among them is the run's."""
        for field, wire, begins, ends in fields(data, start, end):
            if field != 1 or wire != BYTES:
                continue
            keys, raw = [], b""
            for n, w, s, e in fields(data, begins, ends):
                if n in (1, 2) and w == BYTES:
                    keys.append(string(data, s, e))
                elif n == 16 and w == BYTES:
                    raw = data[s:e]
            key, value = cut(".".join(keys)), _json(raw)
            if key and key != "_wandb" and len(self.run.params) < 1000:
                self.run.params[key] = param(value)
                wanted = self.source.mapping.get("seed", "seed")
                if key == wanted:
                    self.run.seed = whole(value)

    def _exit(self, data: bytes, start: int, end: int) -> None:
        code, seconds = 0, None
        for field, wire, begins, _ in fields(data, start, end):
            if wire == VARINT and field == 1:
                code = signed(begins)
            elif wire == VARINT and field == 2:
                seconds = float(signed(begins))
        self.ended = True
        self.run.status = "finished" if code == 0 else "failed"
        self.run.seconds = self.run.seconds or seconds
        if code:
            self.run.detail = f"the run ended with exit code {code}"


def _item(data: bytes, start: int, end: int) -> tuple[bytes, float | None]:
    """(name, number) of one logged value; None for what is no number. Nested names are joined by dots."""
    key, value = b"", None
    if 3 < end - start < 128 and data[start] in (0x0A, 0x12):  # one short name and its JSON, as almost all are
        split = start + 2 + data[start + 1]
        if data[split : split + 2] == b"\x82\x01" and split + 3 + data[split + 2] == end:
            return data[start + 2 : split], _number(data[split + 3 : end])
    for field, wire, begins, ends in fields(data, start, end):
        if wire == BYTES and field in (1, 2):
            part = data[begins:ends]
            key = key + b"." + part if key else part
        elif wire == BYTES and field == 16:
            value = _number(data[begins:ends])
        elif wire == FIXED64 and field == 6:
            (value,) = DOUBLE.unpack_from(data, begins)
        elif wire == VARINT and field == 5:
            value = float(signed(begins))
    return key, value


def _number(raw: bytes) -> float | None:
    """A JSON number, NaN and Infinity too, bare or quoted; None for anything else."""
    if len(raw) > 40:
        return None
    try:
        return float(raw)
    except ValueError:
        return real(raw[1:-1].decode()) if raw in (b'"NaN"', b'"Infinity"', b'"-Infinity"') else None


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw[:65536])
    except (ValueError, RecursionError):
        return raw[:1000].decode("utf-8", "replace")
