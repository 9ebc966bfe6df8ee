"""Cheap looks at a training run, for the cockpit's failure detectors. Protected: an experiment cannot edit what watches it.

`train.py` calls `before` and `after` around each step. Every tenth step is looked at, and nothing at all happens before the
second. What is written:

| metric | is |
|---|---|
| `update_ratio` | norm of the update of all parameters over their norm |
| `head_cosine` | cosine between the output matrix's gradients of this step and the one before |
| `dead_units` | share of MLP units that are shut at every fourth place of the batch |
| `attention_max` | largest attention logit of the batch's first window |
| `stale_gradient` | part of the output matrix's gradient that was there before the backward pass |
| `tokens_seen` | tokens trained on, from the second step (this and the following are in the summary) |
| `unmoved` | names of parameters that no look saw moving |
| `lookahead` | how far the logits of earlier places move when the last token is changed |
| `seed_used` | what torch's generator was seeded with |

`seen.jsonl` has hashes of the rows that were trained on, and of a fixed choice of their 32-byte passages.

The model is looked at from outside, by hooks, so that other architectures can be looked at too; what a model has not got is
not reported. No random number is drawn and no tensor of the training is changed: the loss is the same to the last bit.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EVERY = 10  # steps from one look to the next
SHUT = 0.01  # a unit is shut when what it lets through is less than this part of what goes into it
PASSAGE = 32  # tokens
FACTOR = 0x9E3779B97F4A7C15
KEPT_OF = 8  # one passage in so many is kept


class Probe:
    """Looks at the training of `model`; writes `seen.jsonl` into `out`."""

    def __init__(self, model: nn.Module, out: Path) -> None:
        self._model = model
        self._seen = out / "seen.jsonl"
        self._parameters = dict(model.named_parameters())
        self._still = set(self._parameters)
        matrices = [parameter for parameter in self._parameters.values() if parameter.ndim == 2]
        self._head = self._parameters.get("head.weight", matrices[-1] if matrices else None)
        self._gradients: list[Tensor] = []  # of the output matrix, as the optimizer sees them
        self._added: list[Tensor] = []  # to it, by each backward pass of this step
        self._start: list[Tensor] = []
        self._found: dict[str, Tensor] = {}
        self._tokens = 0
        self._rows: Tensor | None = None
        self._undo = contextlib.ExitStack()
        model.register_forward_pre_hook(self._count)

    def before(self, step: int) -> None:
        """To be called before the forward pass of `step`."""
        turn = step % EVERY
        if turn == EVERY - 1:
            self._gradients = []
        if turn in (EVERY - 1, 0) and self._head is not None:
            hook = self._head.register_post_accumulate_grad_hook(self._keep_gradient)
            self._undo.callback(hook.remove)
        if turn == 0:
            self._found, self._rows, self._added = {}, None, []
            if self._head is not None:
                self._undo.callback(self._head.register_hook(lambda gradient: self._added.append(gradient)).remove)
            self._start = [parameter.detach().clone() for parameter in self._parameters.values()]
            self._undo.enter_context(_attention_watched(self._raise_attention))
            self._undo.enter_context(_units_watched(self._model, self._add_units))

    @torch.no_grad()
    def after(self, step: int) -> dict[str, float]:
        """To be called after the update of `step`: what there is to report of it."""
        self._undo.close()
        if step % EVERY or not self._start:
            return {}
        now = [parameter.detach() for parameter in self._parameters.values()]
        moved = torch.stack(torch._foreach_norm(torch._foreach_sub(now, self._start)))
        size = torch.stack(torch._foreach_norm(self._start)).norm()
        report = {"update_ratio": (moved.norm() / size).item()}
        self._still -= {name for name, how_far in zip(self._parameters, moved.tolist(), strict=True) if how_far > 0}
        if len(self._gradients) >= 2:
            first, second = self._gradients[0].flatten(), self._gradients[-1].flatten()
            report["head_cosine"] = F.cosine_similarity(first, second, dim=0).item()
        if self._added and len(self._gradients) > len(self._added):
            whole = self._gradients[-len(self._added)]  # after the first backward pass of this step
            report["stale_gradient"] = ((whole - self._added[0]).norm() / whole.norm().clamp_min(1e-30)).item()
        self._added = []
        if "units" in self._found:
            report["dead_units"] = (self._found["shut"] / self._found["units"]).item()
        if "attention" in self._found:
            report["attention_max"] = self._found["attention"].item()
        self._start = []
        if self._rows is not None:
            self._write_rows(step, self._rows)
        return report

    def summary(self) -> dict[str, float | str]:
        """What there is to say at the end of the run."""
        facts: dict[str, float | str] = {"tokens_seen": self._tokens, "unmoved": _names(self._still)}
        facts["seed_used"] = str(torch.initial_seed())
        if self._rows is not None:
            facts["lookahead"] = lookahead(self._model, self._rows[:1])
        return facts

    def _count(self, model: nn.Module, given: tuple[Tensor, ...]) -> None:
        if model.training and torch.is_grad_enabled() and given:
            self._tokens += given[0].numel()
            if self._start and self._rows is None:
                self._rows = given[0].detach()

    def _keep_gradient(self, parameter: nn.Parameter) -> None:
        self._gradients.append(parameter.grad.clone())

    def _raise_attention(self, largest: Tensor) -> None:
        known = self._found.get("attention")
        self._found["attention"] = largest if known is None else torch.maximum(known, largest)

    def _add_units(self, shut: Tensor) -> None:
        self._found["shut"] = self._found.get("shut", torch.zeros(())) + shut.sum().cpu()
        self._found["units"] = self._found.get("units", torch.zeros(())) + shut.numel()

    def _write_rows(self, step: int, rows: Tensor) -> None:
        hashes = rolling(rows.cpu())
        places = torch.arange(1, 2 * hashes.shape[1], 2)  # odd, so that no hash loses bits
        line = {"step": step, "rows": (hashes * places).sum(1).tolist(), "passages": chosen(hashes)}
        with self._seen.open("a") as file:
            file.write(json.dumps(line) + "\n")


def rolling(rows: Tensor) -> Tensor:
    """Hash of every passage of each row, in arithmetic modulo 2**64: [rows, passages]. A shorter row is one passage."""
    length = min(PASSAGE, rows.shape[1])
    factors = [pow(FACTOR, power, 1 << 64) for power in reversed(range(length))]
    signed = torch.tensor([factor - (factor >> 63 << 64) for factor in factors])
    return ((rows.long() + 1).unfold(1, length, 1) * signed).sum(-1)


def chosen(hashes: Tensor) -> list[list[int]]:
    """Those of each row that are kept: it hangs on the hash alone, so that two texts keep the same of what they share."""
    return [[each for each in row if each >> 40 & KEPT_OF - 1 == 0] for row in hashes.tolist()]


@torch.no_grad()
def lookahead(model: nn.Module, rows: Tensor) -> float:
    """How far the logits of earlier places move when the last token becomes another one."""
    training = model.training
    model.eval()
    other = rows.clone()
    other[:, -1] = (rows[:, -1] == 0).to(rows.dtype)
    moved = (model(rows)[:, :-1] - model(other)[:, :-1]).abs().max().item()
    model.train(training)
    return moved


@contextlib.contextmanager
def _attention_watched(tell: Callable[[Tensor], None]) -> Iterator[None]:
    """Meanwhile, tell the largest logit of the first window of every attention that torch computes."""
    attend = F.scaled_dot_product_attention

    def watched(query: Tensor, key: Tensor, *others: object, **more: object) -> Tensor:
        with torch.no_grad(), contextlib.suppress(RuntimeError):  # shapes that only torch's own kernel knows
            scale = more.get("scale") or query.shape[-1] ** -0.5
            tell((query[:1].detach() @ key[:1].detach().transpose(-2, -1)).max() * scale)
        return attend(query, key, *others, **more)

    F.scaled_dot_product_attention = watched
    try:
        yield
    finally:
        F.scaled_dot_product_attention = attend


@contextlib.contextmanager
def _units_watched(model: nn.Module, tell: Callable[[Tensor], None]) -> Iterator[None]:
    """Meanwhile, tell which units of each pair of layers `up` and `down` are shut over a batch."""
    hooks = []
    into: dict[nn.Module, Tensor] = {}
    for block in model.modules():
        up, down = getattr(block, "up", None), getattr(block, "down", None)
        if not isinstance(up, nn.Linear) or not isinstance(down, nn.Linear) or up.out_features != down.in_features:
            continue

        def keep(_: nn.Module, __: object, out: Tensor, down: nn.Module = down) -> None:
            into[down] = _largest(out)

        def compare(down: nn.Module, given: tuple[Tensor, ...]) -> None:
            if down in into:
                tell(_largest(given[0]) <= SHUT * into.pop(down))

        hooks += [up.register_forward_hook(keep), down.register_forward_pre_hook(compare)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _largest(units: Tensor) -> Tensor:
    """Largest size of each unit over every fourth place of a batch."""
    return units.detach().flatten(0, -2)[::4].abs().amax(0)


def _names(names: set[str]) -> str:
    """Names, a blank between two, as many as a summary has room for."""
    return " ".join(sorted(names))[:480]
