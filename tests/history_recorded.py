"""A campaign of a day, made by hand for the shipped questions: three trunks, two proposers, three people.

Figures are round so that answers can be worked out on paper (`tests/golden/questions*.py`): a run at `screen` takes a
minute, one at `confirm` four, a smoke half a one; the trunk's seeds lie 0.02 apart, which is sigma; minutes count from
`T0`, which is 16:00 UTC. Everything that must not count somewhere is here: smokes, canaries, fresh pairs, runs at a scaled
learning rate, a replay on a moved trunk, a run of another setup, one that never ended.
"""

from __future__ import annotations

from typing import Any, cast

from engine.history.store import Store
from engine.types import AuditRow, CallRow, ExperimentRow, Row, ShardRow, SignOffRow, VerdictRow
from tests.history_samples import (
    T0,
    Batch,
    Point,
    event,
    experiment,
    finding,
    lab,
    proposal,
    reading,
    shard,
    verdict,
)

SIGMA = 0.02
TRUNKS = {"trunk-1": (2.00, 2.02, 2.04), "trunk-2": (1.97, 1.99, 2.01), "trunk-3": (1.96, 1.98, 2.00)}
"""The metric of each trunk on seeds 0, 1 and 2 at `screen`."""


def at(minutes: float) -> float:
    return T0 + 60 * minutes


def weighed(kind: str, effect: float, lo: float, hi: float, **more: Any) -> VerdictRow:
    """A verdict of sequential judging on three pairs, unless `more` says otherwise."""
    base = {"se": 0.005, "sigma": SIGMA, "bar": 20.0, "mode": "fast", "seconds": 180.0}
    return cast(VerdictRow, {**verdict(kind, effect, lo, hi), **base, **more})


def signed_off(state: str, mean: float, lo: float, hi: float, n: int) -> SignOffRow:
    return SignOffRow(state=state, sentence="fresh pairs say so", by="ada", mean=mean, lo=lo, hi=hi, n=n, pairs=[])


BASES = {
    "compare": "tokens", "kappa": 0.05, "tokens": {"ratio": 1.0, "effect": 0.012},
    "flops": {"ratio": 1.2, "effect": -0.003}, "time": {"ratio": 1.5, "effect": -0.01},
}  # fmt: skip

SPENT = {"sentence": "not enough after 3 seeds"}  # it ran to the last pair

VERDICTS: dict[str, tuple[str, tuple[float, ...], VerdictRow]] = {
    # experiment: (trunk, differences of its pairs by seed, verdict)
    "0001": ("trunk-1", (0.04, 0.03, 0.02), weighed("solid", 0.03, 0.02, 0.04, evidence=40.0, shrunk=0.025)),
    "0002": ("trunk-1", (0.006, 0.004, 0.002), weighed("not-solid", 0.004, -0.01, 0.018, se=0.003, evidence=8.0, **SPENT)),
    "0003": ("trunk-1", (-0.04, -0.06), weighed("harmful", -0.05, -0.07, -0.03, n=2, evidence=0.1, shrunk=0.0, seconds=120.0)),
    "0004": ("trunk-1", (0.012, 0.01, 0.014), weighed("solid", 0.012, 0.001, 0.023, evidence=22.0, shrunk=0.008, bases=BASES)),
    "0004.r2": ("trunk-2", (0.002, 0.002, 0.002), weighed("not-solid", 0.002, -0.008, 0.012, evidence=1.0, shrunk=0.001)),
    "0005": ("trunk-2", (0.01, 0.01, 0.01), weighed("solid", 0.01, 0.004, 0.016, se=0.002, evidence=25.0, shrunk=0.009)),
    "0007": ("trunk-3", (0.015, 0.02, 0.01), weighed("solid", 0.015, 0.003, 0.027, evidence=21.0, shrunk=0.011)),
    "0008": ("trunk-1", (-0.001,) * 3, weighed("not-solid", -0.001, -0.011, 0.009, evidence=0.3, shrunk=0.0, **SPENT)),
    "0009": ("trunk-1", (-0.03,), weighed("not-solid", -0.03, -0.06, 0.0, se=0.015, n=1, evidence=0.2, seconds=90.0)),
    "0010": ("trunk-3", (0.005,), weighed("undecided", 0.005, -0.02, 0.03, se=0.004, n=1, evidence=5.0, seconds=60.0)),
    "0011": ("trunk-3", (0.04, 0.04, 0.04), weighed("barred", 0.04, 0.03, 0.05, evidence=60.0, shrunk=0.03)),
    "0012": ("trunk-3", (0.012,), weighed("undecided", 0.012, -0.01, 0.034, se=0.006, n=1, evidence=12.0, seconds=90.0)),
    "0013": ("trunk-3", (-0.004, -0.005, -0.006), weighed("not-solid", -0.005, -0.015, 0.005, evidence=0.4, shrunk=0.0)),
    "0015": ("trunk-1", (0.01,), cast(VerdictRow, {**verdict("broken"), "n": 1, "sigma": SIGMA, "seconds": 72.0})),
}  # fmt: skip

