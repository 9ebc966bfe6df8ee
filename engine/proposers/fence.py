"""Untrusted text inside a request: cleaned, capped, redacted, and between marks that it cannot contain.

A training log may say "ignore your instructions": the mark is made with a secret of this engine, which nothing that ran can
know, so that a text can neither close its own fence nor open another. The same text gets the same mark, for the API's cache.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable

from engine.proposers.redact import redact
from engine.text import clean

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])|\x9b[0-?]*[ -/]*[@-~]"
)


def stripped(text: str) -> str:
    """`text` without terminal sequences; control and invisible characters that are left are made visible."""
    return clean(_ESCAPES.sub("", text))


def tail(text: str, lines: int, chars: int) -> str:
    """The last lines that hold something, at most so many characters of them, each line cut at 400."""
    kept = [line[:400] for line in text.split("\n") if line.strip()][-lines:]
    joined = "\n".join(kept)
    return joined if len(joined) <= chars else "…" + joined[-chars:]


def fenced(text: str, what: str, key: bytes, secrets: Iterable[str] = (), *, limit: int = 2_000_000) -> str:
    """`text` as data: redacted, and between two marks that name `what` it is."""
    body = redact(stripped(text), secrets)
    if len(body) > limit:
        body = body[:limit] + f"\n[cut: {len(body) - limit} more characters]"
    mark = _mark(body, key)
    return f"<{mark} {what}>\n{body.rstrip(chr(10))}\n</{mark}>"


def _mark(body: str, key: bytes) -> str:
    digest = hmac.new(key, body.encode("utf-8", "replace"), "sha256").hexdigest()
    while (mark := f"data-{digest[:16]}") in body:
        digest = hmac.new(key, digest.encode(), "sha256").hexdigest()
    return mark
