"""Times restarting the engine on a ledger of 100,000 events, and attaching a client to it; the bar is 3 s for each.

    python benchmarks/attach.py [--events 100000] [--measured 2000] [--repeat 3]

The campaign never ran, but its ledger is a valid one: proposals, decisions, experiments, shards and verdicts as the engine
writes them, `--measured` shards with a metrics file, and a branch for every experiment. Exits 1 above the bar.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cockpit.attach import EngineDown, Session, connect, spawn, start_failure
from engine import events as e
from engine.campaign import Record, plan, setup_of
from engine.core import fold_one
from engine.lab import Lab, load
from engine.ledger import GENESIS, Ledger, seal
from engine.state import State
from engine.types import Outcome
from tests.campaigns import Campaign
from tests.tinylab import TinyLab, wait_for

BAR_S = 3.0
POINTS = 20


def write_ledger(lab: TinyLab, size: int) -> Campaign:
    """Fill the lab's ledger with a campaign of about `size` events; returns the campaign."""
    settings = load(lab.root)
    commit, tree = lab.git("rev-parse", "HEAD").strip(), lab.git("rev-parse", "HEAD^{tree}").strip()
    lab.git("branch", "cockpit/trunk", commit)
    campaign, luck = Campaign(setup_of(settings)), random.Random(1)
    arm = campaign.trunk_moves(commit, tree)
    campaign.run(arm, [3.0 + luck.gauss(0, 0.01) for _ in settings.seeds])
    while campaign.state.head < size:
        proposal = campaign.propose()
        if luck.random() < 0.2:
            campaign.decline(proposal)
        else:
            experiment = campaign.approve(proposal)
            _race(campaign, settings, experiment, luck)
    lines, prev = [], GENESIS
    for n, t, event in campaign.events:
        line, prev = seal(1, n, t, *e.dump(event), prev)
        lines.append(line)
    lab.state.make()
    lab.state.ledger.write_bytes(b"".join(lines))
    return campaign


def _race(campaign: Campaign, settings: Lab, experiment: str, luck: random.Random) -> None:
    """Run the experiment's seeds, one after the other, until the evidence decides."""
    gain = luck.gauss(0, 0.02)
    for seed in settings.seeds:
        shard = campaign.start(experiment, seed)
        if luck.random() < 0.03:
            campaign.end(shard, Outcome.CRASHED)
        else:
            campaign.end(shard, Outcome.FINISHED, 3.0 - gain + luck.gauss(0, 0.01))
        records = [step.event for step in plan(campaign.state, settings, 1) if isinstance(step, Record)]
        campaign.write(*records)
        if campaign.state.experiments[experiment]["state"] == "judged":
            return


def write_branches(lab: TinyLab, campaign: Campaign) -> int:
    """A branch of one commit for every experiment, made in one go; returns how many."""
    head = lab.git("rev-parse", "HEAD").strip()
    names = [row["branch"] for row in campaign.state.experiments.values() if row["role"] == "experiment"]
    stream = "".join(
        f"commit refs/heads/{name}\ncommitter B <b@localhost> {n} +0000\ndata 1\nx\nfrom {head}\n\n"
        for n, name in enumerate(names)
    )
    subprocess.run(["git", "-C", str(lab.root), "fast-import", "--quiet"], input=stream.encode(), check=True)
    return len(names)


def write_metrics(lab: TinyLab, campaign: Campaign, count: int) -> int:
    """Give `count` shards the metrics file that they would have written; returns how many got one."""
    text = "".join(f'{{"step": {n}, "loss": {3 + 1 / (1 + n)}}}\n' for n in range(POINTS))
    shards = list(campaign.state.shards)[:count]
    for shard in shards:
        (lab.state.runs / shard).mkdir()
        (lab.state.runs / shard / "metrics.jsonl").write_text(text)
    return len(shards)


def folded(ledger: Path) -> State:
    """The state as an engine folds it, with the collector off as there."""
    state = State()
    gc.disable()
    Ledger(ledger, each=partial(fold_one, state)).close()
    gc.enable()
    return state


def timed(what: str, act: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that `act` takes, printed, and what it returns."""
    start = time.perf_counter()
    value = act()
    taken = time.perf_counter() - start
    print(f"{taken:6.2f} s {what}", flush=True)
    return taken, value


def start_engine(lab: TinyLab) -> Session:
    """Start the lab's engine and return when it has answered a hello."""
    lab.engine = spawn(lab.root, lab.state)
    session: Session = wait_for(lambda: reached(lab))
    return session


def reached(lab: TinyLab) -> Session | None:
    """A session, or None while the engine is not there yet; raises when it has ended."""
    assert lab.engine is not None
    try:
        return connect(lab.root, start=False)
    except EngineDown:
        if lab.engine.poll() is not None:
            raise EngineDown(start_failure(lab.state)) from None
        return None


def stop_engine(lab: TinyLab, session: Session) -> None:
    session.call("shutdown")
    session.close()
    assert lab.engine is not None
    lab.engine.wait(60)


def attach(lab: TinyLab) -> int:
    """Connect, greet and pull everything, as a cockpit does before its first full screen; returns the number of rows."""
    session = connect(lab.root, start=False)
    rows, _ = session.rows()
    session.close()
    return len(rows)


def main() -> int:
    """Print every time, and the two that count as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--measured", type=int, default=2_000)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="attach-") as place:
        os.environ["XDG_RUNTIME_DIR"] = place
        lab = TinyLab(Path(place) / "lab", [], slots=2)
        try:
            return measure(lab, options)
        finally:
            lab.stop()


def measure(lab: TinyLab, options: argparse.Namespace) -> int:
    campaign = write_ledger(lab, options.events)
    experiments, measured = write_branches(lab, campaign), write_metrics(lab, campaign, options.measured)
    print(
        f"{campaign.state.head} events, {experiments} experiments, {len(campaign.state.shards)} shards, {measured} measured"
    )
    timed("to read and fold the ledger", lambda: folded(lab.state.ledger))
    _, session = timed("to start the engine without an index, until it answers", lambda: start_engine(lab))
    timed("to pull everything while it indexes", session.rows)
    timed("more until the index is whole", lambda: session.call("rank", limit=1))
    restarts, attaches = [], []
    for _ in range(options.repeat):
        stop_engine(lab, session)
        taken, session = timed("to restart with an index, until it answers", lambda: start_engine(lab))
        restarts.append(taken)
        taken, rows = timed("to attach: connect, greet, pull everything", lambda: attach(lab))
        attaches.append(taken)
    print(f"{rows} rows were pulled; the bar is {BAR_S:.0f} s for each")
    stop_engine(lab, session)
    restart, attached = min(restarts), min(attaches)
    print(f"restart {restart:.1f} s, attach {attached:.1f} s")
    return 0 if max(restart, attached) < BAR_S else 1


if __name__ == "__main__":
    sys.exit(main())
