"""TensorBoard event files: scalars as points of curves. A record whose checksum is wrong is listed; the ones after it are read.

The format: records of u64 length, its masked CRC-32C, an `Event` message, its masked CRC-32C. tensorflow is not needed.
"""

from __future__ import annotations

from collections import Counter
from struct import Struct, unpack_from

from engine.history.importers.base import Curves, Reading, Source, cut
from engine.history.importers.columns import check_mapping
from engine.history.importers.curves import finish
from engine.history.importers.wire import (
    BYTES,
    DOUBLE,
    FIXED32,
    FIXED64,
    FLOAT,
    VARINT,
    fields,
    masked_crc32c,
    signed,
    text,
    varint,
)
from engine.history.importers.words import begin

_HEAD = Struct("<QI")
_MAX_RECORD = 64 << 20
_KINDS = {4: "graphs", 6: "log messages", 7: "session marks", 8: "run metadata", 9: "graphs"}


class TensorBoard:
    name = "tensorboard"
    says = "a TensorBoard event file (events.out.tfevents.…)"

    def suits(self, name: str, head: bytes) -> float:
        if len(head) < 12:
            return 0.9 if "tfevents" in name else 0.0
        length, crc = _HEAD.unpack_from(head)
        if length < _MAX_RECORD and masked_crc32c(head[:8]) == crc:
            return 0.99
        return 0.9 if "tfevents" in name else 0.0

    def read(self, source: Source) -> Reading:
        reading = Reading(self.name)
        reading.account.unit = "records"
        check_mapping(source.mapping)
        begin(reading, 0, source.mapping.get("metric", ""), source.mapping.get("direction", ""))
        run = reading.run(1, name=cut(source.name.rpartition("/")[0] or source.name))
        assert run is not None
        file = _File(reading, source)
        file.read()
        run.t = file.first_time
        if not reading.account.header + reading.account.measured:  # nothing says that this is a run
            reading.runs.clear()
        finish(reading, source.mapping, {run.n: "the file does not say how the run ended"})
        return reading


