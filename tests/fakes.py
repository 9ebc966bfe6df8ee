"""A scripted engine inside the test's own process: the methods and rows of docs/architecture.md, a story of fixed numbers.

`python -m tests.fakes` opens the cockpit on it, with one run in progress, for the eye.
"""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import math
import random
from collections.abc import AsyncIterator
from typing import Any, cast

from engine.rpc import DISCONNECTED, RpcError
from engine.types import ExperimentRow, LabRow, LiveRow, PairRow, ProposalRow, Row, ShardRow, VerdictRow

T0 = 1_764_000_000.0
STEPS = 300
SEEDS = [0, 1, 2]
TRUNK_SCORES = [2.0134, 2.0171, 2.0109]


class ScriptedEngine:
    """Fits `cockpit.model.Link`. Tests change it through `put`, `push_live`, `drop` and `restore`, and read `calls`."""

    def __init__(self) -> None:
        self.state = "connected"
        self.problem: str | None = None
        self.head = 0
        self.rows: dict[tuple[str, str], Row] = {}
        self.live: dict[str, LiveRow] = {}
        self.curves: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, str] = {}
        self.diffs: dict[str, str] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.refuse: dict[str, RpcError] = {}
        self.answers: dict[str, dict[str, Any]] = {}
        self.page = 2000
        self._news: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()

    # --- the story's side

    def put(self, row: Row) -> None:
        """An event happened: the row is as given from now on."""
        self.head += 1
        changed = cast(Row, {**row, "seq": self.head})
        self.rows[(changed["kind"], changed["id"])] = changed
        self._news.put_nowait(("head", {"seq": self.head}))

    def change(self, kind: str, id_: str, **fields: Any) -> None:
        self.put(cast(Row, {**self.rows[(kind, id_)], **fields}))

    def push_live(self, shard: str, row: LiveRow) -> None:
        """Points have come; whoever asks `live` later gets all of them."""
        before = self.live.get(shard)
        points = [*(before["points"] if before else []), *row["points"]]
        self.live[shard] = cast(LiveRow, {**row, "points": points})
        self._news.put_nowait(("live", {"shards": {shard: row}}))

    def drop(self) -> None:
        """The line breaks."""
        self.state = "reconnecting"
        self.problem = "the engine went away"

    def restore(self) -> None:
        self.state = "connected"
        self.problem = None
        self._news.put_nowait(("connected", {}))

    def notify(self, method: str, **params: Any) -> None:
        self._news.put_nowait((method, params))

    def asked(self, method: str) -> list[dict[str, Any]]:
        """Parameters of every call of one method so far."""
        return [params for name, params in self.calls if name == method]

    # --- the client's side

    async def notifications(self) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        while True:
            yield await self._news.get()

    async def call(self, method: str, **params: Any) -> Any:
        if self.state != "connected":
            raise RpcError(DISCONNECTED, "not connected to the engine")
        self.calls.append((method, params))
        if method in self.refuse:
            raise self.refuse[method]
        if method in self.answers:
            return self.answers[method]
        return getattr(self, f"_{method}")(**params)

    def _subscribe(self, live: bool) -> dict[str, Any]:
        return {}

    def _pull(self, since: int, limit: int = 2000) -> dict[str, Any]:
        changed = sorted((row for row in self.rows.values() if row["seq"] > since), key=lambda row: row["seq"])
        rows = changed[: min(limit, self.page)]
        return {"rows": rows, "next": rows[-1]["seq"] if len(rows) < len(changed) else self.head, "head": self.head}

    def _live(self) -> dict[str, LiveRow]:
        return self.live

    def _curve(self, shards: list[str], metric: str, points: int) -> dict[str, Any]:
        return {shard: self.curves[shard] for shard in shards if shard in self.curves}

    def _log(self, shard: str, before: int | None, bytes: int) -> dict[str, Any]:
        text = self.logs.get(shard, "")
        end = len(text) if before is None else before
        start = max(end - bytes, 0)
        return {"text": text[start:end], "start": start, "end": end, "size": len(text)}

    def _diff(self, proposal: str) -> dict[str, Any]:
        text = self.diffs[proposal]
        return {"diff": text, "hash": hash_of(text), "parent": "4f2c9d1e07", "source": ""}

    def _decide(self, proposal: str, diff_hash: str, action: str, why: str, request_id: str) -> dict[str, Any]:
        row = cast(ProposalRow, self.rows[("proposal", proposal)])
        if diff_hash != row["diff_hash"]:
            raise RpcError(21, f"{proposal} has changed since it was shown: read it again", {"hash": row["diff_hash"]})
        if action == "undo":
            self.change("proposal", proposal, state="waiting", why=None, decided_by=None, experiment=None)
            return {"state": "waiting", "first": True, "by": None, "experiment": None}
        if row["state"] != "waiting":
            return {"state": row["state"], "first": False, "by": row["decided_by"], "experiment": row["experiment"]}
        if action == "defer":
            self.change("proposal", proposal, deferred=T0 + 1000 + self.head)
            return {"state": "waiting", "first": True, "by": None, "experiment": None}
        state = {"approve": "approved", "decline": "declined"}[action]
        self.change("proposal", proposal, state=state, why=why, decided_by="you", experiment=None)
        return {"state": state, "first": True, "by": "you", "experiment": "0010" if action == "approve" else None}

    def _proposer(self) -> dict[str, Any]:
        return {
            "proposer": "recording", "unasked": True, "model": "", "effort": "", "key": False,
            "left": ["no limit is set"], "stopped": None, "round": None,
        }  # fmt: skip

    def _propose(self, n: int, note: str, wait: bool, request_id: str) -> dict[str, Any]:
        return {"added": [], "stopped": None}

    def _price(self, experiment: str) -> dict[str, Any]:
        sentence = (
            "runs 3 to 8 pairs on fresh seeds; merged by itself if they bear it out; the trunk then moves under 0007"
        )
        return {"pairs": [3, 8], "shards": 6, "seconds": None, "restarts": ["0007"], "sentence": sentence}

    def _bundle_price(self, experiments: list[str]) -> dict[str, Any]:
        price = self._price(experiments[0])
        sentence = f"puts {' and '.join(experiments)} together, of which +0.0300 is expected; {price['sentence']}"
        return {**price, "sentence": sentence, "parts": experiments, "shrunk": [0.02, 0.01], "promised": 0.03}

    def _bundle(
        self, experiments: list[str], diff_hashes: list[str], why: str, request_id: str, full: bool = False
    ) -> dict[str, Any]:
        return {"state": "confirming", "experiment": "0012", "seeds": [1000, 1001, 1002]}

    def _sign(self, experiment: str, diff_hash: str, why: str, request_id: str, full: bool = False) -> dict[str, Any]:
        return {"state": "confirming", "trunk": "", "seeds": [1000, 1001, 1002]}

    def _stop(self, id: str, why: str, request_id: str) -> dict[str, Any]:
        return {"state": "stopped"}


