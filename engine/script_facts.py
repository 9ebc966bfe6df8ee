"""What a training script says about itself: its arguments, how it prints, where its seed and budget are. Pure, by AST.

Nothing of the script is run or imported. A script that does not parse has no facts but its text.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

SEED_FLAGS = ("seed", "random_seed", "rng_seed", "manual_seed", "global_seed")
BUDGET_FLAGS = (
    *("time_budget", "train_seconds", "max_seconds", "budget", "steps", "max_steps", "num_steps", "train_steps"),
    *("total_steps", "n_steps", "num_train_steps", "max_train_steps", "iters", "max_iters", "num_iters", "iterations"),
    *("num_iterations", "n_iters", "max_iterations", "total_iters", "epochs", "num_epochs", "max_epochs", "n_epochs"),
)
OUT_FLAGS = ("out", "out_dir", "output_dir", "run_dir", "save_dir", "checkpoint_dir", "ckpt_dir", "log_dir", "output")
METRICS_FLAGS = ("metrics", "metrics_file", "metrics_path", "metrics_out")
SEED_CALLS = frozenset({"manual_seed", "manual_seed_all", "seed_everything", "set_seed", "PRNGKey"})
_SAVES = re.compile(r"\b(torch\.save|save_file|save_pretrained|save_checkpoint|dcp\.save|mx\.savez?|save_weights)\s*\(")
_METRIC = re.compile(
    r"(?:val|valid|validation|eval|test|heldout)[_ /-]?(?:loss|bpb|bpc|ppl|perplexity|nll|acc|accuracy)"
)
_HELD_OUT = re.compile(r"(?<![a-z])(val|valid|validation|eval|test|split|heldout)(?![a-z])")
_STEPS = frozenset({"step", "iter", "iteration", "it", "steps", "update"})


@dataclass(frozen=True, slots=True)
class Flag:
    """A command-line argument: how it is written, its default where that is a constant, whether it must be given."""

    written: str  # "--max-steps"
    name: str  # "max_steps"
    default: object = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """A constant in the source that the environment could set: lines from 1, columns in characters."""

    line: int
    column: int
    end_line: int
    end_column: int
    source: str  # the expression as it is written
    name: str  # of the variable or the call
    value: int | float


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found in one script."""

    text: str
    parsed: bool
    flags: tuple[Flag, ...] = ()
    seeds: tuple[Site, ...] = ()
    budget: Site | None = None
    imports: tuple[str, ...] = ()  # modules by dotted name
    imported_names: tuple[tuple[str, str, int], ...] = ()  # (module, name, last line of the statement)
    env_names: tuple[str, ...] = ()
    prints: tuple[ast.JoinedStr, ...] = ()
    summary: bool = False  # prints a closing block after a line of three dashes
    saves: bool = False
    trains: bool = False

    def flag(self, names: tuple[str, ...]) -> Flag | None:
        """The first of `names` (in their order) that is an argument of the script."""
        by_name = {flag.name: flag for flag in self.flags}
        return next((by_name[name] for name in names if name in by_name), None)


def facts(text: str) -> Facts:
    """The facts of one script's text."""
    saves, trains = bool(_SAVES.search(text)), ".backward(" in text or "value_and_grad(" in text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in somebody else's strings are not our news
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Facts(text, parsed=False, saves=saves, trains=trains)
    nodes = list(ast.walk(tree))
    return Facts(
        text,
        parsed=True,
        flags=tuple(_flags(nodes)),
        seeds=tuple(_seeds(text, tree, nodes)),
        budget=_budget(text, tree),
        imports=tuple(dict.fromkeys(_imports(nodes))),
        imported_names=tuple(_imported_names(tree)),
        env_names=tuple(dict.fromkeys(_env_names(nodes))),
        prints=tuple(_printed(nodes)),
        summary=any(_prints_dashes(node) for node in nodes),
        saves=saves,
        trains=trains,
    )


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _flags(nodes: list[ast.AST]) -> Iterator[Flag]:
    for node in nodes:
        if not (isinstance(node, ast.Call) and _called(node) == "add_argument"):
            continue
        written = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        longest = max(written, key=len, default="")
        words = {word.arg: word.value for word in node.keywords if word.arg}
        default, required = words.get("default"), words.get("required")
        yield Flag(
            longest,
            longest.lstrip("-").replace("-", "_"),
            default.value if isinstance(default, ast.Constant) else None,
            (isinstance(required, ast.Constant) and required.value is True)
            or (bool(longest) and not longest.startswith("-") and "nargs" not in words),
        )


