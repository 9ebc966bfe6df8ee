"""Writes docs/configuration.md from the models of the lab file, so that the page cannot fall behind the code.

python -m engine.lab_docs > docs/configuration.md
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.lab import ALWAYS_PROTECTED
from engine.lab_parse import PREPARE_NAMES, SCORE_NAMES, SHARD_NAMES, TEXT_NAMES
from engine.lab_schema import ConfigFile
from engine.shards.slurm.settings import shown
from engine.sizes import sized

_PLACEHOLDERS = {
    "seed": "the shard's seed",
    "budget": "the rung's budget",
    "rung": "the rung's name",
    "run_dir": "the shard's own directory, the only one it may write into",
    "resume": "a directory of the run: what is saved there, the next attempt starts with where this one is cut off",
    "metrics": "the file that metrics are appended to, as JSON lines",
    "python": "the lab's interpreter",
    "data": "what `[prepare]` made for shards",
    "rate_scale": "what the code multiplies its learning rate by: 1, and for `cockpit retune` one of `judge.retune.factors`",
    "held": "what `[prepare]` made for the referee alone: validation and audit data",
    "scores": "the file that a score command, or an evaluation, writes",
}
_HEAD = """\
# The lab file: cockpit.toml

`cockpit init` writes this file, `cockpit doctor` checks it. It lies at the top of the repository. Unknown keys are errors, and
every error names the key, the line and the fix:

    cockpit.toml:12: rungs.screen.budget: must be a whole number above 0; got "many". Fix: budget = 300

This page is generated: `python -m engine.lab_docs > docs/configuration.md`.

Durations are seconds as a number, or a string with units: `"250ms"`, `"90s"`, `"3m"`, `"1h30m"`, `"1d"`. Sizes are bytes as a
number, or a string with a unit: `"8 GiB"`, `"500 MB"`. Relative paths are taken from the lab, `~` is your home directory.
"""
_GLOBS = """\
## Which files a proposal may change

Globs are matched against paths relative to the lab, with `/` between directories. `*` and `?` stay within one directory, `**`
spans any number of them, `[ab]` is a set, `[!ab]` its opposite. A name without wildcards takes in everything below it.
Protected wins over editable. Whatever the file says, these are protected, in upper or lower case:
"""
_PLACEHOLDER_HEAD = """\
## Placeholders

In commands and in values of `lab.env`; `{{` and `}}` write braces. A rung's own keys are placeholders too, and every rung has
to set those that a command names.

| placeholder | stands for | in |
|---|---|---|
"""
_ISOLATION = """\
## What a shard gets of your environment

`PATH`, `LANG`, `HOME` (in a box: its own scratch directory), what `lab.env` sets and what `lab.env_pass` names. The keys of the
cockpit itself are refused there. A variable of `lab.env` whose placeholder does not exist for a command (`{seed}` in
`[prepare]`) is left out for that command.
"""


def rows() -> Iterator[tuple[str, str, str]]:
    """(dotted key, default as the page shows it, description) of every key."""
    for table, model, _ in _tables():
        for name, field in model.model_fields.items():
            yield f"{table}.{name}", _default(field, name), field.description or ""


def _tables() -> Iterator[tuple[str, type[BaseModel], FieldInfo]]:
    for name, field in ConfigFile.model_fields.items():
        model = _model(field.annotation)
        yield (f"{name}.NAME" if name in ("rungs", "evaluate") else name), model, field
        for inner, each in model.model_fields.items():
            if _is_table(each):
                yield f"{name}.{inner}", _model(each.annotation), each


def _is_table(field: FieldInfo) -> bool:
    """Whether a key of a table is a table itself, which has a section of its own."""
    parts = (field.annotation, *typing.get_args(field.annotation))
    return any(isinstance(each, type) and issubclass(each, BaseModel) for each in parts)


def _model(annotation: object) -> type[BaseModel]:
    """The model inside an annotation such as `Model | None` or `dict[str, Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for each in typing.get_args(annotation):
        if each is not types.NoneType and each is not str:
            return _model(each)
    raise TypeError(f"no model in {annotation!r}")


def _default(field: FieldInfo, name: str) -> str:
    if field.is_required():
        return "required"
    if field.default is None:
        return "left out"
    if name == "timeout":
        return f'`"{int(field.default // 60)}m"`'
    if name in ("walltime", "idle"):
        return f'`"{shown(field.default).replace(" ", "")}"`'
    if name in ("slots", "memory"):
        return '`"auto"`'
    if name in ("disk", "log"):
        return f'`"{sized(field.default).replace(".0", "")}"`'
    return f"`{json.dumps(field.default)}`"


def _type(field: FieldInfo) -> str:
    """The choices of a key that has some, as the end of its description."""
    choices = typing.get_args(field.annotation) if typing.get_origin(field.annotation) is typing.Literal else ()
    return f" ({', '.join(f'`{json.dumps(each)}`' for each in choices)})" if choices else ""


def page() -> str:
    """The whole page."""
    out = [_HEAD]
    for table, model, field in _tables():
        optional = "" if field.is_required() else " The table may be left out."
        out.append(f"## `[{table}]`\n\n{_sentence(field)}{optional}\n\n| key | default | meaning |\n|---|---|---|")
        out += [
            f"| `{name}` | {_default(each, name)} | {each.description}{_type(each)} |"
            for name, each in model.model_fields.items()
        ]
        if table == "smoke":
            out.append(
                "\nAny other key is a parameter, as in a rung; those that are left out are the first rung's. A smoke is never "
                "evidence\n(docs/launching.md)."
            )
        if table == "detectors":
            out.append(
                "\nAny other key is a detector's name, and its value a table of thresholds: `loss-spike = { rise = 0.1 }`."
            )
        if table == "evaluate.NAME":
            out.append(
                "\nEach runs after the score, in the slot and the box of a score command, and shows beside the verdict with an "
                "interval of its own\n(docs/statistics.md). Names are as those of rungs."
            )
        if table == "rungs.NAME":
            out.append(
                "\nAny other key is a parameter, a string or a number, that commands and `lab.env` may name in braces."
                "\nA name is made of lower-case letters, digits, `-` and `_`, e.g. `[rungs.screen]`."
            )
        out.append("")
    out.append(_GLOBS + ", ".join(f"`{glob}`" for glob in ALWAYS_PROTECTED) + ",")
    out.append("the state directory, and every script that `[prepare]`, `[score]` and `[evaluate.NAME]` name.\n")
    out.append(_PLACEHOLDER_HEAD + "\n".join(_placeholders()) + "\n")
    out.append(_ISOLATION)
    return "\n".join(out)


def _sentence(field: FieldInfo) -> str:
    text = field.description or ""
    return text[:1].upper() + text[1:] + "."


def _placeholders() -> Iterator[str]:
    places = (
        ("`lab.command`, `lab.env`", SHARD_NAMES),
        ("`prepare.command`", PREPARE_NAMES),
        ("`score.command`", SCORE_NAMES),
        ("`evaluate.NAME.command`", SCORE_NAMES),
        ("`score.text`", TEXT_NAMES),
    )
    for name, meaning in _PLACEHOLDERS.items():
        where = ", ".join(place for place, names in places if name in names)
        yield f"| `{{{name}}}` | {meaning} | {where} |"


if __name__ == "__main__":
    print(page(), end="")