def hash_of(diff: str) -> str:
    return hashlib.sha256(diff.encode("utf-8", "surrogatepass")).hexdigest()


# --- rows


def lab_row(**changes: Any) -> LabRow:
    row: dict[str, Any] = {
        "kind": "lab",
        "id": "lab",
        "seq": 0,
        "name": "nanolm",
        "root": "/home/ada/nanolm",
        "metric": "val_bpb",
        "direction": "min",
        "unit": "bits per byte",
        "compare": "tokens",
        "scored_by": "referee",
        "trunk": "4f2c9d1e07aa",
        "trunk_arm": "trunk-1",
        "rungs": ["screen"],
        "seeds": SEEDS,
        "slots": 2,
        "isolation": "box 3",
        "ask": "always",
        "proposer": "recording",
        "phase": "running",
        "config_error": None,
        "loss": "loss",
    }
    return cast(LabRow, {**row, **changes})


def proposal_row(id_: str, hypothesis: str, diff: str | None, **changes: Any) -> ProposalRow:
    files: list[dict[str, Any]] = []
    for line in (diff or "").split("\n"):
        if line.startswith("+++ b/"):
            files.append({"path": line[6:], "added": 0, "removed": 0, "status": "M"})
        elif files and line[:1] in "+-" and not line.startswith("---"):
            files[-1]["added" if line[:1] == "+" else "removed"] += 1
    row: dict[str, Any] = {
        "kind": "proposal",
        "id": id_,
        "seq": 0,
        "state": "waiting",
        "hypothesis": hypothesis,
        "mechanism": "",
        "prediction": "",
        "category": "architecture",
        "proposer": "recording",
        "parent": "4f2c9d1e07aa",
        "diff_hash": hash_of(diff) if diff else None,
        "files": files,
        "risks": [],
        "refusal": None,
        "detail": None,
        "why": None,
        "decided_by": None,
        "experiment": None,
        "created": T0 + int(id_[1:]),
    }
    return cast(ProposalRow, {**row, **changes})


