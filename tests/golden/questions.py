"""What the shipped questions have to answer about `tests.history_recorded`, worked out on paper from its tables.

Each entry says how its figures come about; none was copied from an answer. `sigma` there is 0.02 and a run at `screen`
takes one minute, so that effects in sigma and minutes can be counted. What ran and what it cost is in `questions_work`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from math import sqrt
from typing import Any

from tests.history_recorded import ENVIRONMENT, SETUP
from tests.history_samples import T0


@dataclass(frozen=True)
class Answer:
    """`columns` in their order, `rows` in theirs; with what parameters it was asked."""

    columns: str
    rows: list[tuple[Any, ...]]
    given: Mapping[str, object] = field(default_factory=dict)


def utc(minute: float) -> datetime:
    return datetime.fromtimestamp(T0 + 60 * minute, UTC).replace(tzinfo=None)


ANSWERS: dict[str, Answer] = {}

# Proposals by category. Judged: those whose first arm has a verdict other than undecided (0010 and 0012 are open). 0004
# counts by its first arm, which was solid, not by its replay. Predictions are compared where an effect was measured
# too: not for 0006, 0015.
ANSWERS["gets_right"] = Answer(
    "category proposer proposals judged solid solid_share with_prediction predicted measured bias error "
    "right_direction",
    [
        ("data mix", "claude", 1, 1, 1, 1.0, 1, 0.025, 0.01, -0.015, 0.015, 1.0),  # 0005
        # p1 p6 p7 and the refused p17; predicted 0.02 and 0.01, measured 0.03 and 0.015
        ("architecture", "claude", 4, 3, 2, 2 / 3, 2, 0.015, 0.0225, 0.0075, 0.0075, 1.0),
        (
            "optimizer",
            "sweep",
            4,
            2,
            1,
            0.5,
            0,
            None,
            None,
            None,
            None,
            None,
        ),  # 0004 and 0013; a sweep foretells nothing
        ("initialisation", "claude", 2, 1, 0, 0.0, 0, None, None, None, None, None),
        ("optimizer", "claude", 2, 1, 0, 0.0, 1, 0.01, 0.004, -0.006, 0.006, 1.0),
        ("regularisation", "claude", 1, 1, 0, 0.0, 1, 0.01, 0.04, 0.03, 0.03, 1.0),  # barred is not solid
        ("schedule", "claude", 4, 1, 0, 0.0, 1, 0.03, -0.05, -0.08, 0.08, 0.0),
        ("schedule", "sweep", 1, 1, 0, 0.0, 0, None, None, None, None, None),
        ("systems", "claude", 1, 1, 0, 0.0, 0, None, None, None, None, None),
    ],
)

# The largest error first: 0.08, 0.03, 0.015, 0.01, 0.006, 0.005.
ANSWERS["predicted"] = Answer(
    "experiment hypothesis category proposer trunk rung verdict predicted measured lo hi error inside_interval",
    [
        (
            "0003",
            "idea 3",
            "schedule",
            "claude",
            "trunk-1",
            "screen",
            "harmful",
            0.03,
            -0.05,
            -0.07,
            -0.03,
            -0.08,
            False,
        ),
        (
            "0011",
            "idea 11",
            "regularisation",
            "claude",
            "trunk-3",
            "screen",
            "barred",
            0.01,
            0.04,
            0.03,
            0.05,
            0.03,
            False,
        ),
        (
            "0005",
            "idea 5",
            "data mix",
            "claude",
            "trunk-2",
            "screen",
            "solid",
            0.025,
            0.01,
            0.004,
            0.016,
            -0.015,
            False,
        ),
        ("0001", "idea 1", "architecture", "claude", "trunk-1", "screen", "solid", 0.02, 0.03, 0.02, 0.04, 0.01, True),
        (
            "0002",
            "idea 2",
            "optimizer",
            "claude",
            "trunk-1",
            "screen",
            "not-solid",
            0.01,
            0.004,
            -0.01,
            0.018,
            -0.006,
            True,
        ),
        (
            "0007",
            "idea 7",
            "architecture",
            "claude",
            "trunk-3",
            "screen",
            "solid",
            0.01,
            0.015,
            0.003,
            0.027,
            0.005,
            True,
        ),
    ],
)

# Gains less the experiment's own mean gain, by seed, where it has two pairs or more. On trunk-1: 0001 +.01 0 -.01, 0002
# +.002 0 -.002, 0003 +.01 -.01, 0004 0 -.002 +.002, 0008 none. On trunk-2 all pairs are alike. On trunk-3: 0007 0 +.005
# -.005, 0011 none, 0013 +.001 0 -.001. Each trunk's own runs lie -1, 0 and +1 deviations off their mean.
ANSWERS["lucky_seeds"] = Answer(
    "trunk rung seed experiments above_own_mean above_in_sigma share_above trunk_metric trunk_off_in_sd",
    [
        ("trunk-1", "screen", 0, 5, 0.022 / 5, 0.22, 0.6, 2.0, -1.0),
        ("trunk-1", "screen", 2, 4, -0.01 / 4, -0.125, 0.25, 2.04, 1.0),
        ("trunk-1", "screen", 1, 5, -0.012 / 5, -0.12, 0.0, 2.02, 0.0),
        ("trunk-3", "screen", 2, 3, -0.002, -0.1, 0.0, 2.0, 1.0),
        ("trunk-3", "screen", 1, 3, 0.005 / 3, 0.25 / 3, 1 / 3, 1.98, 0.0),
        ("trunk-3", "screen", 0, 3, 0.001 / 3, 0.05 / 3, 1 / 3, 1.96, -1.0),
        ("trunk-2", "screen", 0, 2, 0.0, 0.0, 0.0, 1.97, -1.0),
        ("trunk-2", "screen", 1, 2, 0.0, 0.0, 0.0, 1.99, 0.0),
        ("trunk-2", "screen", 2, 2, 0.0, 0.0, 0.0, 2.01, 1.0),
    ],
)

# Kept are 0001 and 0005 (merged) and 0007 (solid); 0001 stands 1.5 sigma off, and its fresh pairs above zero.
ANSWERS["inside_noise"] = Answer(
    "experiment hypothesis state trunk rung effect lo hi sigma in_sigma shrunk headline headline_lo headline_hi why",
    [
        ("0005", "idea 5", "merged", "trunk-2", "screen", 0.01, 0.004, 0.016, 0.02, 0.5, 0.009, None, None, None,
         "effect below 1 sigma"),
        ("0007", "idea 7", "judged", "trunk-3", "screen", 0.015, 0.003, 0.027, 0.02, 0.75, 0.011, None, None, None,
         "effect below 1 sigma"),
    ],
)  # fmt: skip

# 0001 claims its headline, 0005, signed without fresh pairs, its shrunk gain; the audit covers both and stands at the
# second.
ANSWERS["frontier"] = Answer(
    "merge at_utc experiment hypothesis trunk_before claimed_by claimed claimed_so_far audit audit_state "
    "audit_claimed audited "
    "audited_lo audited_hi audited_so_far",
    [
        (1, utc(99), "0001", "idea 1", "trunk-1", "headline", 0.024, 0.024, None, None, None, None, None, None, None),
        (
            2,
            utc(199),
            "0005",
            "idea 5",
            "trunk-2",
            "shrunk",
            0.009,
            0.033,
            "a0001",
            "held",
            0.033,
            0.022,
            0.005,
            0.039,
            0.022,
        ),
    ],
)

# Seeds lie 0.02 apart; no canary or fresh run is among them, nor trunk-2's third seed, which was run in another setup.
ANSWERS["trunk_lineage"] = Answer(
    "trunk since_utc commit merged hypothesis proposer signed_by rung seeds mean sd gain pairs",
    [
        ("trunk-1", utc(0), "c0c0c0c0c0", None, None, None, None, "screen", 3, 2.02, 0.02, None, None),
        (
            "trunk-2",
            utc(100),
            "m1m1m1m1m1",
            "0001",
            "idea 1",
            "claude",
            "ada",
            "screen",
            2,
            1.98,
            sqrt(0.0002),
            0.03,
            2,
        ),
        ("trunk-3", utc(200), "m2m2m2m2m2", "0005", "idea 5", "claude", "ada", "screen", 3, 1.98, 0.02, 0.01, 2),
    ],
)

# 0001: code 1.5 to 1.4, stories 2.5 to 2.55. 0005 gains on both.
ANSWERS["source_tradeoffs"] = Answer(
    "experiment hypothesis verdict rung seeds best_source best_gain worst_source worst_gain effect",
    [("0001", "idea 1", "solid", "screen", 3, "code", 0.1, "stories", -0.05, 0.03)],
)

# 0007 and 0008 ran on as controls; 0007 was solid after all, and stands for ten. 0004.r2, 0013 and 0009 were dropped; 0002
# ran to its last pair, as 0008 did.
ANSWERS["missed_gains"] = Answer(
    "category dropped controls gains gain_share gains_estimated experiments",
    [
        ("architecture", 0, 1, 1, 1.0, 10.0, ["0007"]),
        ("schedule", 0, 1, 0, 0.0, 0.0, None),
        ("optimizer", 2, 0, 0, None, None, None),
        ("systems", 1, 0, 0, None, None, None),
    ],
)

# 0013 is held back by its rate. 0012 (0.012 > 0.006, E 12 of 20) and 0002 (0.004 > 0.003, 8 of 20) are better by more
# than a standard error; 0010 is too, and still runs. p0002 was proposed twice more.
ANSWERS["reopen"] = Answer(
    "experiment hypothesis category proposer trunk rung verdict effect se in_sigma pairs evidence_of_bar retuned "
    "proposed_again branch",
    [
        ("0013", "idea 13", "optimizer", "sweep", "trunk-3", "screen", "not-solid", -0.005, 0.005, -0.25, 3, 0.02,
         "held back by learning rate", 0, "exp/0013-idea"),
        ("0012", "idea 12", "initialisation", "claude", "trunk-3", "screen", "undecided", 0.012, 0.006, 0.6, 1, 0.6,
         None, 0, "exp/0012-idea"),
        ("0002", "idea 2", "optimizer", "claude", "trunk-1", "screen", "not-solid", 0.004, 0.003, 0.2, 3, 0.4,
         None, 2, "exp/0002-idea"),
    ],
)  # fmt: skip

ANSWERS["retunes"] = Answer(
    "retune experiment hypothesis rung state label trunk_best best verdict effect mean lo hi pairs who ended_utc",
    [
        ("t0001", "0013", "idea 13", "screen", "ended", "held back by learning rate", 1.0, 2.0, "not-solid", -0.005, 0.02, 0.01,
         0.03, 3, "bob", utc(226)),
    ],
)  # fmt: skip

# 0.022 of the 0.033 that two merges claimed.
ANSWERS["audits"] = Answer(
    "audit state trunk_then trunk_now rung merges claimed within audited lo hi pairs share_held ended_utc sentence",
    [
        (
            "a0001",
            "held",
            "trunk-1",
            "trunk-3",
            "screen",
            2,
            0.033,
            0.015,
            0.022,
            0.005,
            0.039,
            0,
            2 / 3,
            utc(250),
            "it held",
        ),
    ],
)

# 0004 wins at equal tokens and loses at equal FLOPs and time.
ANSWERS["equal_compute"] = Answer(
    "experiment hypothesis verdict trunk rung judged_on effect tokens_ratio effect_tokens flops_ratio effect_flops "
    "time_ratio "
    "effect_time sign_depends",
    [
        ("0004", "idea 4", "solid", "trunk-1", "screen", "tokens", 0.012, 1.0, 0.012, 1.2, -0.003, 1.5, -0.01, True),
    ],
)

# 0.024 of 0.03 held on fresh pairs; of the bundle 0.018 of the promised 0.02.
ANSWERS["fresh_pairs"] = Answer(
    "experiment hypothesis state signoff trunk effect shrunk promised headline headline_lo headline_hi fresh_pairs "
    "share_held "
    "inside_interval",
    [
        ("0001", "idea 1", "merged", "confirmed", "trunk-1", 0.03, 0.025, None, 0.024, 0.01, 0.038, 2, 0.8, True),
        ("0014", "0007 and 0011 put together", "signed", "confirming", "trunk-3", None, None, 0.02, 0.018, 0.002, 0.034, 3, 0.9,
         True),
    ],
)  # fmt: skip

ANSWERS["replays"] = Answer(
    "before after hypothesis trunk_before trunk_after verdict_before verdict_after effect_before effect_after "
    "change state",
    [("0004", "0004.r2", "idea 4", "trunk-1", "trunk-2", "solid", "not-solid", 0.012, 0.002, -0.01, "judged")],
)

# Not solid are 0002, 0004.r2, 0008 and 0013 (three minutes, three pairs) and 0009 (a minute and a half, one pair).
ANSWERS["pairs_to_verdict"] = Answer(
    "rung verdict experiments least_pairs median_pairs most_pairs median_minutes median_evidence median_bar",
    [
        ("screen", "solid", 4, 3, 3.0, 3, 3.0, 23.5, 20.0),  # E 21, 22, 25, 40
        ("screen", "barred", 1, 3, 3.0, 3, 3.0, 60.0, 20.0),
        ("screen", "not-solid", 5, 1, 3.0, 3, 3.0, 0.4, 20.0),  # E 0.2, 0.3, 0.4, 1, 8
        ("screen", "harmful", 1, 2, 2.0, 2, 2.0, 0.1, 20.0),
        ("screen", "broken", 1, 1, 1.0, 1, 1.2, None, None),
        ("smoke", "broken", 1, 0, 0.0, 0, None, None, None),
    ],
)

# In order: 0001 0002 0003 0004 0008 0009 0015 0004.r2 0005 0006, then 0007 0011 0013. In sigma the first ten are -2.5
# -1.5 -.05 .1 .2 .5 .6 1.5 (0015 and 0006 broke), the last three .75 2 -.25.
ANSWERS["yield_over_time"] = Answer(
    "first judged solid solid_share broken_share median_in_sigma",
    [(1, 10, 3, 0.3, 0.2, 0.15), (11, 3, 1, 1 / 3, 0.0, 0.75)],
)

# Structural: 0001 (1.5 sigma), 0006 (broke), 0007 (.75), 5.5 + .5 + 3.5 minutes. Local: 0002 .2, 0005 .5, 0009 -1.5,
# 0015 (broke), 3 + 3 + 1.5 + 1.2 minutes and 1.5 of 0012. Constants, claude: 0003 -2.5, 0011 2, 2 + 3 minutes; sweep:
# 0004 .6, 0008 -.05, 0013 -.25, 3 + 3 (its replay) + 3 + 4 minutes and 1 of 0010.
ANSWERS["novelty"] = Answer(
    "change proposer proposals repeats judged solid solid_share median_in_sigma shard_minutes minutes_per_solid",
    [
        ("structural", "claude", 3, 0, 3, 2, 2 / 3, 1.125, 9.5, 4.75),
        ("local", "claude", 9, 1, 4, 1, 0.25, 0.2, 10.2, 10.2),
        ("local", "sweep", 1, 1, 0, 0, None, None, None, None),
        ("constant-only", "claude", 2, 0, 2, 0, 0.0, -0.25, 5.0, None),
        ("constant-only", "sweep", 4, 0, 3, 1, 1 / 3, -0.05, 14.0, 14.0),
        ("(not known)", "claude", 1, 0, 0, 0, None, None, None, None),  # what could not be applied has no class
    ],
)

BOARD = f"val_bpb/screen/300/{SETUP[:8]}/{sha256(ENVIRONMENT.encode()).hexdigest()[:4]}"
# 0004 was moved, and its replay is not solid. Metrics: 1.96 1.99 2.02; 1.945 1.96 1.99 (squares off their mean .00105);
# 1.96 1.98 2.
ANSWERS["leaderboard"] = Answer(
    "rank experiment hypothesis category verdict effect lo hi evidence bar shrunk pairs minutes mean sd seeds sigma "
    "mode claim proposer "
    "rung board",
    [
        (1, "0001", "idea 1", "architecture", "solid", 0.03, 0.02, 0.04, 40.0, 20.0, 0.025, 3, 5.5, 1.99, 0.03, 3, 0.02, "fast",
         "gain", "claude", "screen", BOARD),
        (2, "0007", "idea 7", "architecture", "solid", 0.015, 0.003, 0.027, 21.0, 20.0, 0.011, 3, 3.5, 1.965,
         sqrt(0.00105 / 2), 3, 0.02, "fast", "gain", "claude", "screen", BOARD),
        (3, "0005", "idea 5", "data mix", "solid", 0.01, 0.004, 0.016, 25.0, 20.0, 0.009, 3, 3.0, 1.98, 0.02, 3, 0.02, "fast",
         "gain", "claude", "screen", BOARD),
    ],
    {"verdict": "solid", "rung": "screen", "metric": "val_bpb", "board": "val_bpb/screen/300"},
)  # fmt: skip

# Only 0007 is solid on the present trunk and not merged: 0.011 in three minutes.
ANSWERS["shortlist"] = Answer(
    "place experiment hypothesis state shrunk effect shard_seconds gain_per_hour headline headline_lo headline_hi fresh_pairs "
    "signoff findings branch",
    [(1, "0007", "idea 7", "judged", 0.011, 0.015, 180.0, 0.22, None, None, None, None, None, 0, "exp/0007-idea")],
)

ANSWERS["categories"] = Answer(  # by first arms, so that 0004 is solid and its replay is no second experiment
    "category proposer judged solid solid_share harmful broken best_effect",
    [
        ("data mix", "claude", 1, 1, 1.0, 0, 0, 0.01),
        ("architecture", "claude", 3, 2, 2 / 3, 0, 1, 0.03),  # 0001, 0006, 0007
        ("optimizer", "sweep", 2, 1, 0.5, 0, 0, 0.012),  # 0004, 0013
        ("initialisation", "claude", 1, 0, 0.0, 0, 1, None),
        ("optimizer", "claude", 1, 0, 0.0, 0, 0, 0.004),
        ("regularisation", "claude", 1, 0, 0.0, 0, 0, 0.04),
        ("schedule", "claude", 1, 0, 0.0, 1, 0, -0.05),
        ("schedule", "sweep", 1, 0, 0.0, 0, 0, -0.001),
        ("systems", "claude", 1, 0, 0.0, 0, 0, -0.03),
    ],
)

# By the arm on the present trunk: 0004 counts as its replay, which is not solid. Effects of claude: -.05 -.03 .004 .01
# .012 .015 .03 .04; of the sweep: -.005 -.001 .002 .005. Runs of claude (no smokes): 5 3 2 3 0 3 2 3 2 2; of the sweep
# 3 3 1 3. Dollars of proposing and repairing: .5 + .1 + .3 at most + .2.
ANSWERS["proposers"] = Answer(
    "proposer proposals constant_only structural duplicates refused judged solid solid_constant_only not_solid harmful broken "
    "best_effect best_three median_effect shards shard_minutes usd",
    [
        ("claude", 15, 2, 3, 0, 1, 9, 3, 0, 2, 1, 2, 0.03,
         "+0.0300 [+0.0200, +0.0400], +0.0150 [+0.0030, +0.0270], +0.0100 [+0.0040, +0.0160]", 0.011, 25, 24.7, 1.1),
        ("sweep", 5, 4, 0, 1, 0, 3, 0, 0, 3, 0, 0, None, None, 0.0005, 10, 10.0, None),
    ],
)  # fmt: skip