STARTS: dict[str, tuple[float, ...]] = {  # minutes at which the runs at `screen` began, by seed
    "trunk-1": (1, 2, 3), "trunk-2": (100, 101, 102), "trunk-3": (200, 201, 202),
    "0001": (17, 18, 20), "0002": (26, 27, 28), "0003": (29, 30), "0004": (32, 33, 34), "0004.r2": (101, 102, 103),
    "0005": (113, 114, 115), "0007": (210, 211, 212), "0008": (37, 38, 39), "0009": (57,), "0010": (212,),
    "0011": (215, 216, 217), "0012": (217,), "0013": (221, 222, 223), "0015": (61,),
}  # fmt: skip

PROPOSALS: tuple[tuple[int, str, str, str | None, float | None, float, dict[str, Any]], ...] = (
    # number, proposer, category, class of the change, predicted effect, minute, and what else
    (1, "claude", "architecture", "structural", 0.02, 10, {"round": "r0001"}),
    (2, "claude", "optimizer", "local", 0.01, 20, {"round": "r0001"}),
    (3, "claude", "schedule", "constant-only", 0.03, 20, {"round": "r0001"}),
    (4, "sweep", "optimizer", "constant-only", None, 30, {"experiment": "0004.r2"}),
    (5, "claude", "data mix", "local", 0.025, 110, {}),
    (6, "claude", "architecture", "structural", 0.05, 120, {}),
    (7, "claude", "architecture", "structural", 0.01, 205, {"repairs": "p0006"}),
    (8, "sweep", "schedule", "constant-only", None, 35, {}),
    (9, "claude", "systems", "local", None, 36, {"claims": "speed"}),
    (10, "sweep", "optimizer", "constant-only", None, 210, {}),
    (11, "claude", "regularisation", "constant-only", 0.01, 210, {}),
    (12, "claude", "initialisation", "local", None, 215, {}),
    (13, "sweep", "optimizer", "constant-only", None, 220, {}),
    (15, "claude", "initialisation", "local", 0.01, 58, {}),
    (16, "sweep", "optimizer", "local", None, 222, {"state": "refused", "refusal": "duplicate", "duplicate_of": "p0002"}),
    (17, "claude", "architecture", None, 0.01, 223, {"state": "refused", "refusal": "no-match", "detail": "not found"}),
    (18, "claude", "schedule", "local", 0.02, 225, {"state": "declined", "why": "tried in March"}),
    (19, "claude", "schedule", "local", 0.02, 226, {"state": "revised", "why": "warm up", "replaced_by": "p0020"}),
    (20, "claude", "schedule", "local", 0.02, 236, {"state": "waiting", "replaces": "p0019"}),
    (21, "claude", "optimizer", "local", 0.01, 240, {"state": "waiting", "duplicate_of": "p0002", "round": "r0002"}),
)  # fmt: skip
FILES = {
    1: [{"path": "model.py", "added": 10, "removed": 2, "status": "M"}],
    5: [{"path": "mix.toml", "added": 1, "removed": 1, "status": "M"}],
    7: [
        {"path": "model.py", "added": 12, "removed": 2, "status": "M"},
        {"path": "train.py", "added": 1, "removed": 0, "status": "M"},
    ],
}  # the others touch train.py: two lines added, one removed