def experiment_row(id_: str, hypothesis: str, **changes: Any) -> ExperimentRow:
    commit = hashlib.sha1(id_.encode()).hexdigest()
    slug = "-".join(hypothesis.lower().replace(",", "").split()[:3])
    number = int(id_[-4:]) if id_.isdigit() else 0
    row: dict[str, Any] = {
        "kind": "experiment",
        "id": id_,
        "seq": 0,
        "role": "experiment",
        "state": "judged",
        "hypothesis": hypothesis,
        "category": "architecture",
        "proposal": f"p{id_}",
        "branch": f"exp/{id_}-{slug}",
        "parent": "4f2c9d1e07aa",
        "baseline": "trunk-1",
        "commit": commit,
        "tree": commit,
        "rung": "screen",
        "verdict": None,
        "pairs": [],
        "why": None,
        "created": T0 + 100 * number,
    }
    return cast(ExperimentRow, {**row, **changes})


def shard_row(experiment: str, seed: int, **changes: Any) -> ShardRow:
    row: dict[str, Any] = {
        "kind": "shard",
        "id": f"{experiment}.screen.s{seed}.a1",
        "seq": 0,
        "experiment": experiment,
        "seed": seed,
        "rung": "screen",
        "attempt": 1,
        "state": "ended",
        "outcome": "finished",
        "metric": None,
        "reported": None,
        "sources": {},
        "slot": seed % 2,
        "started": T0,
        "ended": T0 + 11.5,
        "detail": None,
    }
    return cast(ShardRow, {**row, **changes})


def verdict_row(name: str, differences: list[float], sentence: str) -> VerdictRow:
    n = len(differences)
    mean = sum(differences) / n
    spread = math.sqrt(sum((each - mean) ** 2 for each in differences) / max(n - 1, 1)) if n > 1 else 0.0
    half = 4.303 * spread / math.sqrt(n)
    return VerdictRow(
        verdict=name, rung="screen", effect=mean, lo=mean - half, hi=mean + half, se=spread / math.sqrt(n), n=n,
        sentence=sentence,
    )  # fmt: skip


def loss_curve(final: float, seed: int, upto: int = STEPS, start: float = 5.6) -> list[tuple[int, float | None]]:
    """A training loss that falls like one: fast at first, noisy, the same noise for the same seed."""
    dice = random.Random(seed)
    end = final * 0.69 + 2.5 * (final - 2.0138)
    points: list[tuple[int, float | None]] = []
    for step in range(0, upto + 1, 3):
        noise = dice.gauss(0, 0.035)
        points.append((step, end + (start - end) * math.exp(-step / 28) + 0.55 * math.exp(-step / 130) + noise))
    return points


# --- the story


SOURCE = '''"""A small language model over bytes."""

import math

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """One layer: attention, then a feed-forward network, each added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attend = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Model(nn.Module):
    def __init__(self, width: int = 128, layers: int = 4, heads: int = 4, context: int = 256) -> None:
        super().__init__()
        self.embed = nn.Embedding(256, width)
        self.place = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.head = nn.Linear(width, 256, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens) + self.place.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def rate(step: int, steps: int, peak: float = 3e-4) -> float:
    """Learning rate: linear warm-up, then constant."""
    return peak * min(1.0, (step + 1) / 20)
'''