def _imports(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _imported_names(tree: ast.Module) -> Iterator[tuple[str, str, int]]:
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                if alias.asname in (None, alias.name):
                    yield node.module, alias.name, node.end_lineno or node.lineno


def _env_names(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        key: ast.expr | None = None
        if isinstance(node, ast.Call) and node.args and _called(node) in ("get", "getenv"):
            source = ast.unparse(node.func)
            key = node.args[0] if source.endswith(("environ.get", "getenv")) else None
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            key = node.slice if ast.unparse(node.value).endswith("environ") else None
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value


# --- constants that the environment could set


def _site(text: str, node: ast.expr, name: str) -> Site | None:
    value = _number(node)
    source = ast.get_source_segment(text, node)
    if value is None or source is None or node.end_lineno is None or node.end_col_offset is None:
        return None
    lines = text.split("\n")
    column = _characters(lines[node.lineno - 1], node.col_offset)
    end_column = _characters(lines[node.end_lineno - 1], node.end_col_offset)
    return Site(node.lineno, column, node.end_lineno, end_column, source, name, value)


def _characters(line: str, octets: int) -> int:
    return len(line.encode()[:octets].decode(errors="ignore"))


def _number(node: ast.expr) -> int | float | None:
    """The value of a number or of a product of numbers (`5 * 60`), else None."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value  # type: ignore[return-value]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        left, right = _number(node.left), _number(node.right)
        if left is not None and right is not None:
            return left * right
    return None


def _seeds(text: str, tree: ast.Module, nodes: list[ast.AST]) -> Iterator[Site]:
    variables: set[str] = set()
    lines = text.split("\n")
    for node in nodes:
        if not (isinstance(node, ast.Call) and node.args and _seeds_something(node)):
            continue
        if _HELD_OUT.search(lines[node.lineno - 1].split("#")[0].lower()):
            continue  # held-out data drawn with a fixed seed should stay fixed
        argument = node.args[0]
        parts = [argument.left, argument.right] if isinstance(argument, ast.BinOp) else [argument]
        for part in parts:
            if isinstance(part, ast.Constant) and type(part.value) is int:
                if found := _site(text, part, ast.unparse(node.func)):
                    yield found
            elif isinstance(part, ast.Name):
                variables.add(part.id)
    for target, value in _assignments(tree):
        if (target in variables or target.lower() in SEED_FLAGS) and type(_number(value)) is int:
            found = _site(text, value, target)
            if found:
                yield found


def _seeds_something(node: ast.Call) -> bool:
    name = _called(node)
    if name in SEED_CALLS:
        return True
    return name == "seed" and isinstance(node.func, ast.Attribute) and "random" in ast.unparse(node.func.value)


def _assignments(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Plain assignments of the module, of its classes (dataclass fields) and of its functions, the outer ones first."""
    bodies: list[list[ast.stmt]] = [tree.body]
    bodies += [node.body for node in tree.body if isinstance(node, ast.ClassDef)]
    bodies += [node.body for node in tree.body if isinstance(node, ast.FunctionDef)]
    bodies += [node.body for node in tree.body if isinstance(node, ast.If)]
    for body in bodies:
        for node in body:
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                yield node.targets[0].id, node.value
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
                yield node.target.id, node.value


def _budget(text: str, tree: ast.Module) -> Site | None:
    """The budget's constant, by the order of BUDGET_FLAGS; a name that is assigned twice is nobody's guess."""
    found: dict[str, list[Site | None]] = {}
    for name, value in _assignments(tree):
        if name.lower() in BUDGET_FLAGS:
            found.setdefault(name.lower(), []).append(_site(text, value, name))
    for key in BUDGET_FLAGS:
        sites = found.get(key, [])
        if len(sites) == 1 and sites[0] is not None and sites[0].value > 0:
            return sites[0]
    return None


# --- what it prints


def _printed(nodes: list[ast.AST]) -> Iterator[ast.JoinedStr]:
    for node in nodes:
        if isinstance(node, ast.Call) and _called(node) in ("print", "print0", "info", "log", "write"):
            yield from (arg for arg in node.args if isinstance(arg, ast.JoinedStr))


def _prints_dashes(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and _called(node) == "print"
        and bool(node.args)
        and isinstance(node.args[0], ast.Constant)
        and node.args[0].value == "---"
    )


def metric_name(found: Facts) -> str | None:
    """The held-out number that the script prints or logs, by the name it gives it, with `_` for spaces."""
    for joined in found.prints:
        text = "".join(str(part.value) for part in joined.values if isinstance(part, ast.Constant))
        if hit := _METRIC.search(text.lower()):
            return re.sub(r"[ /-]", "_", hit[0])
    hit = _METRIC.search(found.text.lower())
    return re.sub(r"[ /-]", "_", hit[0]) if hit else None


def print_pattern(found: Facts, metric: str) -> tuple[str, tuple[str, ...]] | None:
    """A regular expression with named groups for the line that prints `metric` with its step, and the groups' names."""
    for joined in found.prints:
        pattern, names = _pattern(joined)
        if "step" in names and metric in names:
            return pattern, names
    return None


def _pattern(joined: ast.JoinedStr) -> tuple[str, tuple[str, ...]]:
    pattern, names, before = "", [], ""
    for part in joined.values:
        if isinstance(part, ast.Constant):
            before = str(part.value)
            words = [re.escape(word) for word in re.split(r"\s+", before.strip("\r\n"))]
            pattern += r"\s+".join(words)
        elif isinstance(part, ast.FormattedValue):
            grouped = part.format_spec is not None and "," in ast.unparse(part.format_spec)
            name = "" if grouped else _label(before, part.value)
            number = r"[-+.,\w]+" if grouped else r"\d+" if name == "step" else r"[-+.\w]+"
            if name and name not in names:
                names.append(name)
                number = f"(?P<{name}>{number})"
            pattern = pattern.removesuffix(r"\s+") + r"\s*" + number  # numbers may be padded
            before = ""
    return pattern, tuple(names)


def _label(before: str, value: ast.expr) -> str:
    """The name of a printed value: the words before it, else the variable's own; empty when there is none."""
    words = re.search(r"([A-Za-z][A-Za-z0-9_ /-]*?)\s*[:=]?\s*$", before)
    text = words[1] if words else ast.unparse(value) if isinstance(value, ast.Name) else ""
    slug = re.sub(r"[^a-z0-9]+", "_", text.strip().lower()).strip("_")
    if slug.split("_")[-1] in _STEPS:
        return "step"
    return slug if re.fullmatch(r"[a-z][a-z0-9_]*", slug) else ""
