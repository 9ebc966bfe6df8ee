"""A Python file as the audit's rules see it: calls by name, and what surrounds them. Pure; nothing is imported or run."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Function = ast.FunctionDef | ast.AsyncFunctionDef
Loop = ast.For | ast.AsyncFor | ast.While
Scope = Function | ast.Module


@dataclass(frozen=True, slots=True)
class Code:
    """One file that parses: its path in the lab and its tree."""

    path: str
    tree: ast.Module

    def functions(self) -> Iterator[Function]:
        """Every function and method, in the order of the text."""
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))

    def scopes(self) -> Iterator[Scope]:
        """Every function, and the module's own statements."""
        yield self.tree
        yield from self.functions()


def read(path: str, text: str) -> Code | None:
    """The file, or None where it is no Python that this interpreter can parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Code(path, ast.parse(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def name_of(node: ast.AST) -> str:
    """`torch.nn.functional.softmax` for such an attribute; for a call's result its method with a dot before it; else empty."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(node.id)
    elif parts:
        parts.append("")
    return ".".join(reversed(parts))


def last(node: ast.AST) -> str:
    """The last part of a call's name: `backward` of `loss.backward()`; empty for anything but a call."""
    return name_of(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""


def inside(scope: Scope) -> Iterator[ast.AST]:
    """The nodes of a scope in the order of the text, without those of functions and classes inside it."""
    waiting: list[ast.AST] = list(reversed(list(ast.iter_child_nodes(scope))))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Function | ast.ClassDef | ast.Lambda):
            waiting.extend(reversed(list(ast.iter_child_nodes(node))))


def calls(node: ast.AST, *names: str) -> list[ast.Call]:
    """The calls of these last names anywhere below a node, in the order of the text."""
    return _ordered(ast.walk(node), names)


def own_calls(scope: Scope, *names: str) -> list[ast.Call]:
    """`calls`, without those in functions and classes inside the scope."""
    return _ordered(inside(scope), names)


def _ordered(nodes: Iterable[ast.AST], names: tuple[str, ...]) -> list[ast.Call]:
    found = [node for node in nodes if isinstance(node, ast.Call) and last(node) in names]
    return sorted(found, key=lambda node: (node.lineno, node.col_offset))


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """The value of a keyword argument, or None."""
    return next((each.value for each in call.keywords if each.arg == name), None)


def assigned(scope: Scope) -> dict[str, ast.expr]:
    """The last value that each plain name is given in a scope."""
    found: dict[str, ast.expr] = {}
    for node in inside(scope):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
    return found


def names_in(node: ast.AST) -> set[str]:
    """Every bare name below a node."""
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
