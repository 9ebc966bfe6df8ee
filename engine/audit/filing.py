"""What an audit suspects becomes findings on the trunk, each thing once, however often the code is audited."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from engine import events as e
from engine.audit.code import read
from engine.audit.rules import audit
from engine.audit.suspicion import Suspicion
from engine.core import Core
from engine.found import next_finding
from engine.repo import Repo
from engine.text import clean
from engine.watch.detectors.finding import Severity

MOST_BYTES = 512 * 1024  # of one file
MOST_FILES = 400
MOST_TEXT = 4 << 20  # bytes of all files
MOST_FINDINGS = 200  # of one audit: who has more than that reads none


@dataclass(frozen=True, slots=True)
class Sources:
    """The Python files of a commit that an audit reads, by path, and why others were left out."""

    files: Mapping[str, str]
    left_out: Mapping[str, str]


def sources(repo: Repo, commit: str, wanted: Iterable[str]) -> Sources:
    """The texts of these paths of a commit, out of git: the working tree may hold anything. Runs on git's thread."""
    entries, files, left_out, size = repo.entries(commit), dict[str, str](), dict[str, str](), 0
    for path in sorted(wanted):
        entry = entries.get(path)
        if entry is None or not path.endswith(".py"):
            continue
        if entry.size > MOST_BYTES:
            left_out[path] = f"it is larger than {MOST_BYTES // 1024} KiB"
        elif len(files) >= MOST_FILES or size + entry.size > MOST_TEXT:
            left_out[path] = f"an audit reads {MOST_FILES} files and {MOST_TEXT >> 20} MiB at most"
        elif (data := repo.read(commit, path)) is None:
            left_out[path] = "it is no regular file"
        else:
            files[path] = data.decode("utf-8", "replace").removeprefix("\ufeff")
            size += len(data)
    return Sources(files, left_out)


def suspicions(found: Sources) -> tuple[list[Suspicion], Sources]:
    """What the rules suspect in these files, the worst first, and the sources without what they could not read."""
    left_out, parsed = dict(found.left_out), dict[str, str]()
    suspected: list[Suspicion] = []
    for path, text in found.files.items():
        try:
            if read(path, text) is None:
                left_out[path] = "it does not parse as Python"
                continue
            suspected += audit({path: text})
        except RecursionError:
            left_out[path] = "it is nested too deeply"
            continue
        parsed[path] = text
    order = list(Severity)
    suspected.sort(key=lambda each: (-order.index(each.severity), each.path, each.line))
    return suspected, Sources(parsed, left_out)


def file_findings(core: Core, arm: str, suspected: Iterable[Suspicion]) -> list[dict[str, Any]]:
    """Write down what is new as findings about the trunk's arm. All that is suspected, each with its finding and whether it is
    `new`; what the ledger has already is not written again, also when the trunk has moved and that code has not."""
    told = []
    for each in list(suspected)[:MOST_FINDINGS]:
        known = core.state.suspected.get(each.key)
        name = known or next_finding(core.state)
        if known is None:
            core.record(
                e.FindingNoted(
                    name,
                    arm,
                    each.rule,
                    each.severity.value,
                    clean(each.sentence),
                    clean(each.place),
                    mechanism=clean(each.mechanism),
                    key=each.key,
                )
            )
        told.append({**_said(each), "id": name, "new": known is None, **_word(core, name)})
    return told


def _said(each: Suspicion) -> dict[str, Any]:
    return {
        "rule": each.rule,
        "severity": each.severity.value,
        "place": each.place,
        "path": each.path,
        "line": each.line,
        "sentence": each.sentence,
        "mechanism": each.mechanism,
    }


def _word(core: Core, finding: str) -> dict[str, Any]:
    row = core.state.findings[finding]
    return {"acknowledged": row["acknowledged"]} if "acknowledged" in row else {}
