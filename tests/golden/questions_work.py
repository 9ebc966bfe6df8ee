"""As `questions`: what ran, what it cost, who decided. Worked out on paper from `tests.history_recorded`."""

from __future__ import annotations

from datetime import date
from math import sqrt

from tests.golden.questions import Answer, utc
from tests.history_recorded import OTHER_SETUP, SETUP

ANSWERS: dict[str, Answer] = {}

# Minutes: claude's experiments 5.5 (three runs, a smoke, two fresh) + 3 + 2 + 3 + .5 + 3.5 + 1.5 + 3 + 1.5 + 1.2, the
# sweep's 3 + 3 (the replay) + 3 + 1 (one still runs) + 4 (one at twice the rate), the bundle's fresh one, and the
# trunks' 3 + 3 + 3, a smoke, 8 at confirm, canaries 1.5, two fresh ones and one at twice the rate. Dollars .5 + .1 +
# .2, and .05 + .3 at most. 0004 is one gain.
ANSWERS["cost_of_a_finding"] = Answer(
    "proposer solid merged shard_minutes usd unpriced_calls minutes_per_solid usd_per_solid",
    [
        ("claude", 3, 2, 24.7, 1.15, 1, 24.7 / 3, 1.15 / 3),
        ("sweep", 1, 0, 14.0, None, 0, 14.0, None),
        ("(bundles)", 0, 0, 1.0, None, 0, None, None),
        ("(trunk)", 0, 0, 22.0, None, 0, None, None),
        ("(all)", 4, 2, 61.7, 1.15, 1, 61.7 / 4, 1.15 / 4),
    ],
)

# Minutes since the decision before or since it came, ten at most. ada: 5 5 2 1 1 10 2 2 (the gap before p0009 is cut,
# and p0005 came after her signature); bob: 1 3 4 1 5 5. Waits: ada 5 5 7 1 1 20 2 2, bob 1 3 4 1 5 9. Solid: 0001,
# 0004, 0005; and 0007.
ANSWERS["review_cost"] = Answer(
    "who diffs approved minutes median_minutes median_wait_minutes solid minutes_per_solid",
    [("ada", 8, 8, 28.0, 2.0, 3.5, 3, 9.33), ("bob", 6, 4, 19.0, 3.5, 3.5, 1, 19.0)],
)

# Of ada's eight 0001, 0004 and 0005 were solid; of bob's four 0012 was never judged, and 0007 was solid.
ANSWERS["people"] = Answer(
    "who kind decisions approved declined sent_back signed stopped acknowledged judged solid solid_share",
    [
        ("ada", "person", 11, 8, 0, 0, 2, 0, 1, 8, 3, 0.375),
        ("bob", "person", 7, 4, 1, 1, 0, 1, 0, 3, 1, 1 / 3),
        ("never ask", "policy", 2, 2, 0, 0, 0, 0, 0, 1, 0, 0.0),
    ],
)

# 0009 ran at 80 of 100; 0003 at 97 on one seed, which is within 5 %, and its other seed wrote a NaN.
ANSWERS["throughput"] = Answer(
    "experiment hypothesis category verdict rung seeds trunk_tokens_per_s tokens_per_s ratio effect",
    [("0009", "idea 9", "systems", "not-solid", "screen", 1, 100.0, 80.0, 0.8, -0.03)],
)

ANSWERS["duplicates"] = Answer(
    "proposal proposer state hypothesis first first_proposer first_hypothesis first_state experiment verdict effect "
    "repeats created_utc",
    [
        (
            "p0021",
            "claude",
            "waiting",
            "idea 21",
            "p0002",
            "claude",
            "idea 2",
            "approved",
            "0002",
            "not-solid",
            0.004,
            2,
            utc(240),
        ),
        (
            "p0016",
            "sweep",
            "refused",
            "idea 16",
            "p0002",
            "claude",
            "idea 2",
            "approved",
            "0002",
            "not-solid",
            0.004,
            2,
            utc(222),
        ),
    ],
)

# 100 tokens a step (2,000 in 20); the last loss that was written at a step counts, and no fresh run is among them.
ANSWERS["curves_by_tokens"] = Answer(
    "run experiment seed step tokens value",
    [
        *(("0001 s0", "0001", 0, step, 100.0 * step, loss) for step, loss in ((0, 2.9), (10, 2.4))),
        *(("0001 s1", "0001", 1, step, 100.0 * step, loss) for step, loss in ((0, 2.9), (10, 2.0))),
        *(("0001 s2", "0001", 2, step, 100.0 * step, loss) for step, loss in ((0, 2.9), (10, 2.4))),
        *(
            (f"trunk-1 s{seed}", "trunk-1", seed, step, 100.0 * step, 3.0 - step / 20)
            for seed in (0, 1, 2)
            for step in (0, 10)
        ),
    ],
    {"experiment": "0001"},
)

