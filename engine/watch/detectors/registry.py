"""All detectors, which of them a lab's signals keep awake, and what would wake the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.watch.detectors.attention_logits import AttentionLogits
from engine.watch.detectors.base import AfterDetector, Detector, LiveDetector, Watch
from engine.watch.detectors.budget import StepBudget, TokenBudget
from engine.watch.detectors.compute_claim import ComputeClaim
from engine.watch.detectors.contended import Contended
from engine.watch.detectors.dead_units import DeadUnits
from engine.watch.detectors.divergence import Divergence
from engine.watch.detectors.evidence import Declared, Point, Seen
from engine.watch.detectors.explosion import Explosion
from engine.watch.detectors.finding import Finding
from engine.watch.detectors.frozen_parameters import FrozenParameters
from engine.watch.detectors.gradient_spike import GradientSpike
from engine.watch.detectors.held_text import HeldText
from engine.watch.detectors.large_gain import LargeGain
from engine.watch.detectors.lookahead import Lookahead
from engine.watch.detectors.loss_spike import LossSpike
from engine.watch.detectors.no_op import NoOp
from engine.watch.detectors.nonfinite import NonFinite
from engine.watch.detectors.not_learning import NotLearning
from engine.watch.detectors.one_source import OneSource
from engine.watch.detectors.rate_at_zero import RateAtZero
from engine.watch.detectors.repetition import Repetition
from engine.watch.detectors.seeds import UnwiredSeed, WrongSeed
from engine.watch.detectors.signals import Signal
from engine.watch.detectors.silenced import Silenced
from engine.watch.detectors.stale_gradients import AlikeGradients, StaleGradients
from engine.watch.detectors.stall import Stall
from engine.watch.detectors.tampered import ChangedFiles, ForgedReport
from engine.watch.detectors.throughput import Throughput
from engine.watch.detectors.unpaired import Unpaired
from engine.watch.detectors.wrong_target import WrongTarget

DETECTORS: tuple[Detector, ...] = (
    NonFinite(),
    Divergence(),
    LossSpike(),
    GradientSpike(),
    Stall(),
    Explosion(),
    RateAtZero(),
    NotLearning(),
    FrozenParameters(),
    StaleGradients(),
    AlikeGradients(),
    DeadUnits(),
    AttentionLogits(),
    Throughput(),
    Contended(),
    Repetition(),
    HeldText(),
    Lookahead(),
    LargeGain(),
    WrongTarget(),
    ForgedReport(),
    ChangedFiles(),
    NoOp(),
    UnwiredSeed(),
    WrongSeed(),
    StepBudget(),
    TokenBudget(),
    ComputeClaim(),
    OneSource(),
    Silenced(),
    Unpaired(),
)
"""Every detector with its own thresholds; live ones first. A new one is a file of its own and a line here."""


@dataclass(frozen=True, slots=True)
class Asleep:
    """A detector that cannot work, and the signals that would wake it."""

    detector: Detector
    missing: tuple[Signal, ...]


def active(signals: frozenset[Signal], detectors: Iterable[Detector] = DETECTORS) -> tuple[Detector, ...]:
    """Those that have what they need."""
    return tuple(each for each in detectors if each.needs <= signals)


def asleep(signals: frozenset[Signal], detectors: Iterable[Detector] = DETECTORS) -> tuple[Asleep, ...]:
    """The others, those that lack least first."""
    found = [Asleep(each, tuple(sorted(each.needs - signals))) for each in detectors if not each.needs <= signals]
    return tuple(sorted(found, key=lambda each: len(each.missing)))


def judge(seen: Seen, detectors: Iterable[Detector] = DETECTORS) -> list[Finding]:
    """What the detectors that look at whole runs find, in their order."""
    found: list[Finding] = []
    for each in active(seen.signals, detectors):
        if isinstance(each, AfterDetector):
            found += each.judge(seen)
    return found


class LiveWatch:
    """All live detectors over one run's stream. Each waits until it is given what it reads."""

    def __init__(self, declared: Declared, detectors: Iterable[Detector] = DETECTORS) -> None:
        self._watches: list[Watch] = [each.begin(declared) for each in detectors if isinstance(each, LiveDetector)]

    def feed(self, points: Sequence[Point]) -> list[Finding]:
        """What is new with these points, in the order in which it happened."""
        return [finding for point in points for watch in self._watches for finding in watch.update(point)]
