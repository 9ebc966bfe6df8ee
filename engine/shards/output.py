"""What a shard prints, on its way from a pipe into its log: as it comes, bounded, its end always kept. Standard library only.

The launcher's loop reads each pipe a piece at a time and lets it rest in between, so that a shard that prints without end waits
for the launcher and not the launcher for it. The log keeps the first bytes up to its limit and the last 64 KiB, where the
closing traceback is; one line between them counts what was dropped. A log that cannot be written (the disk is full) is treated
the same, and goes on when it can.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import time
from collections.abc import Callable
from dataclasses import dataclass

from engine.sizes import sized

PIECE = 64 * 1024  # bytes of one read
LINE = PIECE  # that are kept of one line; no less than a piece, so that only a piece's first line can be too long
TAIL = 64 * 1024  # bytes that are kept of the end
REST_S = 0.008  # between two reads of one pipe, when it has used up its burst
BURST = 64  # reads that a pipe which was quiet has at once
AT_ONCE = 2  # pipes that may be read at that pace; when more have used up theirs, they share it
RECENT_S = 0.1
DRAIN = 64  # reads at the end: more than a pipe can hold, and no more, since somebody may go on writing


class Log:
    """The file behind one output: what is kept of it, and the count of what is not. Owns the descriptor `file`."""

    def __init__(self, file: int, limit: int, write: Callable[[int, bytes], int] = os.write) -> None:
        self.file = file
        self.room = limit or 1 << 62
        self.trouble = ""  # why the last write failed
        self._write = write
        self._waiting = bytearray()  # the latest bytes that are not in the file
        self._dropped = 0  # bytes before those that will never be
        self._dropped_lines = 0
        self._column = 0  # bytes so far of the line that is being read
        self._cut = 0  # bytes of it that were left out
        self._line_ended = True  # in the file

    def take(self, piece: bytes) -> None:
        """Take the next bytes, at most PIECE of them."""
        piece = self._shortened(piece)
        if self._waiting and self.room > 0:
            self._catch_up()  # the disk was full
        if not self._waiting:
            written = self._put(piece[: self.room])
            self.room -= written
            piece = piece[written:]
        self._waiting += piece
        excess = len(self._waiting) - TAIL
        if excess > 0:
            self._dropped_lines += self._waiting.count(b"\n", 0, excess)
            self._dropped += excess
            del self._waiting[:excess]

    def close(self) -> str | None:
        """Write what is kept of the end, and close. Returns what could not be written, in words; None when all was."""
        self._waiting += self._cut_note()
        if self._waiting:
            self._catch_up()
        os.close(self.file)
        lost = self._dropped + len(self._waiting)
        return f"{sized(lost)} of its output could not be written: {self.trouble}" if self._waiting else None

    def _shortened(self, piece: bytes) -> bytes:
        """`piece` without what exceeds LINE in a line; a carriage return ends a line too, as in progress bars."""
        ends = (piece.find(b"\n"), piece.find(b"\r"))
        last = max(piece.rfind(b"\n"), piece.rfind(b"\r"))
        if self._column + len(piece) <= LINE:
            self._column = self._column + len(piece) if last < 0 else len(piece) - last - 1
            return piece
        end = min((at for at in ends if at >= 0), default=len(piece))
        kept = max(0, min(end, LINE - self._column))
        self._cut += end - kept
        if last < 0:
            self._column += len(piece)
            return piece[:kept]
        self._column = len(piece) - last - 1
        return piece[:kept] + self._cut_note() + piece[end:]

    def _cut_note(self) -> bytes:
        cut, self._cut = self._cut, 0
        return f" [cockpit: {sized(cut)} of this line dropped]".encode() if cut else b""

    def _catch_up(self) -> None:
        """Write what waits, after a line that counts what is missing before it."""
        text = bytes(self._waiting)
        if self._dropped:
            part = text.find(b"\n") + 1  # its beginning is gone
            text = self._gap_note(self._dropped_lines + (part > 0), self._dropped + part) + text[part:]
        written = self._put(text)
        self.room = max(0, self.room - written)
        if written:
            self._waiting[:] = text[written:]
            self._dropped = self._dropped_lines = 0

    def _gap_note(self, lines: int, size: int) -> bytes:
        count = f"{lines / 1e6:.1f} M lines" if lines >= 1_000_000 else f"{lines:,} line{'s' * (lines != 1)}"
        why = f": {self.trouble}" if self.room > 0 else ""
        begin = "" if self._line_ended else "\n"
        return f"{begin}cockpit: {count} dropped ({sized(size)}){why}\n".encode()

    def _put(self, text: bytes) -> int:
        """Append as much of `text` as the disk takes; how many bytes that was."""
        at = 0
        try:
            while at < len(text):
                at += self._write(self.file, text[at:] if at else text)
        except OSError as error:
            self.trouble = error.strerror or str(error)
        if at:
            self._line_ended = text[at - 1 : at] == b"\n"
        return at


@dataclass(slots=True, eq=False)
class Output:
    """One shard's output: the pipe's end that is read (None once everybody closed the other), and the log."""

    pipe: int | None
    log: Log
    next: float = 0.0  # when it may be read again
    resting: bool = False


class Outputs:
    """All outputs of a launcher, read in its loop."""

    def __init__(self, selector: selectors.BaseSelector, clock: Callable[[], float] = time.monotonic) -> None:
        self.selector = selector
        self.clock = clock
        self.open: set[Output] = set()

    def begin(self, file: int, limit: int) -> tuple[Output, int]:
        """An output into the log `file`, of which `limit` bytes are kept (0: all), and the descriptor to print to.

        The caller closes that one once the shard has it. Raises OSError, and then `file` is closed.
        """
        try:
            read, write = os.pipe()
        except OSError:
            os.close(file)
            raise
        os.set_blocking(read, False)
        output = Output(read, Log(file, limit))
        self.open.add(output)
        self._listen(output)
        return output, write

    def wait_s(self) -> float:
        """How long until one that rests is to be read again."""
        now = self.clock()
        return min((each.next - now for each in self.open if each.resting), default=float("inf"))

    def wake(self) -> None:
        """Listen again to those that have rested."""
        now = self.clock()
        for each in self.open:
            if each.resting and each.pipe is not None and each.next <= now:
                self._listen(each)

    def finish(self, output: Output) -> str | None:
        """The shard is gone: take what is left in its pipe and close its log. Returns as `Log.close` does."""
        for _ in range(DRAIN):
            if not self._read(output):
                break
        self._close(output)
        self.open.discard(output)
        return output.log.close()

    def _listen(self, output: Output) -> None:
        assert output.pipe is not None
        output.resting = False
        self.selector.register(output.pipe, selectors.EVENT_READ, lambda mask: self._ready(output))

    def _ready(self, output: Output) -> None:
        if output.pipe is None:
            return  # closed since the selector looked
        self._read(output)
        if output.pipe is None:
            return
        now = self.clock()
        busy = sum(each.next > now - RECENT_S for each in self.open)
        rest = REST_S * max(1.0, busy / AT_ONCE)
        output.next = max(output.next, now - BURST * rest) + rest
        if output.next > now:
            output.resting = True
            self.selector.unregister(output.pipe)

    def _read(self, output: Output) -> bool:
        """Read one piece; False when there is none now or will be none."""
        if output.pipe is None:
            return False
        try:
            piece = os.read(output.pipe, PIECE)
        except BlockingIOError:
            return False
        except OSError:
            piece = b""
        if piece:
            output.log.take(piece)
        else:
            self._close(output)
        return bool(piece)

    def _close(self, output: Output) -> None:
        if output.pipe is None:
            return
        if not output.resting:
            with contextlib.suppress(KeyError):
                self.selector.unregister(output.pipe)
        os.close(output.pipe)
        output.pipe, output.resting = None, False
