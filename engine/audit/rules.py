"""The static rules of `cockpit audit`: shapes of training code that are wrong and raise no error.

Each takes one file and yields what it suspects. They know PyTorch's names and look at one file at a time, so that they miss
what is spread over several; a rule that spoke of healthy code would soon not be read, so each is narrow.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping

from engine.audit.code import (
    Code,
    Loop,
    assigned,
    calls,
    inside,
    keyword,
    last,
    name_of,
    names_in,
    own_calls,
    read,
)
from engine.audit.suspicion import Suspicion, suspect
from engine.watch.detectors.finding import Severity

Rule = Callable[[Code], Iterator[Suspicion]]

_SOFTMAX = ("softmax", "log_softmax", "softmin")


def gradients_never_cleared(code: Code) -> Iterator[Suspicion]:
    """`backward` and an optimizer's `step`, and nothing in the file that clears gradients."""
    if calls(code.tree, "zero_grad") or _clears_by_hand(code.tree):
        return
    for scope in code.scopes():
        backward = own_calls(scope, "backward")
        if backward and any(_steps(call, "opt") for call in own_calls(scope, "step")):
            yield suspect(
                "gradients-never-cleared", code, backward[0], Severity.WARNING,
                "gradients are never cleared between steps",
                "every step follows the sum of all gradients so far, like a huge momentum: it may even help a short run",
            )  # fmt: skip


def _clears_by_hand(tree: ast.AST) -> bool:
    """`p.grad = None`, or gradients that are returned rather than gathered (`torch.autograd.grad`)."""
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(each, ast.Attribute) and each.attr == "grad" for each in targets):
            return True
    return bool(calls(tree, "grad", "zero_", "value_and_grad"))


def clipped_after_the_step(code: Code) -> Iterator[Suspicion]:
    """Gradient clipping that follows the optimizer's step in the same body."""
    for body in _bodies(code.tree):
        stepped = False
        for statement in body:
            names = {last(node) for node in ast.walk(statement)}
            if names & {"backward", "zero_grad"}:
                stepped = False
            if stepped and names & {"clip_grad_norm_", "clip_grad_value_"}:
                yield suspect(
                    "clipped-after-the-step", code, statement, Severity.WARNING,
                    "gradients are clipped after the optimizer has used them",
                    "the clip changes nothing: one bad batch can throw the run, and a tuned clip value means nothing",
                )  # fmt: skip
            stepped = stepped or any(_steps(call, "opt") for call in calls(statement, "step"))


def _steps(node: ast.expr, what: str) -> bool:
    """Whether this calls `step` of something that is named like `what`: an optimizer, a scheduler."""
    return isinstance(node, ast.Call) and last(node) == "step" and what in name_of(node.func).lower()


def softmax_before_cross_entropy(code: Code) -> Iterator[Suspicion]:
    """Cross entropy of what has gone through a softmax already."""
    for scope in code.scopes():
        values = assigned(scope)
        for call in own_calls(scope, "cross_entropy"):
            given = call.args[0] if call.args else keyword(call, "input")
            if given is None:
                continue
            sources = [
                given,
                *(values[name] for name in names_in(given) if name in values and last(values[name]) in _SOFTMAX),
            ]
            if any(calls(each, *_SOFTMAX) for each in sources):
                yield suspect(
                    "softmax-before-cross-entropy", code, call, Severity.WARNING,
                    "cross entropy is taken of probabilities, and takes logits",
                    "the softmax is applied twice: the loss falls and stops high, as if the model were too small",
                )  # fmt: skip


def target_is_the_input(code: Code) -> Iterator[Suspicion]:
    """The model's own input, unshifted, as the target of its loss."""
    for scope in code.scopes():
        values = assigned(scope)
        for call in own_calls(scope, "cross_entropy"):
            if len(call.args) < 2:
                continue
            outputs = {name for name in names_in(call.args[0]) if isinstance(values.get(name), ast.Call)}
            fed = {
                argument.id
                for name in outputs
                for argument in _call(values[name]).args
                if isinstance(argument, ast.Name)
            }
            if _bare(call.args[1]) in fed:
                yield suspect(
                    "target-is-the-input", code, call, Severity.BARS,
                    "the target is the model's own input, not what comes after it",
                    "a causal model learns to copy: the loss falls to nothing, and says nothing of prediction",
                )  # fmt: skip


