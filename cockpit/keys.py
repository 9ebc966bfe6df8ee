"""The one table of keys: bindings, the help and palette, and the documentation are made from it.

A broken escape sequence can leave its last byte behind as if that key had been pressed, and a stalled line makes people
press twice. So nothing that changes the lab lies on a key from UNSAFE or on a capital letter, and everything that does
asks once more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from textual.binding import Binding, BindingType

UNSAFE = frozenset("ABCDFHIMOPQRSZcmntuy;~") | frozenset("0123456789") | {"left_square_bracket", "right_square_bracket"}
"""Keys that a split arrow, function key, focus report, mouse report or terminal answer can leave behind."""

GUARD_S = 0.3
"""Deciding keys are inert this long after what they would decide about changed, and after a lone escape."""


@dataclass(frozen=True, slots=True)
class Key:
    """One action: `keys` as Textual names them, where it works, and what it does.

    `changes`: it changes the lab (never only the view); then `confirm` says that it opens a strip first.
    """

    action: str
    keys: tuple[str, ...]
    title: str
    does: str
    scope: str
    changes: bool = False
    confirm: bool = False


SCOPES = {
    "all": "Everywhere",
    "runs": "Runs",
    "review": "Review",
    "sql": "SQL",
    "editor": "SQL, while writing",
    "prompt": "In a question at the bottom",
}

SCREENS = ("runs", "review", "sql")
"""Scopes in which the keys of `all` work too. In `editor` every letter is text, so it has keys of its own."""

TABLE: tuple[Key, ...] = (
    Key("down", ("j", "down"), "down", "move down", "all"),
    Key("up", ("k", "up"), "up", "move up", "all"),
    Key("half_down", ("ctrl+d", "pagedown"), "half a page down", "scroll the diff or the list by half a page", "all"),
    Key("half_up", ("ctrl+u", "pageup"), "half a page up", "scroll back by half a page", "all"),
    Key("top", ("g", "home"), "top", "go to the first line", "all"),
    Key("bottom", ("G", "end"), "bottom", "go to the last line", "all"),
    Key("next_pane", ("tab",), "next pane", "move to the next pane", "all"),
    Key("previous_pane", ("shift+tab",), "previous pane", "move to the pane before", "all"),
    Key("back", ("escape", "q", "backspace"), "back", "go back one layer; never leaves the cockpit", "all"),
    Key("runs", ("1",), "Runs", "table of experiments, their curves and logs", "all"),
    Key("review", ("2",), "Review", "read and decide the proposals", "all"),
    Key("sql", ("3",), "SQL", "ask the history: ranked questions, or SQL of your own", "all"),
    Key("filter", ("slash",), "filter", "show only what matches; esc clears it", "all"),
    Key("copy", ("y",), "copy", "copy the id, the branch, the diff or the cell", "all"),
    Key("theme", ("t",), "theme", "next colour theme", "all"),
    Key("repaint", ("ctrl+l",), "repaint", "paint the whole screen again", "all"),
    Key("help", ("question_mark", "f1"), "help", "all keys; type to filter them, enter does the first one", "all"),
    Key("palette", ("ctrl+p",), "palette", "find any of these actions by name", "all"),
    Key("leave", ("ctrl+q",), "leave", "leave the cockpit; runs keep going", "all"),
    Key("open", ("enter",), "open", "an experiment's evidence, seed by seed, and its shards; open a shard", "runs"),
    Key("expand", ("l", "right"), "unfold", "show the experiment's shards", "runs"),
    Key("fold", ("h", "left"), "fold", "hide the experiment's shards", "runs"),
    Key("zoom", ("plus",), "details", "the selected run on the whole screen, and back", "runs"),
    Key(
        "mark",
        ("space",),
        "mark",
        "draw this experiment's curve with the others; on the shortlist, s signs all that are marked",
        "runs",
    ),
    Key("sort", ("o",), "sort", "order by newest, effect or id", "runs"),
    Key("shortlist", ("v",), "shortlist", "only what is solid on the present trunk, best first, and back", "runs"),
    Key(
        "sign",
        ("s",),
        "sign",
        "sign the experiment off, or all that are marked together; says what that runs and restarts, enter signs",
        "runs",
        True,
        True,
    ),
    Key(
        "retune",
        ("r",),
        "retune",
        "compare both sides at their own best learning rate; says what that runs, enter starts it",
        "runs",
        True,
        True,
    ),
    Key(
        "pilot",
        ("p",),
        "pilot",
        "the cluster's allocation that shards run in: says what is asked for, or given back; enter does it",
        "runs",
        True,
        True,
    ),
    Key("smooth", ("c",), "smooth", "smooth the curves: off, light, strong", "runs"),
    Key("log_scale", ("e",), "log scale", "logarithmic loss axis, on and off", "runs"),
    Key("brief", ("b",), "brief", "what came of the last batch, beside the table, and back", "runs"),
    Key(
        "ask_brief",
        ("a",),
        "ask for a brief",
        "ask Claude for a brief; says what is left, enter asks",
        "runs",
        True,
        True,
    ),
    Key("findings", ("f",), "findings", "what detectors found in the selected run; enter shows the numbers", "runs"),
    Key(
        "acknowledge",
        ("i",),
        "acknowledge",
        "acknowledge the selected finding, and those like it; asks for a reason",
        "runs",
        True,
        True,
    ),
    Key("stop", ("x",), "stop", "stop the experiment or shard; asks for a reason", "runs", True, True),
    Key("next_hunk", ("right_square_bracket",), "next hunk", "go to the next changed place in the diff", "review"),
    Key("previous_hunk", ("left_square_bracket",), "previous hunk", "go to the changed place before", "review"),
    Key("next_proposal", ("J",), "next proposal", "read the next proposal", "review"),
    Key("previous_proposal", ("K",), "previous proposal", "read the proposal before", "review"),
    Key("read", ("enter",), "read", "move into the diff", "review"),
    Key(
        "approve", ("a",), "approve", "approve what is shown; says what would run, enter confirms", "review", True, True
    ),
    Key("decline", ("d",), "decline", "decline what is shown; asks for a reason", "review", True, True),
    Key("revise", ("r",), "revise", '"yes, but": asks for a note, and the proposer for another', "review", True, True),
    Key("edit", ("e",), "edit", "edit what is shown in $EDITOR, as its co-author", "review", True, True),
    Key("later", ("l",), "defer", "put what is shown to the end of the queue", "review", True, True),
    Key("undo", ("z",), "undo", "take back a decline, or an approval that has not run yet", "review", True, True),
    Key("mark", ("space",), "mark", "mark what is shown, to be approved with others by one a", "review"),
    Key("propose", ("p",), "propose", "ask for 3 more proposals; says who is asked, enter asks", "review", True, True),
    Key(
        "write", ("w",), "write", "write a proposal of your own in $EDITOR, on the trunk's files", "review", True, True
    ),
    Key("cancel", ("x",), "stop asking", "stop the asking that is going on", "review", True, True),
    Key("run", ("ctrl+r", "f5"), "run", "run what is in the editor; esc cancels it while it runs", "sql"),
    Key("open", ("enter",), "open", "ask the question; open the row's experiment or shard on Runs", "sql"),
    Key("edit", ("i",), "write", "write SQL in the editor", "sql"),
    Key("parameters", ("f",), "parameters", "fill in the parameters, and ask", "sql"),
    Key("left", ("h", "left"), "left", "the column before", "sql"),
    Key("right", ("l", "right"), "right", "the next column", "sql"),
    Key("first_column", ("H",), "first column", "the first column", "sql"),
    Key("last_column", ("L",), "last column", "the last column", "sql"),
    Key("sort", ("o",), "sort", "order by this column: one way, the other way, as it came", "sql"),
    Key("cell", ("v",), "whole cell", "the cell in full, and back", "sql"),
    Key("copy_row", ("Y",), "copy the row", "copy the row, tab-separated", "sql"),
    Key("copy_column", ("ctrl+y",), "copy the column", "copy the column, a value a line", "sql"),
    Key("plot", ("p",), "picture", "draw two columns: scatter, lines, steps or bars; esc shows the rows again", "sql"),
    Key("zoom", ("plus",), "large", "the result on the whole screen, and back", "sql"),
    Key("export", ("e",), "save the result", "save all rows as CSV, JSON, JSONL or Parquet; asks for a file", "sql"),
    Key(
        "save", ("w",), "keep the query", "keep the SQL as a question of the lab; asks for its name", "sql", True, True
    ),
    Key("run", ("ctrl+r", "f5"), "run", "run it; esc cancels it while it runs", "editor"),
    Key("complete", ("ctrl+@", "ctrl+n"), "suggest", "suggest what can stand here; esc closes", "editor"),
    Key("indent", ("tab",), "take", "take the suggestion, or make one; at the start of a line, indent", "editor"),
    Key("earlier", ("up",), "earlier query", "on the first line: the query that was run before", "editor"),
    Key("newer", ("down",), "newer query", "on the last line: the query that was run after it", "editor"),
)

PROMPT: tuple[tuple[str, str], ...] = (
    ("enter", "do it"),
    ("esc", "do not"),
    ("tab", "next stock reason"),
    ("ctrl+u", "empty the line"),
    ("ctrl+f", "of a signature: with a full-scale run after its merge, or without"),
)

_SHOWN = {
    "question_mark": "?", "slash": "/", "space": "space", "plus": "+", "left_square_bracket": "[",
    "right_square_bracket": "]", "escape": "esc", "pagedown": "pgdn", "pageup": "pgup", "backspace": "bksp",
    "ctrl+@": "ctrl+space",
}  # fmt: skip


def shown(key: str) -> str:
    """A key as people write it: `?`, `ctrl+d`, `]`."""
    return _SHOWN.get(key, key)


def bindings(*scopes: str) -> list[BindingType]:
    """Textual bindings of some scopes; each runs the screen's `do`, which knows when an action cannot be done."""
    return [
        Binding(",".join(key.keys), f"screen.do('{key.action}')", key.title, show=False, id=f"{key.scope}.{key.action}")
        for key in TABLE
        if key.scope in scopes
    ]