DECISIONS: tuple[tuple[float, str, str, str, str], ...] = (  # minute, who, kind, action, target
    (15, "ada", "person", "approve", "p0001"),
    (25, "ada", "person", "approve", "p0002"),
    (27, "ada", "person", "approve", "p0003"),
    (31, "ada", "person", "approve", "p0004"),
    (36, "ada", "person", "approve", "p0008"),
    (56, "ada", "person", "approve", "p0009"),
    (60, "ada", "person", "approve", "p0015"),
    (95, "ada", "person", "sign", "0001"),
    (112, "ada", "person", "approve", "p0005"),
    (121, "bob", "person", "approve", "p0006"),
    (195, "ada", "person", "sign", "0005"),
    (197, "ada", "person", "acknowledge", "0005"),
    (208, "bob", "person", "approve", "p0007"),
    (211, "never ask", "policy", "approve", "p0010"),
    (214, "bob", "person", "approve", "p0011"),
    (216, "bob", "person", "approve", "p0012"),
    (219, "bob", "person", "stop", "0012"),
    (220.5, "never ask", "policy", "approve", "p0013"),
    (230, "bob", "person", "decline", "p0018"),
    (235, "bob", "person", "revise", "p0019"),
)


def _proposals() -> list[Row]:
    rows: list[Row] = []
    for number, proposer, category, change, predicted, minute, more in PROPOSALS:
        said = {"proposer": proposer, "category": category, "created": at(minute), **more}
        said |= {"change": change} if change else {}
        said |= {"predicted_effect": predicted} if predicted is not None else {}
        said |= {"files": FILES[number]} if number in FILES else {}
        said |= {"experiment": None} if "state" in more else {}
        rows.append(proposal(number, **{"state": "approved", **said}))
    return rows


STATES: dict[str, dict[str, Any]] = {  # what is not just "judged"
    "0001": {"state": "merged", "signoff": signed_off("confirmed", 0.024, 0.01, 0.038, 2)},
    "0004": {"state": "moved", "moved_to": "0004.r2"},
    "0004.r2": {"replay_of": "0004", "retest": True},
    "0005": {"state": "merged"},
    "0009": {"claims": "speed"},
    "0010": {"state": "running"},
    "0011": {"barred": ["f2"]},
    "0012": {"state": "stopped", "why": "not worth it"},
    "0013": {"retuned": "held back by learning rate"},
}


def _experiments() -> list[Row]:
    about = {number: (category, minute) for number, _, category, _, _, minute, _ in PROPOSALS}
    rows: list[Row] = []
    for name, commit, minute in (("trunk-1", "c0", 0), ("trunk-2", "m1", 100), ("trunk-3", "m2", 200)):
        more = {"proposal": None, "baseline": None, "category": "", "commit": commit * 20, "created": at(minute)}
        rows.append(
            experiment(0, id=name, role="trunk", state="running", hypothesis="trunk", branch="cockpit/trunk", **more)
        )
    for name, (baseline, differences, judged) in VERDICTS.items():
        number = int(name[:4])
        pairs = [
            {"seed": seed, "trunk": base, "candidate": base - each, "difference": each}
            for seed, (base, each) in enumerate(zip(TRUNKS[baseline], differences, strict=False))
        ]
        category, minute = about[number]
        more = {"id": name, "baseline": baseline, "category": category, "pairs": pairs, "created": at(minute)}
        rows.append(experiment(number, judged, **{**more, **STATES.get(name, {})}))
    smoked = cast(VerdictRow, {**verdict("broken"), "rung": "smoke", "n": 0})
    more = {"baseline": "trunk-2", "category": "architecture", "created": at(120)}
    rows.append(experiment(6, smoked, **more))
    bundle = {"parts": ["0007", "0011"], "shrunk": [0.011, 0.009], "promised": 0.02}
    more = {"baseline": "trunk-3", "category": "", "proposal": None, "created": at(226), "bundle": bundle}
    off = signed_off("confirming", 0.018, 0.002, 0.034, 3)
    rows.append(experiment(14, None, state="signed", hypothesis="0007 and 0011 put together", signoff=off, **more))
    return rows


def _run(arm: str, seed: int, metric: float | None, start: float, minutes: float = 1.0, **more: Any) -> Row:
    rung = more.get("rung", "screen")
    name = f"{arm}.{rung}.s{seed}.a{more.get('attempt', 1)}"
    said = {"id": name, "started": at(start), "ended": at(start + minutes), **more}
    return shard(arm, seed, metric, **said)


SOURCES = {  # the metric by source of the data, on every seed
    "trunk-1": {"code": 1.5, "stories": 2.5},
    "trunk-2": {"code": 1.5, "stories": 2.5},
    "trunk-3": {"code": 1.42, "stories": 2.46},
    "0001": {"code": 1.4, "stories": 2.55},
    "0005": {"code": 1.45, "stories": 2.47},
}
FURTHER = {"trunk-1": (0.3, 0.3, 0.3), "0001": (0.3, 0.31, 0.32)}
"""A further evaluation, by seed."""


