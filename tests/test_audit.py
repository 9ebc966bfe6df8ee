"""An audit reads training code for silent bugs: each planted one is named, healthy code is left in peace."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.audit.rules import RULES, audit

NANOLM = Path(__file__).resolve().parent.parent / "sample_runs" / "nanolm"

HEALTHY = """
import torch
import torch.nn.functional as F
from torch import nn


class GPT(nn.Module):
    def forward(self, tokens):
        y = F.scaled_dot_product_attention(self.q(tokens), self.k(tokens), self.v(tokens), is_causal=True)
        return self.head(self.dropout(y))


def train(args, model, batches, optimizer, scheduler):
    torch.manual_seed(args.seed)
    model.dropout = nn.Dropout(0.1)
    total = 0.0
    for step in range(args.steps):
        for micro in range(args.accumulation):
            x, y = next(batches)
            logits = model(x)
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), y.view(-1)) / args.accumulation
            loss.backward()
            total += loss.item()
        if not torch.isfinite(loss):
            raise SystemExit(3)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 100 == 0:
            model.eval()
            with torch.no_grad():
                evaluate(model)
            model.train()
"""

PLANTS = {
    "gradients-never-cleared": ("        optimizer.zero_grad(set_to_none=True)\n", ""),
    "clipped-after-the-step": (
        "        nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n        optimizer.step()\n",
        "        optimizer.step()\n        nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n",
    ),
    "softmax-before-cross-entropy": ("logits = model(x)", "logits = F.softmax(model(x), dim=-1)"),
    "target-is-the-input": ("y.view(-1))", "x.view(-1))"),
    "attention-sees-the-future": (", is_causal=True", ""),
    "schedule-before-the-optimizer": (
        "        optimizer.step()\n        scheduler.step()\n",
        "        scheduler.step()\n        optimizer.step()\n",
    ),
    "graphs-kept": ("total += loss.item()", "total += loss"),
    "seed-is-fixed": ("torch.manual_seed(args.seed)", "torch.manual_seed(1337)"),
    "failures-swallowed": (
        "        optimizer.step()\n",
        "        try:\n            optimizer.step()\n        except RuntimeError:\n            continue\n",
    ),
    "nonfinite-hidden": ("            raise SystemExit(3)\n", "            continue\n"),
    "never-back-to-training": ("            model.train()\n", ""),
    "accumulated-without-a-mean": (" / args.accumulation\n", "\n"),
}


def rules_of(text: str, path: str = "train.py") -> set[str]:
    return {each.rule for each in audit({path: text})}


def test_healthy_code_is_left_in_peace() -> None:
    assert rules_of(HEALTHY) == set()


def test_the_sample_lab_is_left_in_peace() -> None:
    files = {path.name: path.read_text() for path in NANOLM.glob("*.py")}
    assert len(files) >= 4
    assert [each.place for each in audit(files)] == []


@pytest.mark.parametrize("rule", PLANTS)
def test_a_planted_bug_is_named_and_nothing_else(rule: str) -> None:
    old, new = PLANTS[rule]
    assert HEALTHY.count(old) == 1
    found = audit({"train.py": HEALTHY.replace(old, new)})
    assert [each.rule for each in found] == [rule]
    assert found[0].mechanism
    assert found[0].place.startswith("train.py:")


def test_every_rule_has_a_plant() -> None:
    assert len(PLANTS) == len(RULES)


def test_other_shapes_of_the_same_bugs() -> None:
    assert rules_of("x = loss.nan_to_num(0.0)") == {"nonfinite-hidden"}
    assert rules_of("loss = F.cross_entropy(torch.log_softmax(f(x), -1), y)") == {"softmax-before-cross-entropy"}
    by_hand = "loss.backward()\noptimizer.step()\nfor p in model.parameters():\n    p.grad = None\n"
    assert rules_of(by_hand) == set()


def test_the_same_code_is_the_same_suspicion_wherever_it_moves() -> None:
    old, new = PLANTS["seed-is-fixed"]
    bug = HEALTHY.replace(old, new)
    here, there = audit({"train.py": bug}), audit({"train.py": "\n\n# moved\n" + bug})
    assert [each.key for each in here] == [each.key for each in there]
    assert here[0].line != there[0].line
    assert audit({"other.py": bug})[0].key != here[0].key


def test_what_is_worst_comes_first() -> None:
    text = HEALTHY
    for rule in ("graphs-kept", "seed-is-fixed", "attention-sees-the-future"):
        text = text.replace(*PLANTS[rule])
    assert [each.rule for each in audit({"train.py": text})] == [
        "attention-sees-the-future",
        "seed-is-fixed",
        "graphs-kept",
    ]


def test_what_does_not_parse_is_passed_over() -> None:
    assert audit({"train.py": "def (", "notes.md": "torch.manual_seed(1)", "deep.py": "(" * 5000}) == []


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_no_mutation_of_code_makes_it_raise(seed: int) -> None:
    luck = random.Random(seed)
    lines = HEALTHY.splitlines()
    for _ in range(luck.randint(1, 6)):
        at = luck.randrange(len(lines))
        lines[at] = luck.choice(
            ["", lines[luck.randrange(len(lines))], lines[at].replace("(", ", *").replace("=", ":=")]
        )
    audit({"train.py": "\n".join(lines)})
