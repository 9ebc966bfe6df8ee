"""From the words and numbers by which people mark a failed run to typed outcomes; which names are metrics, and which way.

Histories store a crash as 0.000000, 100.0, 999, `DIVERGED`, `NaN` or `n/a`: each would win or wreck a ranking. Here such a
stand-in becomes an outcome and no metric (NULL).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from statistics import median

from engine.history.importers.base import MAX_TEXT, Reading, Run, Segment, cut, real
from engine.types import Outcome

GOOD = frozenset(
    (
        *("keep", "kept", "discard", "discarded", "ok", "success", "succeeded", "finished", "completed", "complete"),
        *("done", "true", "yes", "1"),
    )
)
"""What sources call a run that ran to its end, whether or not its change was kept."""

BAD = {
    "crash": Outcome.CRASHED,
    "crashed": Outcome.CRASHED,
    "fail": Outcome.CRASHED,
    "failed": Outcome.CRASHED,
    "failure": Outcome.CRASHED,
    "error": Outcome.CRASHED,
    "false": Outcome.CRASHED,
    "no": Outcome.CRASHED,
    "checks_failed": Outcome.CRASHED,
    "oom": Outcome.OOM,
    "timeout": Outcome.TIMEOUT,
    "timed out": Outcome.TIMEOUT,
    "nan": Outcome.NONFINITE,
    "inf": Outcome.NONFINITE,
    "nonfinite": Outcome.NONFINITE,
    "diverged": Outcome.DIVERGED,
    "diverge": Outcome.DIVERGED,
    "killed": Outcome.KILLED,
    "aborted": Outcome.KILLED,
    "abort": Outcome.KILLED,
    "cancelled": Outcome.KILLED,
    "canceled": Outcome.KILLED,
    "interrupted": Outcome.KILLED,
    "stopped": Outcome.KILLED,
    "running": Outcome.LOST,
    "scheduled": Outcome.LOST,
    "lost": Outcome.LOST,
}
"""What sources call a run that did not run to its end."""

NOTHING = frozenset(("", "-", "--", "---", "—", "–", "n/a", "na", "none", "null", "nil", "?", "tbd", "x"))
"""What sources write where there is no number."""

STAND_INS = frozenset((100.0, 999.0, 999.9, 999.99, 1000.0, 9999.0, 99999.0, 999999.0, 1e6, 1e9, 1e10, -1.0))
"""Numbers that stand for a failure when they are far from every other metric of the segment; 0 does so by itself."""

_REASONS = (
    (re.compile(r"\boom\b|out[- ]of[- ]memory", re.I), Outcome.OOM),
    (re.compile(r"time[d]?[- ]?out", re.I), Outcome.TIMEOUT),
    (re.compile(r"\bnans?\b|\binf\b|non-?finite", re.I), Outcome.NONFINITE),
    (re.compile(r"diverg", re.I), Outcome.DIVERGED),
    (re.compile(r"\b(killed|aborted|cancell?ed|interrupted)\b", re.I), Outcome.KILLED),
)
_HIGHER = re.compile(
    r"(^|_|/)(acc|accuracy|score|reward|return|f1|auc|auroc|bleu|rouge|map|iou|mfu|throughput|recall|precision|speedup)"
    r"($|_|/|@|\d)|tokens_per_s|tok_s|per_second",
    re.I,
)
_METRIC = re.compile(r"bpb|loss|perplexity|\bppl\b|nll|bpc|cross_entropy", re.I)
_ALSO_METRIC = re.compile(r"^(metric|score|value|objective|result|target)$", re.I)


def direction_of(metric: str) -> str:
    """ "max" for names such as accuracy or tokens_per_s, else "min"."""
    return "max" if _HIGHER.search(metric) else "min"


def direction_said(word: str) -> str | None:
    """ "min" or "max" from what a person or a header says (lower, minimize, higher is better, …); None when unclear."""
    word = word.strip().lower()
    if re.search(r"\b(min|minimi[sz]e|lower|low|down|smaller|less)\b", word):
        return "min"
    return "max" if re.search(r"\b(max|maximi[sz]e|higher|high|up|larger|greater|more)\b", word) else None


def likeliest_metric(names: Iterable[str]) -> str | None:
    """The name that is most likely what runs are compared by: held-out bits per byte or loss before training loss."""

    def rank(name: str) -> int | None:
        low = name.lower()
        held_out = re.search(r"val|valid|eval|test|held", low) is not None
        if _METRIC.search(low):
            base = 0 if "bpb" in low else 1 if "loss" in low else 2
            return base + (0 if held_out else 6 if "train" in low else 3)
        if _HIGHER.search(low) and not re.search(r"per_s|tok|throughput|mfu", low):
            return 10 if held_out else 11
        return 12 if _ALSO_METRIC.search(low) else None

    ranked = [(place, n, name) for n, name in enumerate(names) if (place := rank(name)) is not None]
    return min(ranked)[2] if ranked else None


def is_bad(status: str) -> bool:
    """Whether a status says that the run failed."""
    return status.strip().lower() in BAD


def knows_metric(text: str) -> bool:
    """Whether a cell can stand where a metric is expected: a number, or a word that says why there is none."""
    low = text.strip().lower()
    return low in NOTHING or low in BAD or real(text) is not None


def settle(run: Run, stored: object, direction: str, reason: str = "") -> None:
    """Give a run its outcome and metric, from what stood in the metric's place, its status, and the reason it gives."""
    word = "" if stored is None else str(stored).strip()[:MAX_TEXT]
    run.stored = cut(word, 100)
    low, status = word.lower(), run.status.strip().lower()
    number = real(stored) if not isinstance(stored, str) else real(word)
    why = f"{reason} {run.description}"
    if status in BAD:
        told = Outcome.NONFINITE if number is not None and number != number else _reason(why, BAD[status])
        _fail(run, told, cut(reason) if reason else f"the source says {cut(status)}")
    elif low in BAD:
        _fail(run, BAD[low], f"the source has {run.stored} for the metric")
    elif number is None:
        said = f"{run.status} and has no metric" if status in GOOD else "has no metric"
        detail = f"the source says {said}" + (f": {cut(reason)}" if reason else "")
        _fail(run, _reason(why, Outcome.LOST), detail if low in NOTHING else f"{run.stored!r} is no metric")
    elif abs(number) == float("inf") or number != number:
        _fail(run, Outcome.NONFINITE, f"the metric is {run.stored}")
    elif number == 0 and direction == "min":
        told = Outcome.KILLED if status.startswith("discard") else Outcome.CRASHED
        _fail(run, _reason(why, told), f"stored as {run.stored}, which stands for a run without a result")
    else:
        run.outcome, run.metric = Outcome.FINISHED.value, number