def _shards() -> list[Row]:
    rows: list[Row] = []
    ran = {**TRUNKS}
    for name, (baseline, differences, _) in VERDICTS.items():
        ran[name] = tuple(base - each for base, each in zip(TRUNKS[baseline], differences, strict=False))
    for arm, losses in ran.items():
        for seed, loss in enumerate(losses):
            found = {"hellaswag": FURTHER[arm][seed]} if arm in FURTHER else {}
            evaluated = loss + (0.001 if (arm, seed) == ("0002", 1) else 0.0)
            more = {"sources": SOURCES.get(arm, {}), "further": found, "evaluated": evaluated}
            rows.append(_run(arm, seed, loss, STARTS[arm][seed], **more))
    rows += [
        _run("trunk-1", 0, None, 0.5, 0.5, rung="smoke", smoke=True),
        _run("trunk-1", 0, 1.80, 4, 4, rung="confirm"),
        _run("trunk-1", 1, 1.82, 8, 4, rung="confirm"),
        _run("trunk-1", 0, 2.012, 40, attempt=2, canary=True),
        _run("trunk-1", 0, None, 63, 0.5, attempt=3, outcome="crashed", detail="CUDA error"),
        _run("trunk-1", 10, 2.01, 96, fresh=True),
        _run("trunk-1", 11, 2.03, 98, fresh=True),
        _run("0001", 0, None, 16, 0.5, rung="smoke", smoke=True),
        _run("0001", 10, 1.98, 96, fresh=True),
        _run("0001", 11, 2.012, 97, fresh=True),
        _run("0006", 0, None, 122, 0.5, rung="smoke", smoke=True, outcome="crashed", detail="NameError: rotary"),
        _run("0007", 0, None, 209, 0.5, rung="smoke", smoke=True),
        _run("0009", 1, None, 58, 0.5, outcome="ended-early", detail="far behind half-way"),
        _run("0010", 1, None, 213, state="running", outcome=None, ended=None),
        _run("0012", 1, None, 218.5, 0.5, outcome="killed", detail="stopped by bob"),
        _run("0013", 5, 1.97, 224, rung="screen@2", retune="t0001", scale=2.0),
        _run("trunk-3", 5, 1.96, 225, rung="screen@2", retune="t0001", scale=2.0),
        _run("0014", 20, 1.95, 227, fresh=True),
        _run("0015", 1, None, 62, 0.2, outcome="nonfinite", detail="loss is NaN at step 40"),
    ]
    return rows


def _call(number: int, purpose: str, state: str, tokens: tuple[int, int, int, int], **more: Any) -> Row:
    sent, cached, written, thought = tokens
    row = CallRow(
        kind="call", id=f"c{number:05}", seq=90, round="r0001", proposer="claude", model="opus", effort="high",
        purpose=purpose, state=state, detail="", stop_reason=None, input=sent, cache_read=cached, cache_write=0,
        output=written, thinking=thought, usd=None, most_usd=None, request="b10b", reply=None, began=at(5), ended=at(6),
    )  # fmt: skip
    return cast(Row, {**row, **more})


