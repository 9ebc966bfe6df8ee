"""Each side at its own best learning rate: which rate is best, and what is then left of a gain."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.judge.pairs import ShardFact
from engine.judge.retune import left, left_words, side, tuned_words
from engine.lab import LabError, parse
from engine.scales import scale_of, scaled, unscaled
from engine.setups import setup_for
from engine.types import Outcome, Retuned
from tests.test_campaign import TEXT

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
SCALED = TEXT.replace("CLIMB", '["screen"]').replace('"{budget}",', '"{budget}", "{rate_scale}",')
losses = st.floats(-100, 100, allow_nan=False)
brackets = st.dictionaries(
    st.sampled_from(FACTORS), st.one_of(st.none(), st.tuples(losses, losses)), min_size=1, max_size=5
)


def runs(bracket: dict[float, tuple[float, float] | None]) -> dict[float, dict[int, ShardFact]]:
    """Two tuning seeds a factor; None is one that diverged on the first, and never ran the second."""
    return {
        factor: {1000: ShardFact(Outcome.DIVERGED, None)}
        if found is None
        else {1000 + at: ShardFact(Outcome.FINISHED, loss) for at, loss in enumerate(found)}
        for factor, found in bracket.items()
    }


SEEDS = (1000, 1001)


# --- the best rate


@given(brackets)
def test_no_rate_of_the_bracket_is_better_than_the_best_and_one_that_fails_is_never_it(
    bracket: dict[float, tuple[float, float] | None],
) -> None:
    found = side(runs(bracket), SEEDS, "min")
    alive = {factor: mean for factor, mean in found.means.items() if mean is not None}
    assert set(alive) == {factor for factor, losses in bracket.items() if losses is not None}
    if not alive:
        assert found.best is None
        return
    assert found.best is not None
    assert alive[found.best] == min(alive.values())
    ties = [factor for factor, mean in alive.items() if mean == alive[found.best]]
    assert abs(math.log(found.best)) == min(abs(math.log(factor)) for factor in ties)


@given(brackets, st.randoms())
def test_the_best_rate_does_not_depend_on_the_order_of_the_bracket_and_follows_the_direction(
    bracket: dict[float, tuple[float, float] | None], luck: object
) -> None:
    items = list(runs(bracket).items())
    luck.shuffle(items)  # type: ignore[attr-defined]
    assert side(dict(items), SEEDS, "min") == side(runs(bracket), SEEDS, "min")
    turned = {factor: None if found is None else (-found[0], -found[1]) for factor, found in bracket.items()}
    assert side(runs(turned), SEEDS, "max").best == side(runs(bracket), SEEDS, "min").best


def test_of_equals_the_one_closest_to_the_rate_as_it_is_wins_and_then_the_smaller() -> None:
    same = (2.0, 2.0)
    assert side(runs({0.5: same, 1.0: same, 2.0: same}), SEEDS, "min").best == 1.0
    assert side(runs({0.5: same, 1.0: (2.1, 2.1), 2.0: same}), SEEDS, "min").best == 0.5


def test_a_best_at_the_edge_of_the_bracket_is_said_and_so_is_a_scale_that_changes_nothing() -> None:
    inside = side(runs({0.5: (2.0, 2.1), 1.0: (1.8, 1.9), 2.0: (2.0, 2.2)}), SEEDS, "min")
    edge = side(runs({0.5: (2.0, 2.1), 1.0: (1.8, 1.9), 2.0: (1.7, 1.8)}), SEEDS, "min")
    flat = side(runs({0.5: (2.0, 2.1), 1.0: (2.0, 2.1)}), SEEDS, "min")
    gone = side(runs({0.5: None, 1.0: None}), SEEDS, "min")
    assert (inside.at_edge, edge.at_edge, flat.flat, edge.flat) == (False, True, True, False)
    assert tuned_words(edge, inside) == (
        "the trunk is best at 2x, at the edge of the bracket: widen it; the experiment is best at 1x"
    )
    assert "the scale changes nothing in the experiment" in tuned_words(inside, flat)
    assert "the experiment fails at every rate of the bracket" in tuned_words(inside, gone)


def test_a_best_beyond_which_the_rate_diverges_is_not_at_the_edge() -> None:
    found = side(runs({0.5: (2.0, 2.1), 1.0: (1.8, 1.9), 2.0: None}), SEEDS, "min")
    assert (found.best, found.at_edge) == (1.0, False)


def test_a_bracket_that_has_not_run_says_so_and_chooses_nothing() -> None:
    half = {1.0: {1000: ShardFact(Outcome.FINISHED, 2.0)}}
    with pytest.raises(ValueError, match="1 of 2 tuning seeds at 1x"):
        side(half, SEEDS, "min")
    lost = {1.0: {1000: ShardFact(Outcome.FINISHED, 2.0), 1001: ShardFact(Outcome.LOST, None)}}
    with pytest.raises(ValueError, match="1 of 2 tuning seeds"):
        side(lost, SEEDS, "min")
    with pytest.raises(ValueError, match="nothing to choose from"):
        side({}, SEEDS, "min")


# --- what is left


@given(st.lists(losses, min_size=3, max_size=12), st.booleans())
def test_a_label_is_what_the_interval_says_and_the_interval_holds_the_mean(found: list[float], solid: bool) -> None:
    said = left(found, solid)
    assert said.lo <= said.mean <= said.hi
    assert said.n == len(found)
    better = said.lo > 0
    if solid:
        assert said.label is (Retuned.HOLDS if better else Retuned.EXPLAINED)
    else:
        assert said.label is (Retuned.HELD_BACK if better else Retuned.NO_BETTER)
    assert left(found[::-1], solid) == said
    assert left(found, solid, at_edge=True).label is (Retuned.OPEN if better else said.label)


@given(st.lists(losses, min_size=3, max_size=12), st.floats(0, 10))
def test_more_gain_on_every_seed_never_takes_a_gain_away(found: list[float], more: float) -> None:
    if left(found, True).label is Retuned.HOLDS and max(map(abs, found)) > 1e-6:
        assert left([each + more for each in found], True).mean >= left(found, True).mean


def test_the_interval_is_students_as_scipy_has_it() -> None:
    from scipy import stats

    found = [0.1, 0.12, 0.08, 0.11, 0.14, 0.09]
    lo, hi = stats.ttest_1samp(found, 0).confidence_interval(0.95)
    said = left(found, True)
    assert (said.lo, said.hi) == pytest.approx((lo, hi))


def test_pairs_that_hold_the_old_gain_as_well_as_none_are_said_to_be_too_few() -> None:
    wide = left([0.4, -0.3, 0.2], True)
    assert wide.label is Retuned.EXPLAINED
    assert "too few pairs to tell the two apart" in left_words(wide, "tuned", 0.2, "nats")
    tight = left([0.001, -0.001, 0.0, 0.001], True)
    said = left_words(tight, "the trunk is best at 4x", 0.2, "nats")
    assert said.startswith("explained by learning rate: +0.0003 nats [")
    assert said.endswith("on 4 pairs, where the verdict had +0.2000 (the trunk is best at 4x)")
    said = left_words(left([0.0, 0.0, 0.0], True), "tuned", None, "nats")
    assert said == "explained by learning rate: the very same on 3 pairs (tuned)"
    with pytest.raises(ValueError, match="2 pairs: 3 at the least"):
        left([0.1, 0.2], True)


# --- the lab file, and the rungs


def test_a_scaled_rung_is_one_of_its_own_that_no_lab_can_name() -> None:
    lab = parse(SCALED, Path("/nowhere"))
    assert (scaled("screen", 0.5), unscaled("screen@0.5"), scale_of("screen@0.5")) == ("screen@0.5", "screen", 0.5)
    assert scale_of("screen") is None
    assert lab.rung("screen@0.5").budget == lab.rung("screen").budget
    values = [lab.values(rung, 0, Path("/run")) for rung in ("screen", "screen@0.5", "screen@1")]
    assert [(each["rate_scale"], each["rung"]) for each in values] == [
        ("1", "screen"),
        ("0.5", "screen"),
        ("1", "screen"),
    ]
    setups = {setup_for("s", rung, lab) for rung in ("screen", "screen@0.5", "screen@1", "confirm@1")}
    assert len(setups) == 4
    with pytest.raises(LabError, match="is not a name for a rung"):
        parse(SCALED.replace("[rungs.confirm]", '[rungs."screen@2"]'), Path("/nowhere"))


def test_the_bracket_is_read_in_rising_order_with_its_defaults() -> None:
    bracket = parse(f"{SCALED}\n[judge.retune]\nfactors = [2, 1.0, 0.5]\n", Path("/nowhere")).judge.retune
    assert bracket is not None
    assert (bracket.factors, bracket.seeds, bracket.pairs, bracket.before_sign) == ((0.5, 1.0, 2.0), 2, 6, False)
    assert parse(SCALED, Path("/nowhere")).judge.retune is None


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("factors = [0.5, 2.0]", "judge.retune.factors: must hold 1.0, the rate as it is"),
        ("factors = [1.0]", "judge.retune.factors: must hold 1.0, the rate as it is, and at least one other"),
        ("factors = [1.0, -2.0]", "judge.retune.factors: must lie between 0.001 and 1000; got -2"),
        ("factors = [1.0, 1]", "judge.retune.factors: names a factor twice"),
        ("factors = [1.0, 1.2345678]", "judge.retune.factors: has more than six digits: 1.2345678. Fix: write 1.23457"),
        ("factors = [1.0, nan]", "judge.retune.factors: must lie between"),
        ('factors = "1"', "judge.retune.factors: must be a list"),
        ("pairs = 2", "judge.retune.pairs: must be a whole number at least 3; got 2. Fix: pairs = 6"),
        ("seeds = 0", "judge.retune.seeds: must be a whole number at least 1"),
        ("factor = [1.0]", 'judge.retune.factor: is not a key. Fix: did you mean "factors"?'),
    ],
)
def test_a_wrong_bracket_names_its_key_its_line_and_the_fix(more: str, said: str) -> None:
    text = f"{SCALED}\n[judge.retune]\n{more}\n"
    with pytest.raises(LabError) as error:
        parse(text, Path("/nowhere"))
    line = text[: text.index(more)].count("\n") + 1
    assert f"cockpit.toml:{line}: {said}" in str(error.value)


def test_a_bracket_without_a_command_that_takes_the_scale_says_how_to_wire_it() -> None:
    with pytest.raises(LabError) as error:
        parse(TEXT.replace("CLIMB", '["screen"]') + "\n[judge.retune]\n", Path("/nowhere"))
    assert "judge.retune: scales learning rates, and no command takes {rate_scale}" in str(error.value)
    assert '"--rate-scale", "{rate_scale}"' in str(error.value)
