"""Which column of a table, or key of a record, is the metric, the seed, the status and so on: as a person says with
`--map role=column`, or as the names suggest; and from one record to one run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from engine.history.importers.base import MAX_COLUMNS, MAX_TEXT, ImportRefused, Reading, Run, cut, finite, real, whole
from engine.history.importers.words import direction_said, likeliest_metric, settle
from engine.text import clean

ALIASES: Mapping[str, tuple[str, ...]] = {
    "metric": (),
    "seed": ("seed", "random_seed", "rng_seed"),
    "run": ("run", "run_id", "trial_id", "trial", "id", "run_name"),
    "name": ("name", "run_name", "display_name", "label", "tag", "experiment", "exp"),
    "group": ("group", "config_name", "arm", "variant"),
    "status": ("status", "state", "outcome", "success", "succeeded"),
    "description": ("description", "desc", "notes", "note", "comment", "hypothesis", "change"),
    "reason": ("error", "reason", "exception", "failure", "message"),
    "commit": ("commit", "sha", "git_commit", "commit_hash", "git_sha", "revision"),
    "step": ("step", "_step", "global_step", "iteration", "iter", "it"),
    "steps": ("steps", "num_steps", "n_steps", "total_steps", "steps_completed"),
    "tokens": ("tokens", "total_tokens", "num_tokens", "tokens_seen", "n_tokens"),
    "seconds": (
        *("seconds", "wall_time_seconds", "training_seconds", "duration_s", "duration", "runtime", "elapsed"),
        *("total_seconds", "_runtime", "train_time", "wall_time_s"),
    ),
    "memory_gb": ("memory_gb", "peak_memory_gb", "peak_vram_gb", "mem_gb", "peak_mem_gb", "vram_gb", "peak_gb"),
    "time": (
        "timestamp",
        "_timestamp",
        "time",
        "t",
        "date",
        "created_at",
        "created",
        "started",
        "start_time",
        "wall_time",
    ),
}
"""Role to the names that are taken for it, the likeliest first."""

ALSO = ("direction", "unit")
"""What `--map` takes that is no column: `direction=min` or `max`, and the metric's unit."""

_NESTED_PARAMS = ("config", "params", "hparams", "hyperparameters", "args")
_NESTED_NUMBERS = ("metrics", "extra_metrics", "summary", "results")


@dataclass(frozen=True, slots=True)
class Columns:
    """Role to the name of its column, of those that there are; and what was said of direction and unit."""

    roles: Mapping[str, str]
    direction: str = ""
    unit: str = ""

    def get(self, record: Mapping[str, Any], role: str) -> Any:
        """What a record has in a role; None where there is none."""
        name = self.roles.get(role)
        return None if name is None else record.get(name)


def check_mapping(mapping: Mapping[str, str]) -> None:
    """Raise ImportRefused for a role that there is not, or a direction that is none."""
    for role, column in mapping.items():
        if role not in ALIASES and role not in ALSO:
            raise ImportRefused(
                f"--map {cut(role)}=…: there is no such role; say one of {', '.join((*ALIASES, *ALSO))}"
            )
        if not column:
            raise ImportRefused(f"--map {role}=: name a column after the equals sign")
    if "direction" in mapping and direction_said(mapping["direction"]) is None:
        raise ImportRefused(f"--map direction={cut(mapping['direction'])}: say min or max")


def choose(names: Iterable[str], mapping: Mapping[str, str], numeric: Iterable[str] = ()) -> Columns:
    """Roles of the columns `names`. `numeric` are those that hold numbers: the metric is guessed among them only, if given.

    Raises ImportRefused when the mapping names a column that is not there.
    """
    present = list(dict.fromkeys(names))[:MAX_COLUMNS]
    known = set(present)
    for role, column in mapping.items():
        if role in ALIASES and column not in known:
            some = ", ".join(cut(each, 40) for each in present[:30]) or "none"
            raise ImportRefused(f"--map {role}={cut(column)}: the source has no such column; it has {some}")
    roles = {role: column for role, column in mapping.items() if role in ALIASES}
    taken = set(roles.values())
    lower = {name.strip().lower(): name for name in reversed(present)}
    for role, aliases in ALIASES.items():
        found = next((lower[each] for each in aliases if lower.get(each, "") not in taken and each in lower), None)
        if role not in roles and found is not None:
            roles[role] = found
            taken.add(found)
    if "metric" not in roles:
        guess = likeliest_metric([each for each in (list(numeric) or present) if each not in taken])
        if guess is not None:
            roles["metric"] = guess
    return Columns(roles, mapping.get("direction", ""), mapping.get("unit", ""))


def flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with objects one level down laid out as `outer.inner`; at most MAX_COLUMNS keys."""
    found: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            found.update((f"{key}.{inner}", each) for inner, each in value.items())
        else:
            found[str(key)] = value
        if len(found) >= MAX_COLUMNS:
            break
    return dict(list(found.items())[:MAX_COLUMNS])


def run_of(reading: Reading, line: int, record: Mapping[str, Any], columns: Columns) -> Run | None:
    """Add the run that a flat record tells of to the latest segment; None when there are too many."""
    run = reading.run(line)
    if run is None:
        return None
    _fill(run, record, columns)
    used = set(columns.roles.values())
    for key, value in record.items():
        if key not in used:
            _keep(run, key, value)
    for key in ("steps", "seconds", "tokens"):
        if getattr(run, key) is None:
            _from_nested(run, key)
    stored, reason = columns.get(record, "metric"), columns.get(record, "reason")
    settle(run, stored if "metric" in columns.roles else None, reading.segments[-1].direction, text(reason))
    if "metric" not in columns.roles:
        run.detail = "no column was named as the metric: --map metric=COLUMN"
    return run


def _fill(run: Run, record: Mapping[str, Any], columns: Columns) -> None:
    run.seed, run.steps = whole(columns.get(record, "seed")), whole(columns.get(record, "steps"))
    run.tokens, run.seconds = finite(columns.get(record, "tokens")), finite(columns.get(record, "seconds"))
    run.memory_gb = finite(columns.get(record, "memory_gb"))
    run.t = seconds_of(columns.get(record, "time"))
    run.name = cut(text(columns.get(record, "name")) or text(columns.get(record, "run")))
    run.group = cut(text(columns.get(record, "group")))
    run.status = cut(text(columns.get(record, "status")), 100)
    run.description = text(columns.get(record, "description"))
    run.commit = commit_of(text(columns.get(record, "commit")))


def _keep(run: Run, key: str, value: Any) -> None:
    """A number goes to `further`, anything else to `params`, under its own name."""
    outer, _, inner = key.partition(".")
    if inner and outer.lower() in _NESTED_PARAMS:
        run.params[cut(inner)] = param(value)
        return
    shown = cut(inner if inner and outer.lower() in _NESTED_NUMBERS else key)
    number = None if isinstance(value, str) and len(value) > 100 else real(value)
    if number is not None and abs(number) < float("inf"):
        run.further[shown] = number
    elif value is not None and value != "":
        run.params[shown] = param(value)


def _from_nested(run: Run, role: str) -> None:
    """Steps, seconds or tokens that a nested object of numbers tells."""
    for alias in ALIASES[role]:
        if (found := run.further.get(alias)) is not None:
            value = whole(found) if role == "steps" else finite(found)
            setattr(run, role, value)
            return


def text(value: object) -> str:
    """What stands in a column of words, harmless; "" for nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return clean(str(value)[:MAX_TEXT]).strip()


def param(value: Any) -> Any:
    """A parameter as JSON can hold it, bounded."""
    if value is None or isinstance(value, bool | int):
        return value if not isinstance(value, int) or abs(value) < 2**63 else str(value)[:100]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    if isinstance(value, str):
        return text(value)
    return text(as_json(value))


def as_json(value: Any) -> str:
    """A value as the start of its JSON; what is nested too deeply is not followed."""
    try:
        return orjson.dumps(value)[:MAX_TEXT].decode("utf-8", "replace")
    except TypeError:  # orjson's errors are of this kind: too deep, or half of a surrogate pair
        return f"<{type(value).__name__} that no JSON holds>"


def commit_of(word: str) -> str:
    """A commit hash, or "" for a word that is none."""
    word = word.strip().lower()
    return word if 4 <= len(word) <= 64 and all(each in "0123456789abcdef" for each in word) else ""


def seconds_of(value: object) -> float | None:
    """A time in seconds since the epoch: from seconds, milli- or microseconds, or an ISO date (UTC unless it says)."""
    number = finite(value)
    if number is not None:
        for scale in (1.0, 1e3, 1e6, 1e9):
            if 1e8 < number / scale < 1e10:
                return number / scale
        return None
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        when = datetime.fromisoformat(value.strip())
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def explain(reading: Reading, columns: Columns, names: Sequence[str]) -> None:
    """Note how the columns were read, so that a wrong guess is seen."""
    told = ", ".join(f"{role}={cut(column, 60)}" for role, column in sorted(columns.roles.items()))
    reading.note(f"columns read as {told or 'nothing known'}; --map role=column says otherwise")
    if "metric" not in columns.roles:
        some = ", ".join(cut(each, 40) for each in list(names)[:20])
        reading.note(f"no column is known to be the metric: name one of {some} with --map metric=…")