def _around() -> list[Row]:
    """Calls, rounds, readings, findings, audits and retunes."""
    audit = AuditRow(
        kind="audit", id="a0001", seq=95, state="held", then="trunk-1", now="trunk-3", rung="screen",
        claims=[
            {"experiment": "0001", "claimed": 0.024, "within": 0.014, "by": "headline"},
            {"experiment": "0005", "claimed": 0.009, "within": 0.006, "by": "shrunk"},
        ],
        claimed=0.033, within=0.015, audited=0.022, lo=0.005, hi=0.039, pairs=[], sentence="it held",
        began=at(241), ended=at(250),
    )  # fmt: skip
    asked = {
        "kind": "round",
        "seq": 90,
        "proposer": "claude",
        "category": "",
        "retry_at": None,
        "note": "",
        "who": {"name": "ada"},
    }
    tuned = {
        "kind": "retune", "id": "t0001", "seq": 96, "experiment": "0013", "baseline": "trunk-3", "rung": "screen", "setup": "A",
        "state": "ended", "factors": [0.5, 1.0, 2.0], "tuning": [5], "seeds": [6, 7, 8], "wanted": 3, "tried": [],
        "trunk_best": 1.0, "best": 2.0, "label": "held back by learning rate", "sentence": "better at twice the rate",
        "mean": 0.02, "lo": 0.01, "hi": 0.03, "n": 3, "pairs": [], "who": {"name": "bob"}, "why": "rate", "began": at(224),
        "ended": at(226),
    }  # fmt: skip
    bars = {"rule": "lookahead", "severity": "bars a keep", "sentence": "a token sees the next one", "at": at(218)}
    known = {"who": {"name": "ada"}, "why": "a neighbour", "at": at(197)}
    warned = {
        "rule": "loss-spike",
        "severity": "warning",
        "sentence": "the loss jumped",
        "at": at(116),
        "acknowledged": known,
    }
    return [
        _call(1, "propose", "done", (1000, 3000, 500, 200), usd=0.5),
        _call(2, "propose", "refusal", (1000, 0, 10, 0), usd=0.1, ended=at(5.5), detail="declined", began=at(5)),
        _call(3, "repair", "done", (500, 500, 100, 0), usd=0.2, ended=at(5.5)),
        _call(4, "reading", "lost", (100, 0, 50, 0), most_usd=0.05, model="haiku", began=at(7), ended=at(7) + 20),
        _call(5, "propose", "running", (0, 0, 0, 0), most_usd=0.3, ended=None),
        _call(6, "propose", "done", (100, 0, 20, 0), model="local", ended=at(5) + 10),
        cast(Row, {**asked, "id": "r0001", "state": "done", "detail": "", "wanted": 3, "added": ["p0001", "p0002", "p0003"],
                   "usd": 0.6, "began": at(5), "ended": at(9)}),
        cast(Row, {**asked, "id": "r0002", "state": "overloaded", "detail": "try later", "wanted": 2, "added": ["p0021"],
                   "usd": None, "began": at(238), "ended": at(240)}),
        reading(1, 1, 0.9, 0.8),
        reading(2, 2, 0.6, 0.3),
        reading(3, 18, 0.4, 0.2),
        cast(Row, {**finding(1, "0008.screen.s0.a1"), "at": at(38)}),
        cast(Row, {**finding(2, "0011"), **bars}),
        cast(Row, {**finding(3, "0005.screen.s1.a1"), **warned}),
        cast(Row, audit),
        cast(Row, tuned),
    ]  # fmt: skip


def _decisions() -> list[Row]:
    hashes = {f"p{number:04}": f"{number:064x}" for number, *_ in PROPOSALS}
    return [
        cast(Row, {
            "kind": "decision", "id": f"d{number:03}", "seq": 40, "action": action, "target": target,
            "diff_hash": hashes.get(target), "who": {"kind": kind, "name": who, "os_user": who, "host": "lab1"}, "why": "",
            "at": at(minute),
        })
        for number, (minute, who, kind, action, target) in enumerate(DECISIONS, 1)
    ]  # fmt: skip


JUDGED_AT = {
    "0001": 21, "0002": 29, "0003": 31, "0004": 35, "0004.r2": 104, "0005": 116, "0006": 122.5, "0007": 213, "0008": 40,
    "0009": 58.5, "0010": 213, "0011": 218, "0012": 218, "0013": 224, "0015": 62.2,
}  # fmt: skip


SETUP, OTHER_SETUP = "a1b2c3d4e5f6", "0f0f0f0f0f0f"
"""How runs were made; one seed of trunk-2 was run in another way, and is compared with nothing."""
SOFTWARE = {"python": "3.12.1", "torch": "2.9.0", "gpu": "H100"}
ENVIRONMENT = "python 3.12.1, torch 2.9.0, H100"


def _conditions(shards: list[Row]) -> list[tuple[float, str, dict[str, Any]]]:
    """Which engine on which machine started which shard: lab1 until minute 200, lab2 from then on; and one was contended."""
    told: list[tuple[float, str, dict[str, Any]]] = []
    for minute, host, version in ((0, "lab1", "0.1"), (199.5, "lab2", "0.2")):
        told.append((minute, "engine.started", {"pid": 1, "host": host, "boot": "b", "version": version}))
        told.append((minute, "config.loaded", {"config": "b10b", "lab": {"metric": "val_bpb"}}))
        for rung, budget in (("screen", "300"), ("confirm", "1200")):
            noted = {
                "setup": SETUP,
                "rung": rung,
                "budget": budget,
                "metric": "val_bpb",
                "direction": "min",
                "data": "da7a",
            }
            told.append((minute, "setup.noted", {**noted, **SOFTWARE, "evaluation": "e7a1", "host": host}))
    for each in shards:
        row = cast(ShardRow, each)
        assert row["started"] is not None
        setup = OTHER_SETUP if row["id"] == "trunk-2.screen.s2.a1" else SETUP
        intended = {"shard": row["id"], "experiment": row["experiment"], "rung": row["rung"], "setup": setup}
        # a canary that failed, or came out elsewhere, is no canary any more in its row
        intended |= {"canary": row["id"].startswith("trunk-1.screen.s0.a") and row["attempt"] > 1}
        told.append(((row["started"] - T0) / 60, "shard.intended", intended))
    contended = {
        "finding": "f9",
        "about": "0008.screen.s1.a1",
        "rule": "contended",
        "severity": "note",
        "sentence": "shared",
    }
    return [*told, (39, "finding.noted", contended)]


