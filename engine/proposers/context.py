"""The request that Claude gets, from what the lab knows. Pure: the same context gives the very same bytes.

Its order is the cache's: rules, then the parent's code, then history that is only ever added to, then what changes every time.
Everything that was not written by the researcher or by these rules is fenced as data, stripped, capped and redacted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.proposers.fence import fenced, stripped, tail
from engine.proposers.redact import redact
from engine.proposers.rules import RULES

CHUNK = 25  # lines of history in one block: whole blocks never change again, so that the cache finds them
MAX_CHUNKS = 16  # older history is left out by whole blocks
MAX_FILE = 400_000  # characters of one file
LOG_LINES, LOG_CHARS = 8, 1200
PLATEAU = 5  # experiments without a gain, after which another kind of idea is asked for


@dataclass(frozen=True, slots=True)
class Past:
    """One line of history, and the last lines of what a program printed where something failed."""

    line: str
    output: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """All that a model is told of a lab. `files` are by path; `secrets` are values to be taken out; `key` makes the fences."""

    lab: str
    metric: str
    program: str
    files: Mapping[str, str]
    protected: tuple[str, ...]
    config: str
    history: tuple[Past, ...]
    noise: tuple[str, ...]
    trying: tuple[str, ...]
    waiting: tuple[str, ...]
    budget: tuple[str, ...]
    without_gain: int
    wanted: int
    note: str = ""
    revises: str = ""  # the id of a proposal that is to be written anew as the note says
    revised: str = ""  # and what it was
    repairs: str = ""  # the id of an approved proposal that broke at its smoke, and is to be mended
    repaired: str = ""  # what it was
    broke: str = ""  # and what it printed last
    secrets: tuple[str, ...] = ()
    key: bytes = b""


def request(context: Context, model: str, effort: str, max_tokens: int) -> dict[str, Any]:
    """The body of the first request of a round, as `messages.stream` takes it."""
    return body_of(context, RULES, _now(context), model, effort, max_tokens, before=history_blocks(context))


def body_of(
    context: Context,
    rules: str,
    text: str,
    model: str,
    effort: str,
    max_tokens: int,
    *,
    before: Sequence[Mapping[str, Any]] = (),
    schema: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The body of a request in the order in which caches match: rules, code, the blocks `before`, and last what is new. An
    answer of a `schema` is JSON."""
    form = {} if schema is None else {"format": {"type": "json_schema", "schema": schema}}
    return {
        "model": model,
        "max_tokens": max_tokens,
        "system": [marked(rules, "1h"), marked(code_text(context), "5m")],
        "messages": [{"role": "user", "content": [*before, {"type": "text", "text": text}]}],
        "thinking": {"type": "adaptive", "display": "summarized"},
        "output_config": {"effort": effort, **form},
    }


def answered(before: Mapping[str, Any], content: Sequence[Mapping[str, Any]], then: str) -> dict[str, Any]:
    """The request that goes on with a conversation: what was answered, as it was, and what is said to that."""
    said = {"role": "assistant", "content": [_plain(block) for block in content]}
    return {**before, "messages": [*before["messages"], said, {"role": "user", "content": [marked(then, "5m")]}]}


_KEPT = {"text": ("text",), "thinking": ("thinking", "signature"), "redacted_thinking": ("data",)}


def _plain(block: Mapping[str, Any]) -> dict[str, Any]:
    """A block of an answer with only what may go back into a request; a mark of the cache is no part of it."""
    kind = str(block["type"])
    return {"type": kind, **{name: block[name] for name in _KEPT.get(kind, ()) if name in block}}


def marked(text: str, ttl: str) -> dict[str, Any]:
    """A block up to which the cache keeps the request, for `ttl`."""
    return {"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": ttl}}


def own_words(context: Context, text: str) -> str:
    """The researcher's words: no fence, but no secret and nothing invisible either."""
    return redact(stripped(text), context.secrets).strip()


