"""A researcher's run goes wrong in front of them: live detectors say what, at which step, and say nothing of healthy runs."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.watch.detectors.evidence import Declared, Names
from engine.watch.detectors.finding import Finding, Severity
from engine.watch.detectors.registry import LiveWatch
from engine.watch.detectors.signals import Signal
from engine.watch.parse import Point
from tests.detector_runs import STEPS, at, loss_at, stream, watched

NAN = float("nan")


def named(found: list[Finding], name: str) -> list[Finding]:
    return [each for each in found if each.detector == name]


class TestNonFinite:
    @pytest.mark.parametrize("metric", ["loss", "grad_norm", "update_ratio"])
    @pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
    def test_the_first_value_that_is_none_stops_the_run(self, metric, value):
        points = stream()
        points[89].values[metric] = value
        found = watched(points)
        assert [(each.detector, each.severity, each.place.first) for each in found] == [
            ("non-finite", Severity.STOP, 90)
        ]

    def test_it_is_said_once(self):
        assert len(named(watched(stream(spoil={"loss": lambda step, _: NAN})), "non-finite")) == 1

    def test_under_the_names_that_the_lab_uses(self):
        points = [Point(1, None, {"train/loss": NAN})]
        assert not watched(points)
        renamed = Declared(STEPS, Names({Signal.LOSS: "train/loss"}))
        assert named(LiveWatch(renamed).feed(points), "non-finite")


class TestDivergence:
    def test_a_loss_that_climbs_and_stays_is_stopped_before_the_end(self):
        climbing = stream(spoil={"loss": lambda step, value: value + max(0, step - 100) * 0.04})
        (found,) = named(watched(climbing), "divergence")
        assert found.severity is Severity.STOP
        assert found.place.first < 200
        assert found.evidence["now"] > found.evidence["early"] + 0.3

    def test_a_loss_far_above_guessing_is_stopped_right_after_warm_up(self):
        (found,) = named(watched(stream(spoil={"loss": lambda step, value: 9.0 if step > 20 else value})), "divergence")
        assert 30 < found.place.first < 40

    def test_before_warm_up_is_over_it_may_jump(self):
        assert not named(watched(stream(spoil={"loss": at(range(5, 25), lambda value: 9.0)})), "divergence")

    def test_a_short_bump_is_no_divergence(self):
        assert not named(watched(stream(spoil={"loss": at(range(150, 158), lambda value: value + 2)})), "divergence")

    def test_without_a_declared_length_it_stays_asleep(self):
        assert not named(watched(stream(spoil={"loss": lambda step, value: value + step})[:50], None), "divergence")


class TestLossSpike:
    def test_two_steps_of_random_labels_are_one_spike(self):
        (found,) = watched(stream(spoil={"loss": at((150, 151), lambda value: 5.5)}))
        assert (found.detector, found.severity, found.place.first) == ("loss-spike", Severity.NOTE, 150)

    def test_three_spikes_make_a_run_unstable(self):
        found = named(watched(stream(spoil={"loss": at((100, 150, 200), lambda value: 5.5)})), "loss-spike")
        assert [each.severity for each in found] == [Severity.NOTE, Severity.NOTE, Severity.WARNING]
        assert "unstable" in found[-1].sentence

    def test_endless_spikes_do_not_flood(self):
        found = named(watched(stream(spoil={"loss": at(range(40, 300, 5), lambda value: 9.0)})), "loss-spike")
        assert len(found) <= 4


class TestGradientSpike:
    def test_a_batch_that_weighs_three_hundred_times_as_much(self):
        (found,) = watched(stream(spoil={"grad_norm": at((150, 151, 152), lambda value: 300 * value)}))
        assert (found.detector, found.severity, found.place.first) == ("gradient-spike", Severity.WARNING, 150)

    def test_seven_times_is_not_enough(self):
        assert not watched([Point(n, None, {"grad_norm": 7.0 if n == 100 else 1.0}) for n in range(1, 200)])


class TestStall:
    def test_one_slow_step_is_noted_and_many_are_noted_once_more(self):
        one = watched(stream(spoil={"tokens_per_s": at((100,), lambda value: value / 10)}))
        assert [(each.detector, each.severity) for each in one] == [("stall", Severity.NOTE)]
        many = watched(stream(spoil={"tokens_per_s": at(range(100, 300, 20), lambda value: value / 10)}))
        assert [each.severity for each in many] == [Severity.NOTE, Severity.NOTE]
        assert "steps so far" in many[-1].sentence


class TestHealthyRuns:
    """What no live detector may mind."""

    @given(seed=st.integers(0, 10**6), noise=st.floats(0, 0.1))
    @settings(max_examples=25, deadline=None)
    def test_noise_of_a_small_batch(self, seed, noise):
        assert watched(stream(seed, noise)) == []

    @given(
        bottom=st.floats(0.5, 6),
        fall=st.floats(0, 6),
        pace=st.floats(0.005, 1),
        noise=st.floats(0, 0.08),
        seed=st.integers(0, 10**6),
    )
    @settings(max_examples=25, deadline=None)
    def test_falling_losses_of_any_shape(self, bottom, fall, pace, noise, seed):
        draw = random.Random(seed)
        losses = [bottom + fall * math.exp(-pace * step) + draw.uniform(-noise, noise) for step in range(STEPS)]
        assert watched([Point(step + 1, None, {"loss": loss}) for step, loss in enumerate(losses)]) == []

    @given(value=st.floats(-1e3, 1e3))
    @settings(max_examples=20, deadline=None)
    def test_a_metric_that_never_changes(self, value):
        names = ("loss", "grad_norm", "lr", "tokens_per_s")
        assert watched([Point(step, None, dict.fromkeys(names, value)) for step in range(1, 200)]) == []


class TestUntrustedStreams:
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 2**53),
                st.dictionaries(st.sampled_from(["loss", "grad_norm", "lr", "tokens_per_s"]), st.floats()),
            ),
            max_size=80,
        ),
        st.one_of(st.none(), st.integers(1, 10**6)),
    )
    @settings(max_examples=60, deadline=None)
    def test_nothing_that_a_run_writes_breaks_a_detector(self, written, steps):
        for found in watched([Point(step, None, values) for step, values in written], steps):
            assert found.sentence.isprintable()

    def test_memory_stays_bounded(self):
        watch = LiveWatch(Declared(10**6))
        draw = random.Random(0)

        def held() -> int:
            return sum(
                len(part)
                for each in watch._watches
                for part in vars(each).values()
                if hasattr(part, "__len__") and not isinstance(part, str)
            )

        sizes = []
        for piece in range(4):
            steps = range(100_000 + piece * 5000, 105_000 + piece * 5000)
            watch.feed([Point(step, None, {"loss": loss_at(step, draw.gauss(0, 0.1))}) for step in steps])
            sizes.append(held())
        assert sizes[-1] == sizes[0] <= 2000
