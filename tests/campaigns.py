"""Makes valid ledgers of campaigns that never ran: each act is written as the engine would write it, without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine import events as e
from engine.state import State, reduce
from engine.types import ExperimentState, Outcome, ProposalState, ShardState

WHO = {"kind": "person", "name": "Ada <ada@example.org>", "os_user": "ada", "host": "workstation"}
LAB = {
    "name": "tiny",
    "root": "/home/ada/lab",
    "metric": "val",
    "direction": "min",
    "unit": "nats",
    "compare": "tokens",
    "scored_by": "referee",
    "rungs": ["screen", "confirm"],
    "seeds": [0, 1, 2],
    "slots": 2,
    "isolation": "limits only",
    "ask": "always",
    "proposer": "recording",
}
SETUP = "as configured"


class Campaign:
    """The state of a campaign, and its acts. `events` keeps them all, to be folded again."""

    def __init__(self, setup: str = SETUP) -> None:
        self.state = State()
        self.events: list[tuple[int, float, Any]] = []
        self.setup = setup
        self.write(e.EngineStarted(1, "workstation", "boot", "0"), e.ConfigLoaded("c" * 64, dict(LAB)))
        self.trunk_moves()

    def write(self, *events: Any) -> None:
        """Fold events as the next ones, a second apart."""
        for event in events:
            number = self.state.head + 1
            self.events.append((number, 1_790_000_000.0 + number, event))
            reduce(self.state, *self.events[-1])

    def trunk_moves(self, commit: str = "", tree: str = "") -> str:
        """The trunk gets a new commit; returns the id of its arm."""
        number = self.state.counts["trunk"] + 1
        arm = f"trunk-{number}"
        commit, tree = commit or f"{number:040x}", tree or f"{number:040d}"
        self.write(e.ArmAdded(arm, commit, tree, "cockpit/trunk", "it moved"))
        return arm

    @property
    def trunk(self) -> str:
        """The commit of the trunk."""
        return str(self.state.experiments[self.state.trunk_arm]["commit"])

    def propose(self, refusal: str | None = None, category: str = "optimizer", claims: str = "") -> str:
        number = len(self.state.proposals) + 1
        name, diff = f"p{number:04d}", None if refusal else f"{number:064x}"
        files = [{"path": "train.py", "added": number, "removed": 1, "status": "M"}]
        self.write(
            e.ProposalAdded(
                name,
                f"Idea {number}",
                "",
                "",
                category,
                "recording",
                self.trunk,
                f"{number:064d}",
                diff,
                files,
                claims=claims,
            )
            if not refusal
            else e.ProposalAdded(
                name, "No idea", "", "", "optimizer", "recording", self.trunk, f"{number:064d}", refusal=refusal
            )
        )
        return name

    def decline(self, proposal: str) -> None:
        self.write(self._decided(proposal, "decline"))

    def approve(self, proposal: str = "", *, branched: bool = True) -> str:
        """Approve a proposal (a new one by default) and make its branch; returns the experiment."""
        proposal = proposal or self.propose()
        number = self.state.counts["experiment"] + 1
        name, branch = f"{number:04d}", f"exp/{number:04d}-idea"
        parent, arm = self.trunk, self.state.trunk_arm
        self.write(
            self._decided(proposal, "approve"),
            e.ExperimentIntended(name, proposal, parent, arm, branch, 1.0, ["Ada", "a@b"], "Idea", "screen"),
        )
        if branched:
            self.branch(name)
        return name

    def branch(self, experiment: str) -> None:
        self.write(e.ExperimentBranched(experiment, experiment * 10, experiment[::-1] * 10, f"exp/{experiment}-idea"))

    def _decided(self, proposal: str, action: str) -> e.Decided:
        number = self.state.counts["decision"] + 1
        diff = self.state.proposals[proposal]["diff_hash"]
        return e.Decided(f"d{number:05d}", proposal, action, diff, WHO, "because", f"request-{number}")

    def stop(self, target: str, *shards: str) -> None:
        number = self.state.counts["decision"] + 1
        self.write(e.StopIntended(f"d{number:05d}", target, WHO, "enough", f"request-{number}", list(shards)))

    def smoke(self, arm: str, setup: str, outcome: Outcome | None = Outcome.FINISHED, seed: int = 0) -> str:
        """An arm's smoke begins, and ends as `outcome` says; returns its id."""
        attempt = 1 + sum(row["rung"] == "smoke" for row in self.state.shards_of(arm))
        name = f"{arm}.smoke.s{seed}.a{attempt}"
        commit, tree = str(self.state.experiments[arm]["commit"]), str(self.state.experiments[arm]["tree"])
        self.write(e.ShardIntended(name, arm, seed, "smoke", attempt, 0, commit, tree, setup, smoke=True))
        self.write(e.ShardStarted(name, "pid 7"))
        if outcome is not None:
            failed = outcome is not Outcome.FINISHED
            self.write(e.ShardEnded(name, outcome, "what went wrong" if failed else "", 2.0, said="last words"))
        return name

    def sign(self, name: str, setup: str = "") -> str:
        """A solid experiment is signed, and waits for its fresh pairs on seeds from 1000 on."""
        row, number = self.state.experiments[name], self.state.counts["decision"] + 1
        seeds = list(range(1000, 1016))
        shown = dict(row["verdict"] or {})
        decision, request = f"d{number:05d}", f"request-{number}"
        theirs, setup = str(row["commit"]), setup or self.setup
        self.write(
            e.SignIntended(
                name, decision, "", shown, [], self.trunk, theirs, row["rung"], setup, seeds, WHO, "", request
            )
        )
        return name

    def retune(self, name: str) -> str:
        """Both sides of an experiment are to be compared at their own best rate; returns the retuning."""
        row, number = self.state.experiments[name], self.state.counts["decision"] + 1
        retune, decision = f"t{len(self.state.retunes) + 1:04d}", f"d{number:05d}"
        arm, factors = str(row["baseline"]), [0.5, 1.0, 2.0]
        what = (retune, name, decision, arm, "screen", self.setup, factors, [2000], [2001, 2002, 2003], 3)
        self.write(e.RetuneIntended(*what, WHO, "", f"request-{number}"))
        return retune

    def intend(
        self,
        arm: str,
        seed: int,
        rung: str = "screen",
        slot: int = 0,
        fresh: bool = False,
        *,
        canary: bool = False,
        setup: str = "",
        retune: str = "",
    ) -> str:
        """A shard is about to be started; returns its id."""
        attempt = 1 + sum(row["seed"] == seed and row["rung"] == rung for row in self.state.shards_of(arm))
        name = f"{arm}.{rung}.s{seed}.a{attempt}"
        commit, tree = str(self.state.experiments[arm]["commit"]), str(self.state.experiments[arm]["tree"])
        own = setup or self.setup
        kinds: dict[str, Any] = {"fresh": fresh, "canary": canary, "retune": retune}
        self.write(e.ShardIntended(name, arm, seed, rung, attempt, slot, commit, tree, own, **kinds))
        return name

    def start(
        self, arm: str, seed: int, rung: str = "screen", slot: int = 0, fresh: bool = False, *, canary: bool = False
    ) -> str:
        name = self.intend(arm, seed, rung, slot, fresh, canary=canary)
        self.write(e.ShardStarted(name, "pid 7"))
        return name

    def end(self, shard: str, outcome: Outcome, metric: float | None = None) -> None:
        """A shard ends; one that finished is scored with `metric`."""
        if outcome is Outcome.FINISHED:
            self.write(e.ShardEnded(shard, outcome, "", metric, True), e.ScoreIntended(shard))
            self.write(e.ShardScored(shard, outcome, "", metric, {"code": metric or 0.0}))
        else:
            self.write(e.ShardEnded(shard, outcome, "what went wrong"))

    def run(self, arm: str, metrics: Sequence[float | Outcome], rung: str = "screen") -> None:
        """One shard a seed, each started and ended: a number is its score, an outcome how it failed."""
        for seed, result in enumerate(metrics):
            shard = self.start(arm, seed, rung)
            if isinstance(result, Outcome):
                self.end(shard, result)
            else:
                self.end(shard, Outcome.FINISHED, result)