# Proposing: three calls, of which one was refused and one still runs; 1000 + 3000 + 1000 tokens went in, 3000 of them
# cached.
ANSWERS["money"] = Answer(
    "model purpose calls failed input_tokens cached_share output_tokens thinking_share usd unpriced median_seconds",
    [
        ("opus", "propose", 3, 1, 5000, 0.6, 510, 200 / 510, 0.9, 0, 45.0),
        ("opus", "repair", 1, 0, 1000, 0.5, 100, 0.0, 0.2, 0, 30.0),
        ("haiku", "reading", 1, 1, 100, 0.0, 50, 0.0, 0.05, 0, 20.0),
        ("local", "propose", 1, 0, 100, 0.0, 20, 0.0, None, 1, 10.0),
    ],
)

ANSWERS["model_failures"] = Answer(
    "proposer purpose failure times share usd latest latest_detail",
    [
        ("claude", "propose", "refusal", 1, 1 / 3, 0.1, "c00002", "declined"),  # of three that ended
        ("claude", "reading", "lost", 1, 1.0, 0.05, "c00004", ""),
    ],
)

ANSWERS["refusals"] = Answer(
    "proposer reason proposals share latest latest_detail",
    [("claude", "no-match", 1, 1 / 15, "p0017", "not found"), ("sweep", "duplicate", 1, 1 / 5, "p0016", None)],
)

# 2.012 after 2.000 is 0.6 of 0.02.
ANSWERS["canaries"] = Answer(
    "number run at_utc trunk rung seed outcome first_metric metric shift",
    [
        (1, "trunk-1.screen.s0.a2", utc(40), "trunk-1", "screen", 0, "finished", 2.0, 2.012, 0.6),
        (2, "trunk-1.screen.s0.a3", utc(63), "trunk-1", "screen", 0, "crashed", 2.0, None, None),
    ],
)

ANSWERS["finding_rules"] = Answer(
    "rule severity findings experiments acknowledged about_trunk solid barred failed latest latest_sentence",
    [
        ("lookahead", "bars a keep", 1, 1, 0, 0, 0, 1, 0, "f2", "a token sees the next one"),
        ("loss-spike", "warning", 1, 1, 1, 0, 1, 0, 0, "f3", "the loss jumped"),
        ("no-op", "note", 1, 1, 0, 0, 0, 0, 1, "f1", "same losses"),
    ],
)

# At 16: trunk-1 3 + 2 + a canary, 0001 0002 0004 0008 three each, 0003 0009 two each. At 17: a canary that crashed,
# four fresh, trunk-2 0004.r2 0005 three each, 0015 two. At 19: trunk-3 0007 0011 0013 three each, 0010 one that ended,
# 0012 two, the bundle's. 0001 wrote 110 three times, and 90 an hour later: 105 on the average; the other five at 16 are
# as fast as their own mean.
ANSWERS["by_hour"] = Answer(
    "hour shards failed with_speed relative_speed",
    [(16, 22, 0, 8, (3 * 110 / 105 + 5) / 8), (17, 16, 2, 1, 90 / 105), (19, 16, 1, 0, None)],
)

# From approval to the first run 2 minutes (0003), half a one (0013), else one; a replay waits for nobody. Between runs
# no wait but for .5 after two smokes, .5 before 0012's second run and 1 before 0001's third: 4 of 25. Smokes come first
# where there are any.
ANSWERS["queue_wait"] = Answer(
    "rung experiments shards first_wait_minutes first_wait_p90 next_wait_minutes next_wait_p90 ran_minutes",
    [("screen", 14, 37, 1.0, 1.0, 0.0, 0.5, 34.2), ("smoke", 3, 3, 1.0, 1.0, None, None, 1.5)],
)

ANSWERS["ended_early"] = Answer(  # half a minute of one
    "category shards experiments minutes_spent minutes_saved share_saved", [("systems", 1, 1, 0.5, 0.5, 0.5)]
)

ANSWERS["repairs"] = Answer(
    "experiment proposer hypothesis outcome detail repair repair_state repaired_experiment repaired_verdict "
    "repaired_effect",
    [("0006", "claude", "idea 6", "crashed", "NameError: rotary", "p0007", "approved", "0007", "solid", 0.015)],
)