def _call(node: ast.expr) -> ast.Call:
    assert isinstance(node, ast.Call)
    return node


def _bare(node: ast.expr) -> str:
    """The name below reshaping: `x` of `x.view(-1)`; empty where it is sliced or computed."""
    while isinstance(node, ast.Call) and last(node) in ("view", "reshape", "flatten", "contiguous", "long", "to"):
        if not isinstance(node.func, ast.Attribute):
            return ""
        node = node.func.value
    return node.id if isinstance(node, ast.Name) else ""


def attention_sees_the_future(code: Code) -> Iterator[Suspicion]:
    """Attention of a model that predicts what comes next, without a mask."""
    text = ast.dump(code.tree).lower()
    if "gpt" not in text and "causal" not in text and "decoder" not in text:
        return
    for call in calls(code.tree, "scaled_dot_product_attention"):
        if len(call.args) < 4 and keyword(call, "attn_mask") is None and _absent(keyword(call, "is_causal")):
            if any(each.arg is None for each in call.keywords):
                continue  # **options may hold it
            yield suspect(
                "attention-sees-the-future", code, call, Severity.BARS,
                "attention has neither a mask nor is_causal",
                "each position sees the one it is to predict: training and validation loss are both far too good",
            )  # fmt: skip


def _absent(node: ast.expr | None) -> bool:
    return node is None or (isinstance(node, ast.Constant) and node.value is False)


def schedule_before_the_optimizer(code: Code) -> Iterator[Suspicion]:
    """A scheduler's step before the optimizer's in the same body."""
    for body in _bodies(code.tree):
        steps = [each for each in body if isinstance(each, ast.Expr) and last(each.value) == "step"]
        first = next((n for n, each in enumerate(steps) if _steps(each.value, "sched")), None)
        then = next(
            (n for n, each in enumerate(steps) if _steps(each.value, "opt") and not _steps(each.value, "sched")), None
        )
        if first is not None and then is not None and first < then:
            node = steps[first]
            yield suspect(
                "schedule-before-the-optimizer", code, node, Severity.NOTE,
                "the schedule moves before the optimizer has stepped",
                "the first value of the schedule is never used, and all of it comes one step early",
            )  # fmt: skip


def graphs_kept(code: Code) -> Iterator[Suspicion]:
    """A running sum of losses that still hold their graphs."""
    for scope in code.scopes():
        losses = {name_of(call.func).rpartition(".")[0] for call in own_calls(scope, "backward")}
        for node in inside(scope):
            if isinstance(node, ast.AugAssign) and isinstance(node.value, ast.Name) and node.value.id in losses:
                target = name_of(node.target)
                if target and target not in losses:
                    yield suspect(
                        "graphs-kept", code, node, Severity.NOTE,
                        f"{target} adds up losses with their graphs",
                        "memory grows with every step until the run dies of it, or swaps; .item() or .detach() ends that",
                    )  # fmt: skip


def seed_is_fixed(code: Code) -> Iterator[Suspicion]:
    """A seed that is a number in the code."""
    for call in calls(code.tree, "manual_seed", "manual_seed_all", "seed_everything", "set_seed"):
        if call.args and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, int):
            yield suspect(
                "seed-is-fixed", code, call, Severity.WARNING,
                f"the seed is always {call.args[0].value}",
                "all seeds are one run: the spread between them is that of the hardware, and any change looks solid",
            )  # fmt: skip


def failures_swallowed(code: Code) -> Iterator[Suspicion]:
    """A loop that trains and goes on after any exception."""
    for loop in (node for node in ast.walk(code.tree) if isinstance(node, Loop)):
        if not calls(loop, "backward"):
            continue
        for node in ast.walk(loop):
            if isinstance(node, ast.ExceptHandler) and _broad(node.type) and _does_nothing(node.body):
                yield suspect(
                    "failures-swallowed", code, node, Severity.WARNING,
                    "a failing step is passed over in silence",
                    "batches are left out, by a rule that nobody chose: those that fail are not a random sample",
                )  # fmt: skip