def edit(*changes: tuple[str, str], path: str = "model.py") -> str:
    after = SOURCE
    for old, new in changes:
        assert old in after, old
        after = after.replace(old, new)
    lines = difflib.unified_diff(SOURCE.split("\n"), after.split("\n"), f"a/{path}", f"b/{path}", lineterm="")
    return "\n".join(lines) + "\n"


RELU2 = edit(
    (
        "        return x + self.down(F.gelu(self.up(self.norm2(x))))",
        "        hidden = F.relu(self.up(self.norm2(x)))\n        return x + self.down(hidden * hidden)  # squared: sparse",
    )
)
COSINE = edit(
    ('    """Learning rate: linear warm-up, then constant."""\n    return peak * min(1.0, (step + 1) / 20)',
     '    """Learning rate: linear warm-up, then a cosine down to a tenth."""\n    warm = min(1.0, (step + 1) / 20)\n'
     "    return peak * warm * (0.55 + 0.45 * math.cos(math.pi * step / steps))"),
    ("peak: float = 3e-4", "peak: float = 1e-3"),
)  # fmt: skip
NORM = edit(
    ("self.embed(tokens) + self.place.weight[: tokens.shape[1]]",
     "self.norm0(self.embed(tokens) + self.place.weight[: tokens.shape[1]])"),
    ("        self.blocks = nn", "        self.norm0 = nn.LayerNorm(width)\n        self.blocks = nn"),
)  # fmt: skip
TIED = edit(
    (
        "        self.head = nn.Linear(width, 256, bias=False)",
        "        self.head = nn.Linear(width, 256, bias=False)\n        self.head.weight = self.embed.weight",
    )
)


def _judged(
    engine: ScriptedEngine, id_: str, hypothesis: str, verdict: str, gains: list[float], sentence: str, **changes: Any
) -> None:
    pairs = [
        PairRow(seed=seed, trunk=TRUNK_SCORES[seed], candidate=round(TRUNK_SCORES[seed] - gain, 4), difference=gain)
        for seed, gain in zip(SEEDS, gains, strict=False)
    ]
    engine.put(experiment_row(id_, hypothesis, verdict=verdict_row(verdict, gains, sentence), pairs=pairs, **changes))
    for pair in pairs:
        add_finished(engine, id_, pair["seed"], cast(float, pair["candidate"]))


def add_finished(engine: ScriptedEngine, experiment: str, seed: int, score: float) -> None:
    row = shard_row(
        experiment, seed, metric=score, reported=round(score - 0.004, 4),
        sources={"code": round(score * 1.08, 4), "docs": round(score * 0.98, 4), "stories": round(score * 0.81, 4)},
    )  # fmt: skip
    engine.put(row)
    points = loss_curve(score, seed)
    engine.curves[row["id"]] = {"steps": [step for step, _ in points], "values": [value for _, value in points]}
    engine.logs[row["id"]] = log_text(points, score)


def log_text(points: list[tuple[int, float | None]], score: float | None = None) -> str:
    lines = [
        "nanolm: 4 layers, width 128, 826k parameters, 1 thread",
        "data: code 0.45, docs 0.20, stories 0.20, arithmetic 0.15",
    ]
    for step, value in points[::4]:
        shown = "nan" if value is None else f"{value:.4f}"
        lines.append(f"step {step:>4}/{STEPS}  loss {shown}  lr 3.0e-04  {51000 + (step * 37) % 900} tok/s")
    if score is not None:
        lines += ["saved checkpoint at step 300", f"referee: val_bpb {score:.4f} over 65,536 bytes of split search"]
    return "\n".join(lines) + "\n"