def code_text(context: Context) -> str:
    """Standing orders, lab file and the editable files: it changes when the trunk moves."""
    parts = [
        f"# The lab: {own_words(context, context.lab)}",
        own_words(context, context.metric),
        "# Standing orders of the researcher",
        own_words(context, context.program) or "(none)",
        "# The lab file",
        fenced(context.config, 'file="cockpit.toml"', context.key, context.secrets, limit=MAX_FILE),
        "Protected, never to be changed: " + own_words(context, ", ".join(context.protected)),
        "# The files that may be changed, as they stand in the trunk",
    ]
    for path, text in sorted(context.files.items()):
        name = stripped(path).replace('"', "'").replace("\n", " ").replace(">", "")
        parts.append(fenced(text, f'file="{name}"', context.key, context.secrets, limit=MAX_FILE))
    return "\n\n".join(parts)


def history_blocks(context: Context) -> list[dict[str, Any]]:
    """Blocks of history, oldest first; the last one is marked for the cache, which looks back from there."""
    chunks = [context.history[at : at + CHUNK] for at in range(0, len(context.history), CHUNK)]
    left_out = max(0, len(chunks) - MAX_CHUNKS)
    blocks: list[dict[str, Any]] = []
    for number, chunk in enumerate(chunks[left_out:], left_out):
        head = (
            "# History, oldest first; an effect above 0 is better than the trunk, in the metric's unit\n"
            if not blocks
            else ""
        )
        missing = f"({left_out * CHUNK} older lines are left out)\n" if not blocks and left_out else ""
        blocks.append({"type": "text", "text": head + missing + "\n".join(_past(context, each) for each in chunk)})
        if number == len(chunks) - 1:
            blocks[-1]["cache_control"] = {"type": "ephemeral", "ttl": "5m"}
    return blocks


def _past(context: Context, past: Past) -> str:
    line = "- " + " ".join(redact(stripped(past.line), context.secrets).split())
    if not past.output.strip():
        return line
    said = tail(stripped(past.output), LOG_LINES, LOG_CHARS)
    return f"{line}\n{fenced(said, 'what it printed last', context.key, context.secrets)}"


def _now(context: Context) -> str:
    """What changes with every request."""
    parts = ["# Now"]
    for head, lines in (
        ("Measured noise", context.noise),
        ("Being tried now: do not propose these", context.trying),
        ("Waiting for the researcher: do not propose these", context.waiting),
        ("Budget", context.budget),
    ):
        shown = [f"- {' '.join(own_words(context, line).split())}" for line in lines] or ["- (nothing)"]
        parts.append("\n".join([f"{head}:", *shown]))
    if not context.history:
        parts.append("Nothing has been tried yet.")
    if context.without_gain >= PLATEAU:
        parts.append(
            f"The last {context.without_gain} experiments brought no solid gain. Do not tune further what is there: propose "
            "structural changes, of kinds that the history has not seen."
        )
    if context.repairs:
        return "\n\n".join([*parts, *_repair(context)])
    if context.revises:
        return "\n\n".join([*parts, *_revision(context)])
    if context.note.strip():
        parts.append(f"The researcher says: {own_words(context, context.note)}")
    n = context.wanted
    kinds = "each in a category of its own" if n > 1 else "in the category that you think most of"
    parts.append(f"# Request\nWrite {n} proposal{'s' if n != 1 else ''}, {kinds}. One idea each.")
    return "\n\n".join(parts)


def _repair(context: Context) -> list[str]:
    """The request to mend one proposal: what it was and what it printed are data."""
    was = fenced(context.repaired, f'proposal="{context.repairs}"', context.key, context.secrets, limit=MAX_FILE)
    said = tail(stripped(context.broke), 2 * LOG_LINES, 2 * LOG_CHARS)
    return [
        f"# To be repaired\nThe researcher approved {context.repairs}, which was:",
        was,
        "It failed in its smoke run, which is its first step, so nothing else of it was run. What it printed last:",
        fenced(said, "what it printed last", context.key, context.secrets),
        "# Request\nWrite one proposal that takes its place: the same idea with what failed mended and nothing else changed, "
        "whole, and against the files as they are given above. The researcher reads how it differs from what was approved.",
    ]


def _revision(context: Context) -> list[str]:
    """The request to write one proposal anew: it is quoted as data, since a model wrote it."""
    was = fenced(context.revised, f'proposal="{context.revises}"', context.key, context.secrets, limit=MAX_FILE)
    return [
        f"# To be revised\nThe researcher has read {context.revises}, which was:",
        was,
        f"The researcher says: yes, but {own_words(context, context.note)}",
        "# Request\nWrite one proposal that takes its place: the same idea, changed as the researcher says, whole, and against "
        "the files as they are given above.",
    ]