def _events(experiments: list[Row], shards: list[Row]) -> list[dict[str, Any]]:
    """Verdicts, those on the way among them, merges, and how shards were run, in the order of their time."""
    told = _conditions(shards)
    for each in experiments:
        row = cast(ExperimentRow, each)
        if row["verdict"] is not None:
            numbers = {**row["verdict"], "verdict": row["verdict"]["verdict"].replace("barred", "solid")}
            told.append((JUDGED_AT[row["id"]], "verdict.reached", {**_of(row), **numbers}))
    by_name = {each["id"]: cast(ExperimentRow, each) for each in experiments}
    for name, minute, words in (
        ("0001", 18, "one more pair: E 6.4 of 20 needed"),
        ("0007", 211, "runs on as a control: E 0.4 of 20 needed"),
        ("0008", 38, "runs on as a control: E 0.3 of 20 needed"),
    ):
        told.append(
            (minute, "verdict.reached", {**_of(by_name[name]), **verdict("undecided", 0.001), "sentence": words})
        )
    told += [
        (99, "merge.done", {"experiment": "0001", "commit": "m1" * 20, "tree": "7ree"}),
        (199, "merge.done", {"experiment": "0005", "commit": "m2" * 20, "tree": "7ree"}),
    ]
    told.sort(key=lambda each: each[0])
    return [{**event(n, kind, **data), "t": at(minute)} for n, (minute, kind, data) in enumerate(told, 1)]


def _of(row: ExperimentRow) -> dict[str, Any]:
    return {"experiment": row["id"], "baseline": row["baseline"], "pairs": row["pairs"], "final": True}


def recorded_history() -> tuple[list[Row], list[dict[str, Any]]]:
    """Rows and events of the campaign; `points` has what shards wrote."""
    experiments, shards = _experiments(), _shards()
    told = cast(Row, {**lab(), "trunk_arm": "trunk-3", "rungs": ["screen", "confirm"]})
    return [told, *_proposals(), *experiments, *shards, *_decisions(), *_around()], _events(experiments, shards)


def points() -> list[Batch]:
    """Losses and tokens a second of some runs; one wrote a step twice."""
    out = []
    for shard_id, speed in (
        *((f"trunk-1.screen.s{seed}.a1", 100.0) for seed in (0, 1, 2)),
        *((f"0001.screen.s{seed}.a1", 110.0) for seed in (0, 1, 2)),
        ("0001.screen.s10.a1", 90.0),  # a fresh one, an hour later
        ("0009.screen.s0.a1", 80.0),
        ("0003.screen.s0.a1", 97.0),
        ("0003.screen.s1.a1", float("nan")),
    ):
        loss = 3.0 if shard_id.startswith("trunk") else 2.9
        lines = [Point(step, T0 + step, {"loss": loss - step / 20, "tokens_per_s": speed}) for step in (0, 10)]
        if shard_id == "0001.screen.s1.a1":
            lines.append(Point(10, T0 + 11, {"loss": 2.0, "tokens_per_s": speed}))
        out.append(Batch(shard_id, lines, summary={"tokens": 2000.0, "steps": 20.0}, offset=10 * len(lines)))
    return out


def fill(store: Store, direction: str = "min") -> None:
    """Put the whole campaign into an empty history; with "max" every metric is turned round, so that gains stay."""
    rows, events = recorded_history()
    if direction == "max":
        for row in rows:
            if row["kind"] == "lab":
                row["direction"] = "max"
            elif row["kind"] == "shard":
                row["metric"] = None if row["metric"] is None else -row["metric"]
                row["sources"] = {source: -value for source, value in row["sources"].items()}
    store.index(rows, events, len(events))
    store.append(points())
