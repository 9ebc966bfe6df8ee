"""From whatever the SDK raises to how a call failed, in words that say what to do, and whether trying again makes sense.

The SDK is not imported: its errors are told apart by the fields and class names that it documents, so that this stays light.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from engine.text import clean
from engine.types import Failure


class CallFailed(Exception):
    """One call failed. `again` says that the same call may go well later; `wait_s` how long the API asks to wait first."""

    def __init__(
        self, failure: Failure, detail: str, again: bool = False, wait_s: float | None = None, category: str = ""
    ) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail
        self.again = again
        self.wait_s = wait_s
        self.category = category


_BROKEN = {"RemoteProtocolError", "ReadError", "WriteError", "LocalProtocolError", "IncompleteRead", "DecodingError"}
_SILENT = {"ReadTimeout", "WriteTimeout", "PoolTimeout"}
_UNREACHABLE = {"ConnectError", "ConnectTimeout", "ProxyError", "UnsupportedProtocol"}


def told(error: BaseException, now: float) -> CallFailed:
    """How the call failed that raised `error`, at time `now` (seconds since the epoch)."""
    if isinstance(error, CallFailed):
        return error
    if getattr(error, "status_code", None) is not None:
        return _status(error, now)
    names = {cls.__name__ for each in _chain(error) for cls in type(each).__mro__}
    if names & _SILENT:
        return CallFailed(Failure.CUT_OFF, "the API fell silent in the middle of its answer", again=True)
    if names & _UNREACHABLE or isinstance(error, OSError) or ("APIConnectionError" in names and not names & _BROKEN):
        why = clean(str(_chain(error)[-1]) or type(error).__name__)
        return CallFailed(
            Failure.NO_NETWORK,
            f"the API cannot be reached ({why}): look at the network, or ANTHROPIC_BASE_URL",
            again=True,
        )
    if names & _BROKEN:
        return CallFailed(Failure.CUT_OFF, "the connection broke in the middle of the answer", again=True)
    if isinstance(error, json.JSONDecodeError):
        return CallFailed(Failure.CUT_OFF, "the stream of the answer was damaged", again=True)
    if isinstance(error, TypeError) and "authentication" in str(error):
        return CallFailed(Failure.NO_CREDENTIALS, NO_KEY)
    return CallFailed(Failure.REJECTED, f"the SDK failed: {type(error).__name__}: {clean(str(error))[:300]}")


NO_KEY = (
    "there is no key for the Messages API: set ANTHROPIC_API_KEY in the shell that you run cockpit in, and try again; "
    "recorded, swept and your own proposals need none"
)


def _chain(error: BaseException) -> list[BaseException]:
    found = [error]
    while (cause := found[-1].__cause__ or found[-1].__context__) is not None and len(found) < 10:
        found.append(cause)
    return found


def _status(error: BaseException, now: float) -> CallFailed:
    """How an answer with an error in it failed; an error inside a stream has the status 200."""
    status = int(getattr(error, "status_code", 0))
    kind = str(getattr(error, "type", None) or "")
    code = str(getattr(error, "error_code", None) or "")
    said = clean(str(getattr(error, "api_message", None) or getattr(error, "message", "") or error))[:300]
    if status == 402 or kind == "billing_error" or "spend_limit" in code or "billing" in code:
        return CallFailed(
            Failure.SPEND_LIMIT, f"the account's spend limit is reached ({code or said}): raise it, or wait"
        )
    if status == 401 or kind == "authentication_error":
        return CallFailed(
            Failure.NO_CREDENTIALS, f"the API does not take the key ({said}): set another ANTHROPIC_API_KEY"
        )
    wait = retry_after(getattr(getattr(error, "response", None), "headers", {}), now)
    if status == 429 or kind == "rate_limit_error":
        return CallFailed(
            Failure.RATE_LIMITED, f"the API limits the rate of this key ({said})", again=True, wait_s=wait
        )
    if status >= 500 or kind in ("overloaded_error", "api_error", "timeout_error"):
        return CallFailed(Failure.OVERLOADED, f"the API has too much to do ({status}: {said})", again=True, wait_s=wait)
    return CallFailed(Failure.REJECTED, f"the API took the request for wrong ({status} {kind}: {said})")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that `retry-after` (a number or a date) asks to wait; None when it is missing or no such thing."""
    text = headers.get("retry-after")
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except (TypeError, ValueError):
            return None
    return min(max(0.0, seconds), 366 * 86400.0) if seconds == seconds else None


def clock(at: float) -> str:
    """A time of day here, for a sentence: 14:05:30."""
    return time.strftime("%H:%M:%S", time.localtime(at))
