"""The constants of a file that a sweep may turn, by their position, and other values for them. Pure.

Python is read by its syntax tree, TOML, JSON and YAML by their lines; the text around a value stays as it is, comments and all.
Seeds, budgets and what measures are left alone, as they are for everybody.
"""

from __future__ import annotations

import ast
import json
import math
import random
import re
import tomllib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_HANDS_OFF = re.compile(
    r"seed|random_state|(?:^|_)(?:steps?|iters?|iterations|epochs?|budget|timeout|time_limit|port|version|eval|val|log|print|save"
    r"|every|exit|causal|mask|strict|required|parents|exist_ok|warn_only|interval|device|rank|world|dim|axis|end|flush|indent)(?:_|$|\b)",
    re.I,
)
_TOML = re.compile(
    r"""^(\s*)((?:[\w-]+|"[^"]*")(?:\s*\.\s*[\w-]+)*)(\s*=\s*)([^\s#,\[\]{}]+|"[^"\\]*")(\s*(?:\#.*)?)$"""
)
_JSON = re.compile(
    r'"(?P<key>[^"\\]+)"(?P<mid>\s*:\s*)(?P<value>-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false)(?=\s*[,}\]\n])'
)
_YAML = re.compile(r"""^(\s*(?:- )?)([\w.-]+)(:\s+)([^\s#\[\]{}&*!|>'"%@`,]+)(\s*(?:\#.*)?)$""")
FACTORS = (0.25, 0.5, 0.7, 1.4, 2.0, 4.0)

Value = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Site:
    """One constant: where it lies (byte offsets), by what name, its value, and the other values where it is one of several."""

    path: str
    name: str
    start: int
    end: int
    value: Value
    choices: tuple[str, ...] = ()
    style: str = "python"  # how a value is written there: "python" | "toml" | "json" | "yaml"


def sites(path: str, data: bytes) -> tuple[Site, ...]:
    """The constants of a file that may be turned, in order; () for a file that does not read."""
    if path.endswith(".py"):
        return tuple(_python(path, data))
    style = path.rpartition(".")[2]
    pattern = {"toml": _TOML, "yaml": _YAML, "yml": _YAML}.get(style)
    if pattern is not None:
        found = _by_line(path, data, pattern, "yaml" if style == "yml" else style)
    elif style == "json":
        found = _json(path, data)
    else:
        return ()
    return tuple(each for each in found if _changes_one_value(each, data))


def turned(data: bytes, site: Site, value: Value) -> bytes:
    """The file with another value at that place, and nothing else changed."""
    return data[: site.start] + written(value, site.style, data[site.start : site.end]).encode() + data[site.end :]


def written(value: Value, style: str, before: bytes) -> str:
    """A value as the file's language writes it, in the manner of what stood there."""
    if isinstance(value, bool):
        return str(value) if style == "python" else str(value).lower()
    if isinstance(value, str):
        quote = "'" if before.lstrip()[:1] == b"'" else '"'
        return value if style == "yaml" else f"{quote}{value}{quote}"
    if isinstance(value, int):
        return str(value)
    text = f"{value:.6g}"
    plain = text if any(char in text for char in ".e") else text + ".0"
    return plain.replace("e-0", "e-").replace("e+0", "e") if style != "toml" or "e" in plain else plain


def others(site: Site, draw: random.Random) -> Value:
    """Another value for a constant, drawn at random."""
    if site.choices:
        return draw.choice([each for each in site.choices if each != site.value])
    if isinstance(site.value, bool):
        return not site.value
    if isinstance(site.value, str):
        return site.value
    return scaled(site.value, draw.choice(FACTORS), draw)


def scaled(value: int | float, factor: float, draw: random.Random) -> int | float:
    """A number changed by about `factor`: whole numbers stay whole, and shares close to 1 change by their distance from it."""
    if isinstance(value, int):
        if value == 0:
            return 1
        new = round(value * factor)
        return new if new != value else value + (1 if factor > 1 else -1 if abs(value) > 1 else 1)
    if value == 0.0:
        return draw.choice((0.01, 0.05, 0.1))
    if 0.8 <= value < 1.0:
        return float(f"{min(0.99999, max(0.0, 1.0 - (1.0 - value) * factor)):.6g}")
    return float(f"{value * factor:.3g}")


# --- Python ------------------------------------------------------------------------------------------------------------


def _python(path: str, data: bytes) -> Iterator[Site]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    if data.startswith(b"\xef\xbb\xbf") or b"\r" in data.replace(b"\r\n", b"") or b"\x0c" in data:
        return  # offsets would have to be counted in another way
    starts = [0]
    for line in data.split(b"\n"):
        starts.append(starts[-1] + len(line) + 1)
    families = _families(tree)
    for scope, name, node in _named(tree.body, ""):
        if _HANDS_OFF.search(name) or not isinstance(node, ast.Constant) or node.end_lineno is None:
            continue
        value = node.value
        choices = families.get(name, ()) if isinstance(value, str) else ()
        if isinstance(value, str) and (len(choices) < 2 or value not in choices):
            continue
        if isinstance(value, bool | int | float | str) and _is_sane(value):
            start, end = (
                starts[node.lineno - 1] + node.col_offset,
                starts[node.end_lineno - 1] + (node.end_col_offset or 0),
            )
            yield Site(path, f"{scope}{name}", start, end, value, choices)