def unmask(reading: Reading) -> None:
    """Take the metric from runs that say they succeeded with 100.0, 999 and the like, where that is ten times what is usual
    in their segment (or negative where nothing else is)."""
    by_segment: dict[int, list[Run]] = {}
    for run in reading.runs:
        if run.metric is not None:
            by_segment.setdefault(run.segment, []).append(run)
    for runs in by_segment.values():
        odd = [run for run in runs if run.metric in STAND_INS]
        if odd and len(odd) < len(runs):
            _unmask(odd, [run.metric for run in runs if run.metric is not None and run.metric not in STAND_INS])


def _unmask(odd: Sequence[Run], usual: Sequence[float]) -> None:
    if not usual:
        return
    middle, lowest = median(usual), min(usual)
    for run in odd:
        value = run.metric or 0.0
        if (value > 0 and value > 10 * abs(middle)) or (value < 0 <= lowest):
            _fail(run, _reason(run.description, Outcome.CRASHED), f"stored as {run.stored}, which stands for a failure")


def begin(reading: Reading, line: int, metric: str, said: str = "", **fields: str) -> Segment:
    """Begin a segment with a metric and the direction that was said, or that its name has."""
    direction = direction_said(said) or direction_of(metric)
    return reading.segment(line, metric=cut(metric), direction=direction, **{k: cut(v) for k, v in fields.items()})


def _reason(text: str, otherwise: Outcome) -> Outcome:
    return next((outcome for pattern, outcome in _REASONS if pattern.search(text)), otherwise)


def _fail(run: Run, outcome: Outcome, detail: str) -> None:
    run.outcome, run.metric, run.detail = outcome.value, None, detail