class _File:
    """One pass over the records."""

    def __init__(self, reading: Reading, source: Source) -> None:
        self.reading = reading
        self.source = source
        self.curves: Curves = reading.curves
        self.names: dict[bytes, int | None] = {}
        self.left_out: Counter[str] = Counter()
        self.first_time: float | None = None

    def read(self) -> None:
        """Place every record of the file."""
        data, account = self.source.body, self.reading.account
        sums: dict[bytes, int] = {}
        at, end = 0, len(data)
        while at < end:
            account.total += 1
            number = account.total
            if number % 10000 == 0:
                self.source.check_time()
            if end - at < 12:
                self.reading.puzzled(number, b"", f"the last {end - at} bytes are half a record: cut off while written")
                break
            length, crc = _HEAD.unpack_from(data, at)
            head = data[at : at + 8]
            known = sums.get(head)
            if known is None:
                known = masked_crc32c(head)
                if len(sums) < 10000:
                    sums[head] = known
            if known != crc:
                self.reading.puzzled(
                    number, b"", f"the length at byte {at} is damaged: the {end - at} bytes after it are lost"
                )
                break
            if length > _MAX_RECORD or at + 16 + length > end:
                self.reading.puzzled(
                    number, b"", f"the record at byte {at} is cut off, or longer than {_MAX_RECORD} bytes"
                )
                break
            body = data[at + 12 : at + 12 + length]
            (crc,) = unpack_from("<I", data, at + 12 + length)
            if masked_crc32c(body) != crc:
                self.reading.puzzled(number, b"", "the checksum is wrong")
            else:
                self._event(number, body)
            at += 16 + length
        for kind, count in sorted(self.left_out.items()):
            self.reading.note(f"{count} {kind} are left out: only scalars are imported")

    def _event(self, number: int, body: bytes) -> None:
        account = self.reading.account
        try:
            points, kind = self._one(body) or self._scalars(body)
        except (ValueError, IndexError):
            self.reading.puzzled(number, b"", "no event of TensorBoard")
            return
        if kind == "header":
            account.header += 1
        elif points:
            account.measured += 1
        else:
            account.left_out += 1
            self.left_out[kind or "empty records"] += 1

    def _one(self, body: bytes) -> tuple[int, str] | None:
        """An event of one number, as almost all are, without walking its fields; None for any other."""
        size = len(body)
        if size < 24 or size > 127 or body[0] != 0x09 or body[9] != 0x10:
            return None
        step, at = varint(body, 10)
        if at + 6 > size or body[at] != 0x2A or body[at + 1] != size - at - 2 or body[at + 2] != 0x0A:
            return None
        value = at + 4
        if body[at + 3] != size - value or body[value] != 0x0A:
            return None
        end = value + 2 + body[value + 1]
        if end + 5 != size or body[end] != 0x15:
            return None
        tag = body[value + 2 : end]
        name = self.names.get(tag)
        if name is None:
            return None
        (t,) = DOUBLE.unpack_from(body, 1)
        self.curves.add(0, name, signed(step), t, FLOAT.unpack_from(body, end + 1)[0])
        return 1, ""

    def _scalars(self, body: bytes) -> tuple[int, str]:
        """How many points an event had, and what else it was."""
        t, step, kind, summaries = float("nan"), 0, "", []
        for field, wire, start, end in fields(body):
            if field == 1 and wire == FIXED64:
                (t,) = DOUBLE.unpack_from(body, start)
            elif field == 2 and wire == VARINT:
                step = signed(start)
            elif field == 3 and wire == BYTES:
                kind = "header"
            elif field == 5 and wire == BYTES:
                summaries.append((start, end))
            elif field in _KINDS:
                kind = _KINDS[field]
        if self.first_time is None and abs(t) < float("inf"):
            self.first_time = t
        points = 0
        for start, end in summaries:
            for field, wire, begins, ends in fields(body, start, end):
                if field == 1 and wire == BYTES:
                    points += self._value(body, begins, ends, step, t)
        return points, kind or ("summaries without a scalar" if summaries else "")

    def _value(self, body: bytes, start: int, end: int, step: int, t: float) -> int:
        """Add the value of one tag; 1 when it was a scalar."""
        tag, value = b"", None
        for field, wire, begins, ends in fields(body, start, end):
            if field == 1 and wire == BYTES:
                tag = body[begins:ends]
            elif field == 2 and wire == FIXED32:
                (value,) = FLOAT.unpack_from(body, begins)
            elif field == 8 and wire == BYTES:
                value = _tensor(body, begins, ends)
        if value is None:
            self.left_out["values that are no scalars (histograms, images, texts)"] += 1
            return 0
        if tag not in self.names and len(self.names) < 20000:
            self.names[tag] = self.curves.name(text(tag, 0, len(tag)))
        name = self.names.get(tag)
        if name is None:
            self.reading.note("some names of metrics are beyond the cap and left out")
            return 0
        self.curves.add(0, name, step, t, value)
        return 1


def _tensor(body: bytes, start: int, end: int) -> float | None:
    """The number of a scalar tensor (float or double, no dimensions but ones); None for any other."""
    dtype, found = 0, None
    for field, wire, begins, ends in fields(body, start, end):
        if field == 1 and wire == VARINT:
            dtype = begins
        elif field == 2 and any(_dimension(body, s, e) != 1 for n, w, s, e in fields(body, begins, ends) if n == 2):
            return None
        elif field in (4, 5, 6) and wire in (BYTES, FIXED32, FIXED64):
            found = body[begins:ends]
    if found is not None and dtype == 1 and len(found) == 4:
        return float(FLOAT.unpack(found)[0])
    if found is not None and dtype == 2 and len(found) == 8:
        return float(DOUBLE.unpack(found)[0])
    return None


def _dimension(body: bytes, start: int, end: int) -> int:
    return next((begins for n, wire, begins, _ in fields(body, start, end) if n == 1 and wire == VARINT), 0)
