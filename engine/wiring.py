"""Drafts the proposal that lets the cockpit set a script's seed and budget, as text in the proposal format. Pure.

A hard-coded seed makes every "repeat" the same run, and a hard-coded budget makes every rung the same. The change is drafted by
the positions of the syntax tree, keeps the old values as defaults, and goes through review like any other diff.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from engine.script_facts import Facts, Site, facts

SEED_VARIABLE = "COCKPIT_SEED"
BUDGET_VARIABLE = "COCKPIT_BUDGET"
_MARKER = re.compile(r"^(<<<<<<<|=======|>>>>>>>)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Wiring:
    """A drafted proposal, or None with the sentence that says why there is none."""

    text: str | None
    seed: bool
    budget: bool
    note: str


@dataclass(frozen=True, slots=True)
class _Edit:
    """Lines `start` to `end` (from 0, end exclusive; equal for an insertion) become `new`, whose lines end in newlines."""

    start: int
    end: int
    new: str


def wire(path: str, text: str, *, seed: bool, budget: bool, budget_import: tuple[str, str] | None = None) -> Wiring:
    """The proposal that wires what is asked for in script `path`.

    `budget_import` is (module, name) of a budget that the script imports from a protected file; it is then overridden below the
    import.
    """
    found = facts(text)
    if not found.parsed or "\r" in text or _MARKER.search(text):
        return Wiring(
            None, False, False, f"{path} cannot be edited safely by machine (syntax, line ends or merge marks)"
        )
    seeds = found.seeds if seed else ()
    sites = [(site, SEED_VARIABLE) for site in seeds]
    override = _override_line(found, budget_import) if budget and budget_import else None
    if budget and not budget_import and found.budget:
        sites.append((found.budget, BUDGET_VARIABLE))
    has_budget = bool(budget and (override is not None or (not budget_import and found.budget)))
    if not sites and override is None:
        return Wiring(None, False, False, f"{path} has no constant that looks like a seed or a budget")
    edits = _replacements(text, sites)
    if override is not None and budget_import:
        name = budget_import[1]
        new = f'{name} = int(os.environ.get("{BUDGET_VARIABLE}", {name}))\n'
        edits.append(_Edit(override, override, new))
    edits += _import_os(text, min(edit.start for edit in edits))
    blocks = _blocks(text, edits)
    if blocks is None:
        return Wiring(None, False, False, f"{path} repeats itself so much that no edit would be unambiguous")
    return Wiring(
        _proposal(path, blocks, sites, budget_import if override is not None else None), bool(seeds), has_budget, ""
    )


def _override_line(found: Facts, budget_import: tuple[str, str]) -> int | None:
    """Index of the line below the statement that imports the budget, or None."""
    for module, name, last in found.imported_names:
        if (module, name) == budget_import:
            return last
    return None


def _replacements(text: str, sites: list[tuple[Site, str]]) -> list[_Edit]:
    """One edit for each run of lines that hold constants; several constants of one line are replaced together."""
    lines = text.split("\n")
    by_line: dict[tuple[int, int], list[tuple[Site, str]]] = {}
    for site, variable in sites:
        by_line.setdefault((site.line - 1, site.end_line), []).append((site, variable))
    edits = []
    for (start, end), group in by_line.items():
        unique = {(site.column, site.end_column): (site, variable) for site, variable in group}
        body = lines[start:end]
        for site, variable in sorted(unique.values(), key=lambda each: -each[0].column):
            tail = body[-1][site.end_column :]
            head = body[0][: site.column]
            body = f"{head}{_read(site, variable)}{tail}".split("\n")
        edits.append(_Edit(start, end, "".join(f"{line}\n" for line in body)))
    return edits


def _read(site: Site, variable: str) -> str:
    kind = "float" if isinstance(site.value, float) else "int"
    plain = re.fullmatch(r"[\d_]+", site.source) is not None
    default = f'"{site.source}"' if plain else site.source
    return f'{kind}(os.environ.get("{variable}", {default}))'


def _import_os(text: str, first_use: int) -> list[_Edit]:
    """The edit that imports os, or none when the module does so above its first use."""
    lines = text.split("\n")
    place = next((at for at, line in enumerate(lines) if not line.startswith("#")), 0)  # below a shebang
    imports = []
    for node in ast.parse(text).body:
        if node.lineno - 1 >= first_use:
            break
        future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        if isinstance(node, ast.Import) and any(alias.name == "os" and not alias.asname for alias in node.names):
            return []
        if isinstance(node, ast.Import | ast.ImportFrom) and not future:
            imports.append(node.lineno - 1)
        elif future or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            place = node.end_lineno or node.lineno
    place = imports[0] if imports else place
    return [_Edit(place, place, "import os\n")]


def _blocks(text: str, edits: list[_Edit]) -> list[tuple[str, str]] | None:
    """(search, replace) pairs: whole lines, each search found exactly once, none overlapping; None when that cannot be."""
    lines = text.split("\n")
    last = len(lines) - (1 if lines[-1] == "" else 0)
    ranges = [_unique(lines, edit, last) for edit in edits]
    if None in ranges:
        return None
    merged: list[tuple[int, int]] = []
    for start, end in sorted(each for each in ranges if each):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    out = []
    for start, end in merged:
        inside = sorted(
            (edit for edit in edits if start <= edit.start and edit.end <= end), key=lambda edit: (edit.start, edit.end)
        )
        replaced, at = "", start
        for edit in inside:
            replaced += "".join(f"{line}\n" for line in lines[at : edit.start]) + edit.new
            at = edit.end
        replaced += "".join(f"{line}\n" for line in lines[at:end])
        out.append(("".join(f"{line}\n" for line in lines[start:end]), replaced))
    return out


def _unique(lines: list[str], edit: _Edit, last: int) -> tuple[int, int] | None:
    """The smallest range of whole lines around an edit that occurs once and is not blank."""
    start, end = edit.start, max(edit.end, min(edit.start + 1, last))
    whole = "\n".join(lines)
    while True:
        search = "\n".join(lines[start:end])
        if search.strip() and whole.find(search) == whole.rfind(search):
            return start, end
        if start == 0 and end == last:
            return None
        start, end = max(0, start - 1), min(last, end + 1)


def _proposal(
    path: str, blocks: list[tuple[str, str]], sites: list[tuple[Site, str]], budget_import: tuple[str, str] | None
) -> str:
    seeds = [site for site, variable in sites if variable == SEED_VARIABLE]
    budgets = [site.name for site, variable in sites if variable == BUDGET_VARIABLE]
    budgets += [budget_import[1]] if budget_import else []
    what = " and ".join([*(["the seed"] if seeds else []), *(["the budget"] if budgets else [])])
    why = []
    if seeds:
        values = ", ".join(dict.fromkeys(str(site.value) for site in seeds))
        why.append(f"the seed is fixed at {values}, so that every repeat is the same run and no noise can be measured")
    if budgets:
        why.append(f"{budgets[0]} is fixed, so that every rung would train equally long")
    head = (
        f"hypothesis: Reading {what} from the environment lets runs be repeated and compared\n"
        "category: systems\n"
        f"mechanism: {'; '.join(why)}. The old values stay as the defaults.\n"
        "prediction: no effect on the metric beyond seed noise; it makes noise measurable\n"
    )
    body = "".join(
        f"\n{path}\n<<<<<<< SEARCH\n{search}=======\n{replaced}>>>>>>> REPLACE\n" for search, replaced in blocks
    )
    return head + body