def _broad(node: ast.expr | None) -> bool:
    return node is None or name_of(node) in ("Exception", "BaseException", "RuntimeError")


def _does_nothing(body: Iterable[ast.stmt]) -> bool:
    return all(isinstance(each, ast.Pass | ast.Continue) for each in body)


def nonfinite_hidden(code: Code) -> Iterator[Suspicion]:
    """A non-finite loss that is mended or passed over."""
    for call in calls(code.tree, "nan_to_num", "nan_to_num_"):
        yield suspect(
            "nonfinite-hidden", code, call, Severity.WARNING,
            "what is not finite is replaced by a number",
            "a run that has come apart goes on as if nothing were, and its loss is made up",
        )  # fmt: skip
    for node in ast.walk(code.tree):
        if isinstance(node, ast.If) and calls(node.test, "isnan", "isinf", "isfinite") and _passes_over(node.body):
            yield suspect(
                "nonfinite-hidden", code, node, Severity.WARNING,
                "a step whose loss is not finite is passed over in silence",
                "the run looks healthy while some of its batches, or all from one step on, are never learnt from",
            )  # fmt: skip


def _passes_over(body: list[ast.stmt]) -> bool:
    return bool(body) and isinstance(body[-1], ast.Continue | ast.Pass)


def evaluation_trains_on(code: Code) -> Iterator[Suspicion]:
    """`eval()` without a `train()` anywhere: dropout and batch statistics stay off from the first evaluation."""
    used = calls(code.tree, "Dropout", "dropout", "BatchNorm1d", "BatchNorm2d", "SyncBatchNorm")
    switched = [call for call in calls(code.tree, "eval") if isinstance(call.func, ast.Attribute) and not call.args]
    if used and switched and calls(code.tree, "backward") and not calls(code.tree, "train"):
        yield suspect(
            "never-back-to-training", code, switched[0], Severity.WARNING,
            "the model is put into evaluation mode and never back",
            "after the first evaluation it trains without dropout: the schedule of evaluations changes the result",
        )  # fmt: skip


def accumulated_without_a_mean(code: Code) -> Iterator[Suspicion]:
    """Micro-batches whose losses are added up rather than averaged."""
    for loop in (node for node in ast.walk(code.tree) if isinstance(node, ast.For)):
        count = next((each for each in names_in(loop.iter) if "accum" in each.lower()), "")
        count = count or next((_attr(each) for each in ast.walk(loop.iter) if "accum" in _attr(each).lower()), "")
        if not count or not calls(loop, "backward"):
            continue
        divided = any(
            isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div | ast.Mult)
            for node in ast.walk(loop)
        )
        if not divided:
            yield suspect(
                "accumulated-without-a-mean", code, loop, Severity.WARNING,
                f"the losses of {count} micro-batches are added up and not averaged",
                "the gradient grows with their number, so that a change of it is a change of the learning rate as well",
            )  # fmt: skip


def _attr(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else ""


def _bodies(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    """Every list of statements, of functions, loops and branches."""
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            body = getattr(node, field, None)
            if isinstance(body, list) and body and isinstance(body[0], ast.stmt):
                yield body


RULES: tuple[Rule, ...] = (
    gradients_never_cleared,
    clipped_after_the_step,
    softmax_before_cross_entropy,
    target_is_the_input,
    attention_sees_the_future,
    schedule_before_the_optimizer,
    graphs_kept,
    seed_is_fixed,
    failures_swallowed,
    nonfinite_hidden,
    evaluation_trains_on,
    accumulated_without_a_mean,
)


def audit(files: Mapping[str, str]) -> list[Suspicion]:
    """What all rules suspect in these files (path to text), each thing once, the worst first, then by place."""
    found: dict[str, Suspicion] = {}
    for path, text in sorted(files.items()):
        code = read(path, text) if path.endswith(".py") else None
        for rule in RULES if code is not None else ():
            assert code is not None
            for each in rule(code):
                found.setdefault(each.key, each)
    order = list(Severity)
    return sorted(found.values(), key=lambda each: (-order.index(each.severity), each.path, each.line))