# All on one day; 0010 and 0012 are not judged, and 0011 is barred. 61.7 minutes as above, of two slots' 48 hours.
ANSWERS["spend_by_day"] = Answer(
    "day proposals judged solid shard_hours usd slots_used",
    [(date(2025, 11, 24), 20, 13, 4, 61.7 / 60, 1.15, 61.7 / 60 / 48)],
)

# p0001 touches model.py, p0005 mix.toml, p0007 two files, the other 17 train.py. Best: 0011 with 2 sigma, though it is
# barred.
ANSWERS["files"] = Answer(
    "path proposals judged solid solid_share best_in_sigma median_lines",
    [
        ("train.py", 18, 10, 2, 0.2, 2.0, 3.0),
        ("model.py", 2, 2, 2, 1.0, 1.5, 13.0),
        ("mix.toml", 1, 1, 1, 1.0, 0.5, 2.0),
    ],
)

ANSWERS["rounds"] = Answer(
    "round proposer state wanted proposals refused repeats judged solid usd minutes began_utc detail",
    [
        ("r0002", "claude", "overloaded", 2, 1, 0, 1, 0, 0, None, 2.0, utc(238), "try later"),
        ("r0001", "claude", "done", 3, 3, 0, 0, 3, 1, 0.6, 4.0, utc(5), None),
    ],
)

ANSWERS["self_reported"] = Answer(
    "run experiment hypothesis rung seed reported evaluated metric difference",
    [("0002.screen.s1.a1", "0002", "idea 2", "screen", 1, 2.016, 2.017, 2.016, -0.001)],
)

ANSWERS["further"] = Answer(  # 0.30, 0.31, 0.32 beside 0.30
    "experiment hypothesis verdict rung evaluation seeds trunk mean change",
    [("0001", "idea 1", "solid", "screen", "hellaswag", 3, 0.3, 0.31, 0.01)],
)

# Squares off each arm's own mean: trunk-1 and trunk-3 .0008, trunk-2 .0002 (its third seed is of another setup); 0001
# .0018, 0002 .000968, 0003 .0008 (two seeds), 0004 .000728, 0007 .00105, 0013 .000882, and .0008 for 0004.r2, 0005,
# 0008 and 0011. 13 arms of 37 runs leave 24 degrees of freedom, 5 of them the trunks'.
_TRUNKS = 2 * 0.0008 + 0.0002
_SQUARES = _TRUNKS + 0.0018 + 0.000968 + 0.0008 + 0.000728 + 0.00105 + 0.000882 + 4 * 0.0008
ANSWERS["seed_spread"] = Answer(
    "rung budget arms runs sd trunk_sd",
    [
        ("screen", "300", 13, 37, sqrt(_SQUARES / 24), sqrt(_TRUNKS / 5)),
        ("confirm", "1200", 1, 2, sqrt(0.0002), sqrt(0.0002)),
    ],
)

# lab1 had the 38 runs of hours 16 and 17, two of them at confirm, one in a setup of which nothing is noted; lab2 the 16
# of hour 19. On lab2 stand trunk-3, 0007, 0011 and 0013 with two seeds or more, on lab1 the other nine arms.
_LAB2 = 0.0008 + 0.00105 + 0.0008 + 0.000882
_SOFTWARE = "python 3.12.1, torch 2.9.0, H100"
ANSWERS["environments"] = Answer(
    "host engine environment rung runs failed_share contended_share median_minutes sd df",
    [
        ("lab1", "0.1", _SOFTWARE, "screen", 35, 2 / 35, 1 / 35, 1.0, sqrt((_SQUARES - _LAB2) / 16), 16),
        ("lab2", "0.2", _SOFTWARE, "screen", 16, 1 / 16, 0.0, 1.0, sqrt(_LAB2 / 8), 8),
        ("lab1", "0.1", _SOFTWARE, "confirm", 2, 0.0, 0.0, 4.0, sqrt(0.0002), 1),
        ("lab1", "0.1", None, "screen", 1, 0.0, 0.0, 1.0, None, None),
    ],
)

# Of 55 runs that ended, smokes that finished and scaled rates aside: a canary and a smoke crashed, half a minute each.
ANSWERS["failures"] = Answer(
    "outcome shards at_smoke experiments share minutes latest latest_detail",
    [
        ("crashed", 2, 1, 2, 2 / 55, 1.0, "0006.smoke.s0.a1", "NameError: rotary"),
        ("killed", 1, 0, 1, 1 / 55, 0.5, "0012.screen.s1.a1", "stopped by bob"),
        ("nonfinite", 1, 0, 1, 1 / 55, 0.2, "0015.screen.s1.a1", "loss is NaN at step 40"),
    ],
)