def lab_in_progress() -> ScriptedEngine:
    """A lab some way in: a trunk with its noise, nine experiments of every fate, six proposals to read."""
    engine = ScriptedEngine()
    engine.put(lab_row())
    engine.put(experiment_row("trunk-1", "trunk as of your branch main", role="trunk", category="", proposal=None,
                              branch="cockpit/trunk", baseline=None, created=T0))  # fmt: skip
    for seed, score in zip(SEEDS, TRUNK_SCORES, strict=True):
        add_finished(engine, "trunk-1", seed, score)
    _judged(engine, "0001", "Warm up for 40 steps instead of 20", "not-solid", [0.0011, -0.0024, 0.0017],
            "the interval includes zero on 3 seeds", category="schedule")  # fmt: skip
    _judged(engine, "0002", "Cosine decay with a three times higher peak rate", "solid", [0.0712, 0.0688, 0.0741],
            "better on all 3 seeds; the whole interval lies above zero", category="schedule")  # fmt: skip
    _judged(engine, "0003", "Drop the second layer norm", "harmful", [-0.0312, -0.0275, -0.0351],
            "worse on all 3 seeds; the whole interval lies below zero", category="architecture")  # fmt: skip
    engine.put(experiment_row("0004", "Train in half precision without loss scaling", category="systems",
                              verdict=VerdictRow(verdict="broken", rung="screen", effect=None, lo=None, hi=None, se=None, n=0,
                                                 sentence="its own code made the loss non-finite on seed 0")))  # fmt: skip
    engine.put(
        shard_row(
            "0004", 0, outcome="nonfinite", detail="loss was nan at step 42; stopped by the watcher", ended=T0 + 3
        )
    )
    bad = [*loss_curve(2.2, 0, 40), (42, None), (45, None)]
    engine.curves["0004.screen.s0.a1"] = {"steps": [s for s, _ in bad], "values": [v for _, v in bad]}
    engine.logs["0004.screen.s0.a1"] = log_text(bad) + "watcher: loss is not finite at step 42\n"
    _judged(engine, "0005", "Squared ReLU in the feed-forward network", "solid", [0.0143, 0.0109, 0.0127],
            "better on all 3 seeds; the whole interval lies above zero", category="architecture")  # fmt: skip
    engine.put(experiment_row("0006", "Rotary positions in place of learned ones", category="architecture",
                              verdict=VerdictRow(verdict="broken", rung="screen", effect=None, lo=None, hi=None, se=None, n=0,
                                                 sentence="its own code crashed on seed 0")))  # fmt: skip
    engine.put(shard_row("0006", 0, outcome="crashed", ended=T0 + 2,
                         detail="RuntimeError: The size of tensor a (32) must match the size of tensor b (64) "
                                 "at dimension 3"))  # fmt: skip
    engine.logs["0006.screen.s0.a1"] = (
        'Traceback (most recent call last):\n  File "train.py", line 212, in <module>\n    main()\n'
        "RuntimeError: The size of tensor a (32) must match the size of tensor b (64)\n"
    )
    running_story(engine)
    proposals_story(engine)
    return engine


def running_story(engine: ScriptedEngine) -> None:
    gain = 0.0231
    pair = PairRow(seed=0, trunk=TRUNK_SCORES[0], candidate=round(TRUNK_SCORES[0] - gain, 4), difference=gain)
    so_far = VerdictRow(verdict="undecided", rung="screen", effect=gain, lo=None, hi=None, se=None, n=1,
                        sentence="1 pair so far; a verdict takes 3")  # fmt: skip
    engine.put(experiment_row("0007", "More stories, less arithmetic in the data mix", state="running", category="data mix",
                              verdict=so_far, pairs=[pair]))  # fmt: skip
    add_finished(engine, "0007", 0, TRUNK_SCORES[0] - gain)
    for seed, upto in ((1, 210), (2, 96)):
        engine.put(shard_row("0007", seed, state="running", outcome=None, ended=None, slot=seed - 1))
        points = loss_curve(TRUNK_SCORES[seed] - gain, seed, upto)
        advance(engine, f"0007.screen.s{seed}.a1", points)
        engine.logs[f"0007.screen.s{seed}.a1"] = log_text(points)
    engine.put(experiment_row("0008", "Tie the output head to the embedding", state="queued", category="architecture"))
    for seed in SEEDS:
        engine.put(shard_row("0008", seed, state="queued", outcome=None, started=None, ended=None, slot=None))
    engine.put(experiment_row("0009", "Weight decay 0.1 on matrices only", state="stopped", category="regularisation",
                              why="stopped by Ada: frees the slots for something else"))  # fmt: skip