def wander(campaign: Campaign, choices: Sequence[int]) -> None:
    """Take one act a choice, each of those that are possible as the campaign stands."""
    for choice in choices:
        acts = _possible(campaign)
        act = acts[choice % len(acts)]
        act()


def _possible(c: Campaign) -> list[Any]:
    s = c.state
    acts: list[Any] = [c.propose, c.trunk_moves, lambda: c.propose("no-match")]
    acts.append(lambda: c.write(e.Paused(WHO, "lunch") if s.paused is None else e.Resumed(WHO)))
    acts.append(lambda: c.write(e.FindingNoted(f"f{s.head}", s.trunk_arm, "rule", "note", "look here")))
    acts.append(lambda: c.write(e.ConfigBroken("line 3") if s.head % 2 else e.ConfigLoaded("d" * 64, dict(LAB))))
    for name, row in s.proposals.items():
        if row["state"] == ProposalState.WAITING:
            acts += [lambda name=name: c.approve(name, branched=False), lambda name=name: c.decline(name)]
            acts.append(lambda name=name: c.write(e.ProposalRebased(name, "1" * 40, "e" * 64, [])))
    for name, arm in s.experiments.items():
        acts += _of_experiment(c, name) if arm["role"] == "experiment" else []
        if arm["commit"] is not None:
            acts.append(lambda name=name: c.intend(name, s.head % 3))
    for name in s.live:
        acts += _of_shard(c, name)
    return acts


