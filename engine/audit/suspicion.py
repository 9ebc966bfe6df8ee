"""What an audit says: a place in the code, what goes wrong there and how that would show, or fail to show."""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass

from engine.audit.code import Code
from engine.watch.detectors.finding import Severity


@dataclass(frozen=True, slots=True)
class Suspicion:
    """One silent bug that the code may have. `mechanism` says in a sentence how it harms, and why no error shows it."""

    rule: str
    path: str
    line: int
    severity: Severity
    sentence: str
    mechanism: str
    key: str

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"


def suspect(rule: str, code: Code, node: ast.AST, severity: Severity, sentence: str, mechanism: str) -> Suspicion:
    """A suspicion about a node. Its key stays the same while the code there does, wherever in the file it moves."""
    seen = f"{rule}\0{code.path}\0{ast.dump(node)}"
    key = hashlib.sha256(seen.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return Suspicion(rule, code.path, getattr(node, "lineno", 1), severity, sentence, mechanism, key)
