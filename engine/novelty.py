"""What a change *is*, whatever it looks like: a fingerprint that comments, formatting and names of numbers do not alter, and
a class, so that "was this tried before?" and "does this find anything but tuning?" can be asked. Pure.

Both are of the change, not of the program: the same change on a moved trunk has the same fingerprint as long as the lines
around it are the same, so that it can be shown with how it went before.
"""

from __future__ import annotations

import ast
import hashlib
import json
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from engine.textdiff import changed_spans
from engine.types import Change

Files = Mapping[str, bytes | None]
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


def fingerprint(before: Files, after: Files) -> str:
    """SHA-256 (hex) of a change in its normal form."""
    parts = []
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        left, right = _lines(path, old), _lines(path, new)
        spans = []
        for i, j, k, m in changed_spans(left, right):
            around = (left[i - 1] if i else "", left[j] if j < len(left) else "")
            spans.append([around[0], left[i:j], right[k:m], around[1]])
        parts.append([path, old is None, new is None, spans])
    return hashlib.sha256(json.dumps(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _lines(path: str, data: bytes | None) -> list[str]:
    """A file as lines that mean something: statements for Python, values for TOML and JSON, else lines that hold text."""
    if data is None:
        return []
    tree = _python(path, data)
    if tree is not None:
        return list(_statements(tree.body, ""))
    values = _values(path, data)
    if values is not None:
        return sorted(_flat(values, ""))
    text = data.decode("utf-8", "replace").lstrip("\ufeff")
    return [line.rstrip() for line in text.replace("\r\n", "\n").split("\n") if line.strip()]


def _python(path: str, data: bytes) -> ast.Module | None:
    if not path.endswith((".py", ".pyi", ".pyw")):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(data)
        for node in ast.walk(tree):
            _drop_docstring(node)
        return tree
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _drop_docstring(node: ast.AST) -> None:
    if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body[:1] = []


def _statements(body: list[Any], where: str) -> Iterator[str]:
    """One line a statement, with the headers that it is under; what is in its blocks follows it."""
    for node in body:
        blocks = {name: value for name in _BLOCKS if isinstance(value := getattr(node, name, None), list)}
        for name in blocks:
            setattr(node, name, [])
        head = f"{where}{ast.dump(node)}"
        for name, value in blocks.items():
            setattr(node, name, value)
        yield head
        for name, value in blocks.items():
            if value:
                scope = hashlib.sha256(_scope(node, head).encode()).hexdigest()[:12]
                yield from _statements(value, f"{scope}.{name}:")


def _scope(node: ast.AST, head: str) -> str:
    """What names a block: a definition by its name, so that its signature may change; anything else by its header."""
    return (
        f"{type(node).__name__} {name}"
        if (name := getattr(node, "name", None)) and not isinstance(node, ast.ExceptHandler)
        else head
    )


def _values(path: str, data: bytes) -> Any | None:
    try:
        if path.endswith(".toml"):
            return tomllib.loads(data.decode("utf-8-sig"))
        if path.endswith(".json"):
            return json.loads(data)
    except (ValueError, RecursionError):
        return None
    return None


def _flat(value: Any, at: str) -> Iterator[str]:
    """Every value with its path; an empty table or list is one too."""
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _flat(each, f"{at}/{json.dumps(key)}")
    elif isinstance(value, list) and value:
        for n, each in enumerate(value):
            yield from _flat(each, f"{at}/{n:06d}")
    else:
        yield f"{at} {type(value).__name__} {value!r}"


# --- the class ---------------------------------------------------------------------------------------------------------


def change_class(before: Files, after: Files) -> Change:
    """Constant-only, local or structural: the highest that any of the files calls for."""
    order = list(Change)
    found = [_file_class(path, before.get(path), after.get(path)) for path in {*before, *after}]
    return max(found, key=order.index, default=Change.CONSTANTS)


def _file_class(path: str, old: bytes | None, new: bytes | None) -> Change:
    if old == new:
        return Change.CONSTANTS
    if old is None or new is None:
        return Change.STRUCTURAL
    left, right = _python(path, old), _python(path, new)
    if left is not None and right is not None:
        if _blank(left) == _blank(right):
            return Change.CONSTANTS
        return Change.LOCAL if _shape(left) == _shape(right) and _touched(left, right) <= 1 else Change.STRUCTURAL
    first, second = _values(path, old), _values(path, new)
    if isinstance(first, dict) and isinstance(second, dict):
        return Change.CONSTANTS if _keys(first) == _keys(second) else Change.LOCAL
    return Change.LOCAL


class _Blanked(ast.NodeTransformer):
    """Every literal the same, with or without a sign."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant(None)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        if isinstance(node.op, ast.USub | ast.UAdd) and isinstance(node.operand, ast.Constant):
            return ast.Constant(None)
        return self.generic_visit(node)


def _blank(tree: ast.Module) -> str:
    copied = ast.parse(ast.unparse(tree)) if tree.body else tree
    return ast.dump(_Blanked().visit(copied))


def _shape(tree: ast.Module) -> list[str]:
    """What only a structural change alters: definitions with their signatures, imports, loops and branches, in order."""
    out = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            out.append(f"def {node.name} {[arg.arg for arg in ast.walk(node.args) if isinstance(arg, ast.arg)]}")
        elif isinstance(node, ast.ClassDef):
            out.append(f"class {node.name} {[ast.dump(base) for base in node.bases]}")
        elif isinstance(node, ast.Import | ast.ImportFrom):
            out.append(ast.dump(node))
        elif isinstance(node, ast.For | ast.AsyncFor | ast.While | ast.If | ast.With | ast.Try):
            out.append(type(node).__name__)
    return sorted(out)


def _touched(old: ast.Module, new: ast.Module) -> int:
    """In how many functions (or outside of all of them) statements differ."""
    left, right = _bodies(old), _bodies(new)
    return sum(left.get(name) != right.get(name) for name in {*left, *right})


def _bodies(tree: ast.Module) -> dict[str, list[str]]:
    """Statements by the innermost definition that they are in."""
    found: dict[str, list[str]] = {}

    def walk(body: list[Any], where: str) -> None:
        for node in body:
            if isinstance(node, _DEFINITIONS):
                walk(getattr(node, "body", []), f"{where}.{node.name}" if not isinstance(node, ast.Lambda) else where)
            else:
                found.setdefault(where, []).append(ast.dump(node))

    walk(tree.body, "")
    return found


def _keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _keys(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_keys(each) for each in value]
    return None