def _of_experiment(c: Campaign, name: str) -> list[Any]:
    row, s = c.state.experiments[name], c.state
    if name in s.merges:
        done = e.MergeDone(name, "2" * 40, "3" * 40)
        return [lambda: c.write(done), lambda: c.write(e.MergeFailed(name, "not merged"))]
    if row["state"] == ExperimentState.JUDGED:
        intent = e.MergeIntended(
            name, f"d{s.counts['decision'] + 1:05d}", "", "", "", 1.0, [], "", WHO, "", f"m{s.head}"
        )
        solid = row["verdict"] is not None and row["verdict"]["verdict"] == "solid"
        if name in s.retuning:
            return [lambda: c.write(intent), *_of_retune(c, name)]
        return [
            lambda: c.write(intent), lambda: c.retune(name), *([lambda: c.sign(name)] if solid and not s.signoffs else []),
        ]  # fmt: skip
    if name in s.signoffs:
        return [lambda: c.write(e.SignWithdrawn(name, "the trunk moved")), lambda: c.stop(name)]
    if row["state"] not in (ExperimentState.QUEUED, ExperimentState.RUNNING):
        return [lambda: c.write(e.StopDone(name))] if name in s.stops else []
    if row["commit"] is None:
        return [lambda: c.branch(name), lambda: c.write(e.ExperimentFailed(name, "no branch could be made"))]
    if row["baseline"] != s.trunk_arm:
        number, arm = f"{name.partition('.')[0]}.r{s.head}", s.trunk_arm
        again = e.ExperimentReplayed(number, name, c.trunk, arm, f"exp/{number}", 1.0, ["Ada", "a@b"], "Idea", "screen")
        conflict = e.ReplayEnded(name, "conflicted", "it conflicts with the trunk in train.py")
        return [lambda: c.write(again), lambda: c.write(conflict)]
    shards = [each["id"] for each in s.shards_of(name) if each["id"] in s.live]
    pairs = [{"seed": 0, "trunk": 2.0, "candidate": 1.5, "difference": 0.5}]
    verdict = e.VerdictReached(
        name, row["rung"], "solid", 0.5, 0.4, 0.6, 0.1, 3, "better", pairs, str(row["baseline"]), s.head % 2 == 0
    )
    return [lambda: c.stop(name, *shards), lambda: c.write(verdict), lambda: c.write(e.RungReached(name, "confirm"))]


def _of_retune(c: Campaign, name: str) -> list[Any]:
    retune, arm = c.state.retuning[name], str(c.state.experiments[name]["baseline"])
    tuned = e.RetuneTuned(retune, 2.0, 1.0, [{"side": "trunk", "factor": 2.0, "mean": 1.5}], "tuned")
    ended = e.RetuneEnded(retune, "explained by learning rate", "it is the rate", 0.0, -0.1, 0.1, 3)
    shards = [lambda each=each: c.intend(each, 2000, "screen@2", retune=retune) for each in (arm, name)]
    return [*shards, lambda: c.write(tuned), lambda: c.write(ended), lambda: c.stop(name)]


def _of_shard(c: Campaign, name: str) -> list[Any]:
    state = c.state.shards[name]["state"]
    if state == ShardState.QUEUED:
        return [lambda: c.write(e.ShardStarted(name, "pid 8")), lambda: c.end(name, Outcome.LOST)]
    if state == ShardState.RUNNING:
        return [
            lambda: c.end(name, Outcome.CRASHED),
            lambda: c.end(name, Outcome.FINISHED, 2.0),
            lambda: c.write(e.ShardEnded(name, Outcome.FINISHED, "", 2.1, True)),
            lambda: c.stop(name, name),
        ]
    return [lambda: c.write(e.ShardScored(name, Outcome.FINISHED, "", 2.0))]
