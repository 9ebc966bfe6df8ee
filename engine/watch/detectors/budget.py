"""More training than was agreed: a longer run is a better one, whatever the idea is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Seen
from engine.watch.detectors.finding import Finding, Severity
from engine.watch.detectors.signals import Signal


@dataclass(frozen=True)
class StepBudget(AfterDetector):
    """The run reports other steps than were declared, for labs whose budget is a number of steps."""

    name: ClassVar = "step-budget"
    needs: ClassVar = frozenset({Signal.LOSS, Signal.BUDGET})

    share: float = 0.005  # by which the steps may differ

    def judge(self, seen: Seen) -> list[Finding]:
        steps, made = seen.steps or 0, seen.run.series[Signal.LOSS].last
        if abs(made - steps) <= self.share * steps:
            return []
        sentence = f"{made} steps were made where {steps} were declared"
        severity = Severity.NEVER if made > steps else Severity.WARNING
        return [self.found(severity, sentence, made=float(made), declared=float(steps))]


@dataclass(frozen=True)
class TokenBudget(AfterDetector):
    """The model was trained on other than the trunk's number of tokens, as counted beside the training loop."""

    name: ClassVar = "token-budget"
    needs: ClassVar = frozenset({Signal.TOKENS, Signal.TRUNK})

    share: float = 0.005  # by which the tokens may differ

    def judge(self, seen: Seen) -> list[Finding]:
        mine = seen.run.number(Signal.TOKENS)
        theirs = seen.trunk.number(Signal.TOKENS) if seen.trunk else None
        if mine is None or theirs is None or abs(mine - theirs) <= self.share * theirs:
            return []
        more = mine > theirs
        sentence = f"it was trained on {mine:,.0f} tokens, the trunk on {theirs:,.0f}: "
        sentence += "a gain may be the extra training's" if more else "it may be better than it looks"
        return [self.found(Severity.NEVER if more else Severity.WARNING, sentence, tokens=mine, trunk=theirs)]