def of(scopes: Iterable[str]) -> list[Key]:
    """Rows of the table that work in any of these scopes, the more special scope first."""
    wanted = list(scopes)
    return [key for scope in wanted for key in TABLE if key.scope == scope]


def lint(table: Iterable[Key] = TABLE) -> list[str]:
    """Sentences about rows that break a rule of safety; empty when there are none."""
    problems: list[str] = []
    taken: dict[tuple[str, str], str] = {}
    for row in table:
        for key in row.keys:
            scopes = SCREENS if row.scope == "all" else (row.scope,)
            for scope in scopes:
                other = taken.setdefault((scope, key), row.action)
                if other != row.action:
                    problems.append(f"{shown(key)} means both {other} and {row.action} in {scope}")
            if row.changes and (key in UNSAFE or (len(key) == 1 and key.isupper())):
                problems.append(f"{row.action}: {shown(key)} can be left behind by a broken escape sequence")
        if row.changes and not row.confirm:
            problems.append(f"{row.action} changes the lab on a single key")
    return problems


def as_markdown(table: Iterable[Key] = TABLE) -> str:
    """The table as documentation."""
    out: list[str] = []
    for scope, title in SCOPES.items():
        rows = [row for row in table if row.scope == scope]
        if rows:
            out += [f"## {title}", "", "| key | does |", "|---|---|"]
            out += [f"| {' '.join(f'`{shown(key)}`' for key in row.keys)} | {row.does} |" for row in rows]
            out.append("")
    return "\n".join(out)


def page() -> str:
    """The page `docs/keys.md`."""
    about = (
        "Made from the one key table, `cockpit/keys.py`, which also feeds the help (`?`) and every screen's bindings.\n"
        "Nothing that starts or ends something happens on one key: a strip at the bottom says what will, and `enter` does it.\n"
    )
    return f"# Keys\n\n{about}\n{as_markdown().strip()}\n"


if __name__ == "__main__":
    print(page(), end="")