# A history made elsewhere, in two segments: val_bpb is to fall (1.0, a crash, 0.9, 0.95), accuracy to rise (0.5, 0.6).
ANSWERS["imported"] = Answer(
    "source segment place metric gain measure outcome status name description commit commit_state seed steps run",
    [
        ("results.tsv", 0, 1, 0.9, 0.1, "val_bpb", "finished", "keep", None, "deeper", None, None, None, None, "i1.3"),
        (
            "results.tsv",
            0,
            2,
            0.95,
            0.05,
            "val_bpb",
            "finished",
            "discard",
            None,
            "deeper",
            None,
            None,
            None,
            None,
            "i1.4",
        ),
        (
            "results.tsv",
            0,
            3,
            1.0,
            0.0,
            "val_bpb",
            "finished",
            "keep",
            None,
            "baseline",
            None,
            None,
            None,
            None,
            "i1.1",
        ),
        (
            "results.tsv",
            0,
            None,
            None,
            None,
            "val_bpb",
            "crashed",
            "crash",
            None,
            "wider",
            None,
            None,
            None,
            None,
            "i1.2",
        ),
        ("results.tsv", 1, 1, 0.6, 0.1, "accuracy", "finished", "keep", None, "longer", None, None, None, None, "i1.6"),
        (
            "results.tsv",
            1,
            2,
            0.5,
            0.0,
            "accuracy",
            "finished",
            "keep",
            None,
            "baseline",
            None,
            None,
            None,
            None,
            "i1.5",
        ),
    ],
)

ANSWERS["imported_progress"] = Answer(
    "source segment n metric best_before better_by measure direction status description commit",
    [
        ("results.tsv", 0, 1, 1.0, None, None, "val_bpb", "min", "keep", "baseline", None),
        ("results.tsv", 0, 3, 0.9, 1.0, 0.1, "val_bpb", "min", "keep", "deeper", None),
        ("results.tsv", 1, 5, 0.5, None, None, "accuracy", "max", "keep", "baseline", None),
        ("results.tsv", 1, 6, 0.6, 0.5, 0.1, "accuracy", "max", "keep", "longer", None),
    ],
)

ANSWERS["imported_noise"] = Answer(  # 0.9 and 0.95, and a crash
    "source segment configuration measure runs without_metric mean sd lowest highest",
    [("results.tsv", 0, "cfg-a", "val_bpb", 2, 1, 0.925, 0.05 / sqrt(2), 0.9, 0.95)],
)

ANSWERS["imported_sources"] = Answer(
    "source format runs finished failed segments first_measure best_of_first unit total left_out not_understood points who "
    "imported_utc import",
    [("results.tsv", "autoresearch", 6, 5, 1, 2, "val_bpb", 0.9, "lines", 9, 0, 1, 0, "ada", utc(300), "i1")],
)

# trunk-2's third seed was run in another setup: it stands by itself, and 0005 is compared on two seeds.
ANSWERS["noise"] = Answer(
    "trunk rung seeds mean sd lowest highest setup",
    [
        ("trunk-3", "screen", 3, 1.98, 0.02, 1.96, 2.0, SETUP),
        ("trunk-2", "screen", 2, 1.98, sqrt(0.0002), 1.97, 1.99, SETUP),
        ("trunk-2", "screen", 1, 2.01, None, 2.01, 2.01, OTHER_SETUP),
        ("trunk-1", "confirm", 2, 1.81, sqrt(0.0002), 1.8, 1.82, SETUP),
        ("trunk-1", "screen", 3, 2.02, 0.02, 2.0, 2.04, SETUP),
    ],
)

ANSWERS["sources"] = Answer(
    "experiment hypothesis rung source seeds mean trunk_mean gain",
    [
        ("0001", "idea 1", "screen", "stories", 3, 2.55, 2.5, -0.05),
        ("0001", "idea 1", "screen", "code", 3, 1.4, 1.5, 0.1),
        ("0005", "idea 5", "screen", "stories", 2, 2.47, 2.5, 0.03),
        ("0005", "idea 5", "screen", "code", 2, 1.45, 1.5, 0.05),
    ],
)

ANSWERS["harm"] = Answer(  # beside trunk-1, which had 1.5 and 2.5
    "experiment role hypothesis rung source seeds first_trunk mean worse_by",
    [
        ("trunk-2", "trunk", "trunk", "screen", "code", 2, 1.5, 1.5, 0.0),
        ("trunk-2", "trunk", "trunk", "screen", "stories", 2, 2.5, 2.5, 0.0),
        ("trunk-3", "trunk", "trunk", "screen", "stories", 3, 2.5, 2.46, -0.04),
        ("trunk-3", "trunk", "trunk", "screen", "code", 3, 1.5, 1.42, -0.08),
    ],
)
