"""The lines of a source, bounded: numbered from 1, decoded, and never longer than the cap."""

from __future__ import annotations

from collections.abc import Iterator

from engine.history.importers.base import MAX_LINE, Reading, Source

_EVERY = 5000


def lines(source: Source, reading: Reading) -> Iterator[tuple[int, str]]:
    """(number, text without its end) of every line that can be read; blank ones are counted as comments, too long ones are
    listed as not understood. `account.total` counts them all."""
    account, body = reading.account, source.body
    start = 3 if body.startswith(b"\xef\xbb\xbf") else 0
    number, end = 0, len(body)
    while start < end:
        stop = body.find(b"\n", start)
        stop = end if stop < 0 else stop
        number += 1
        account.total += 1
        if number % _EVERY == 0:
            source.check_time()
        if stop - start > MAX_LINE:
            reading.puzzled(number, body[start : start + 1000], f"longer than {MAX_LINE} bytes")
        else:
            raw = body[start:stop].rstrip(b"\r")
            if raw.strip():
                yield number, raw.decode("utf-8", "replace")
            else:
                account.comments += 1
        start = stop + 1