def advance(engine: ScriptedEngine, shard: str, points: list[tuple[int, float | None]]) -> None:
    step, value = points[-1]
    left = (STEPS - step) / STEPS * 11.5
    engine.push_live(
        shard, LiveRow(step=step, steps=STEPS, value=value, tokens_per_s=51_200.0, eta_s=left, points=points)
    )


def proposals_story(engine: ScriptedEngine) -> None:
    def add(id_: str, hypothesis: str, diff: str | None, **changes: Any) -> None:
        engine.put(proposal_row(id_, hypothesis, diff, **changes))
        if diff is not None:
            engine.diffs[id_] = diff

    add("p0002", "Cosine decay with a three times higher peak rate", COSINE, state="approved", decided_by="Ada", why="",
        category="schedule", experiment="0002")  # fmt: skip
    add("p0008", "Twice as wide", edit(("width: int = 128", "width: int = 256")), state="declined", decided_by="Ada",
        why="wins only by more compute", category="architecture")  # fmt: skip
    add("p0010", "Normalise the embedding before the first block", NORM, category="architecture",
        mechanism="The token and place embeddings are added at unlike scales; the first attention layer sees the place far "
        "stronger than the token. A layer norm brings the sum to one scale before anything is learned on top of it.",
        prediction="val_bpb better by 0.005 to 0.015; no change in tokens per second worth naming")  # fmt: skip
    add("p0011", "Squared ReLU together with a cosine schedule", edit(
        ("        return x + self.down(F.gelu(self.up(self.norm2(x))))",
         "        hidden = F.relu(self.up(self.norm2(x)))\n        return x + self.down(hidden * hidden)"),
        ("    return peak * min(1.0, (step + 1) / 20)",
         "    return peak * min(1.0, (step + 1) / 20) * (0.55 + 0.45 * math.cos(math.pi * step / steps))")),
        category="architecture", mechanism="Both were solid alone; they act on different parts of the model.",
        prediction="val_bpb better by 0.07 to 0.09",
        risks=["changes two things at once: the architecture and the schedule"])  # fmt: skip
    add("p0012", "Tie the output head to the embedding", TIED, category="architecture",
        mechanism="Fewer parameters to learn from few tokens.", prediction="val_bpb better by 0.002 to 0.01")  # fmt: skip
    add("p0013", "Label smoothing of 0.1", None, state="refused", refusal="no-match", category="regularisation",
        detail="model.py: block 1: the text to be replaced is not in the file; the nearest place is line 41")  # fmt: skip
    add("p0014", "Score on shorter contexts", None, state="refused", refusal="protected", category="systems",
        detail="evaluate.py is protected: evaluation is not part of an experiment")  # fmt: skip


def main() -> None:
    """Open the cockpit on the story, with two shards that go on training."""
    import sys

    import cockpit.env  # noqa: F401
    from cockpit.app import open_cockpit

    engine = lab_in_progress()
    theme = sys.argv[1] if len(sys.argv) > 1 else None

    async def train() -> None:
        at = {1: 210, 2: 96}
        while True:
            await asyncio.sleep(0.5)
            for seed in at:
                shard = f"0007.screen.s{seed}.a1"
                if at[seed] < STEPS:
                    at[seed] = min(at[seed] + 6, STEPS)
                    points = loss_curve(TRUNK_SCORES[seed] - 0.0231, seed, at[seed])
                    advance(engine, shard, points[-2:])
                    engine.logs[shard] = log_text(points)

    async def run() -> int:
        training = asyncio.create_task(train())
        try:
            return await open_cockpit(engine, theme=theme)
        finally:
            training.cancel()

    sys.exit(asyncio.run(run()))


if __name__ == "__main__":
    main()