def _is_sane(value: Value) -> bool:
    return not isinstance(value, int | float) or isinstance(value, bool) or (math.isfinite(value) and abs(value) < 1e12)


def _named(body: list[ast.stmt], scope: str) -> Iterator[tuple[str, str, ast.expr]]:
    """Values that have a name: assigned to one, default of a parameter, or passed by keyword."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{scope}{node.name}."
            if not isinstance(node, ast.ClassDef):
                args = [*node.args.posonlyargs, *node.args.args]
                for arg, default in zip(args[len(args) - len(node.args.defaults) :], node.args.defaults, strict=True):
                    yield inner, arg.arg, default
                for arg, kw_default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
                    if kw_default is not None:
                        yield inner, arg.arg, kw_default
            yield from _named(node.body, inner)
            continue
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            yield from _assigned(node.targets[0], node.value, scope)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            yield from _assigned(node.target, node.value, scope)
        for each in ast.walk(node):
            if isinstance(each, ast.Call):
                yield from (
                    (scope + _called(each), keyword.arg, keyword.value) for keyword in each.keywords if keyword.arg
                )


def _assigned(target: ast.expr, value: ast.expr, scope: str) -> Iterator[tuple[str, str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield scope, target.id, value
    elif isinstance(target, ast.Attribute):
        yield scope, target.attr, value


def _called(call: ast.Call) -> str:
    func = call.func
    name = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
    return f"{name}()." if name else ""


def _families(tree: ast.Module) -> dict[str, tuple[str, ...]]:
    """Names to the strings that the code compares them with, or that their annotation lists: the values that they may have."""
    found: dict[str, dict[str, None]] = {}

    def add(node: ast.expr, values: list[ast.expr]) -> None:
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None
        texts = [each.value for each in values if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        if name and texts and len(texts) == len(values):
            found.setdefault(name, {}).update(dict.fromkeys(texts))

    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            right = node.comparators[0]
            if isinstance(node.ops[0], ast.Eq | ast.NotEq):
                add(node.left, [right])
            elif isinstance(node.ops[0], ast.In) and isinstance(right, ast.Tuple | ast.List | ast.Set):
                add(node.left, right.elts)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.annotation, ast.Subscript):
            head, inner = node.annotation.value, node.annotation.slice
            if isinstance(head, ast.Name) and head.id == "Literal" and isinstance(inner, ast.Tuple):
                add(node.target, inner.elts)
    return {name: tuple(values) for name, values in found.items()}


# --- settings files ----------------------------------------------------------------------------------------------------


def _by_line(path: str, data: bytes, pattern: re.Pattern[str], style: str) -> list[Site]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return []
    out: list[Site] = []
    offset, scope, seen = 0, "", set[str]()
    for line in text.splitlines(keepends=True):
        bare = line.rstrip("\r\n")
        if style == "toml" and bare.lstrip().startswith("["):
            scope = bare.split("#")[0].strip().strip("[] ") + "."
        found = pattern.match(bare)
        value = _scalar(found[4], style) if found else None
        if found and value is not None and not _HANDS_OFF.search(found[2]):
            name = f"{scope}{found[2]}"
            while name in seen:
                name += "'"
            seen.add(name)
            start = offset + len(bare[: found.start(4)].encode())
            out.append(Site(path, name, start, start + len(found[4].encode()), value, (), style))
        offset += len(line.encode())
    return out


def _json(path: str, data: bytes) -> list[Site]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return []
    out: list[Site] = []
    for number, found in enumerate(_JSON.finditer(text)):
        value = _scalar(found["value"], "json")
        if value is not None and not _HANDS_OFF.search(found["key"]):
            start = len(text[: found.start("value")].encode())
            name = f"{found['key']}#{number}"
            out.append(Site(path, name, start, start + len(found["value"].encode()), value, (), "json"))
    return out


def _scalar(text: str, style: str) -> Value | None:
    if text in ("true", "false"):
        return text == "true"
    if style == "toml" and re.fullmatch(r"[+-]?0[xob].*|.*_.*|\d{4}-.*|.*:.*", text):
        return None
    if re.fullmatch(r"[-+]?(?:0|[1-9]\d{0,15})", text):
        return int(text)
    if re.fullmatch(r"[-+]?(?:\d+\.\d+(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+)", text):
        value = float(text)
        return value if _is_sane(value) else None
    return None


def _changes_one_value(site: Site, data: bytes) -> bool:
    """Whether turning it changes one value of the file and leaves its shape: a look-alike inside a string does not."""
    if site.style == "yaml":
        return not re.search(rb"[|>][-+]?\s*$", data, re.M)  # no block of text, in which anything may look like a value
    new = turned(data, site, others(site, random.Random(0)))
    before, after = _loaded(data, site.style), _loaded(new, site.style)
    return before is not None and after is not None and _differences(before, after) == 1


def _loaded(data: bytes, style: str) -> Any:
    try:
        return tomllib.loads(data.decode()) if style == "toml" else json.loads(data)
    except (ValueError, RecursionError):
        return None


def _differences(one: Any, two: Any) -> int:
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return sum(_differences(one[key], two[key]) for key in one)
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        return sum(_differences(*pair) for pair in zip(one, two, strict=True))
    is_scalar = not isinstance(one, dict | list | str) and not isinstance(two, dict | list | str)
    return 0 if one == two and type(one) is type(two) else 1 if is_scalar else 2
