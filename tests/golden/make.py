"""Makes the golden ledger: a researcher's whole day on a tiny lab, with every type of event in it at least once.

    python tests/golden/make.py [--force]

Later code must still fold `ledger-v1.jsonl` to `rows-v1.json`, so neither is ever made again for the same version of the
ledger: a changed meaning gets a new version, an upcaster, and a golden ledger of its own beside the old ones.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from cockpit.attach import Session  # noqa: E402
from engine import events as e  # noqa: E402
from engine import rpc  # noqa: E402
from engine.core import fold, os_user  # noqa: E402
from engine.ledger import GENESIS, VERSION, Ledger, read_lines, seal  # noqa: E402
from engine.opening import boot_id  # noqa: E402
from tests.tinylab import (  # noqa: E402
    CRASH,
    NO_MATCH,
    TinyLab,
    decide,
    proposal,
    rate,
    rows,
    wait_for,
    waiting,
)

PROPOSALS = (
    rate(3.0),
    proposal("Two more of everything", "WIDTH = 8", "WIDTH = 10", "architecture"),
    CRASH,
    NO_MATCH,
    rate(4.0),
    proposal("Less luck", "SEED_NOISE = 0.01", "SEED_NOISE = 0.02", "data mix"),
    rate(5.0),
)
CLIMB = 'climb = ["screen", "confirm"]\n\n[rungs.confirm]\nbudget = 8\ntimeout = "1m"\n\n[proposer]'


def main() -> int:
    """Make both files. Exit code 2 when they exist and `--force` was not given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--force", action="store_true", help="make this version's files again")
    force = parser.parse_args().force
    return make(f"v{VERSION}", force, _complete)


def make(name: str, force: bool, live_through: Callable[[Path], bytes]) -> int:
    """Make the ledger of that name and its rows, of what `live_through` lived through in a lab that it made at a path.

    Exit code 2 when they exist and `force` was not given."""
    ledger, expected = HERE / f"ledger-{name}.jsonl", HERE / f"rows-{name}.json"
    if ledger.exists() and not force:
        print(f"{ledger} exists: later code has to fold that very one", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="golden-") as place:
        os.environ["XDG_RUNTIME_DIR"] = place
        os.environ["GIT_CONFIG_GLOBAL"] = os.devnull
        raw = live_through(Path(place) / "lab")
    ledger.write_bytes(raw)
    state = fold([event for event, _ in read_lines(raw)])
    expected.write_text(json.dumps(list(state.since(0)), indent=1) + "\n")
    return 0


def _complete(root: Path) -> bytes:
    """A day in which every type of event comes up; the program ends with 1 when one did not."""
    raw = _live_through(root)
    missing = set(e.TYPES) - {event.type for event, _ in read_lines(raw)}
    if missing:
        print(f"no {', '.join(sorted(missing))} came up", file=sys.stderr)
        raise SystemExit(1)
    return raw


def _live_through(root: Path) -> bytes:
    lab = TinyLab(root, list(PROPOSALS), queue=7, slots=2)
    config = root / "cockpit.toml"
    config.write_text(config.read_text().replace("[proposer]", CLIMB))
    lab.git("commit", "-qam", "Two rungs")
    try:
        with lab.session() as session:
            _day(lab, session)
        lab.stop()
        _by_hand(lab)
        with lab.session() as session:  # a restart folds all of it once more
            assert all(check["ok"] for check in session.call("verify")["checks"])
    finally:
        lab.end()
    return anonymous(lab)


def _day(lab: TinyLab, session: Session) -> None:
    """Approve, decline, stop, sign, pull, pause: what a researcher can do in a day."""
    wait_for(lambda: len(waiting(session)) == 6)
    found = rows(session, "proposal")
    session.call("pause", why="reading first")
    session.call("resume")
    decide(session, found["p0001"])
    decide(session, found["p0003"])
    decide(session, found["p0005"], why="as well, as a second opinion")
    end(session, "0001", "judged")
    end(session, "0002", "judged")
    end(session, "0003", "judged")
    _take_branch(lab, session, found["p0006"])
    lab.hold.touch()
    decide(session, found["p0002"])
    wait_for(lambda: any(s["state"] == "running" for s in rows(session, "shard").values() if s["experiment"] == "0005"))
    session.call("stop", id="0005", why="the width was tried last year", request_id="stop-1")
    wait_for(lambda: all(s["state"] == "ended" for s in rows(session, "shard").values()))
    lab.hold.unlink()
    _sign_and_pull(lab, session, found)
    wait_for(lambda: rows(session, "experiment").get("trunk-3", {}).get("state") == "judged")


def end(session: Session, experiment: str, state: str) -> None:
    """Wait until an experiment is in that state."""
    wait_for(lambda: rows(session, "experiment").get(experiment, {}).get("state") == state)


def _take_branch(lab: TinyLab, session: Session, row: dict[str, object]) -> None:
    """Somebody else has the branch that an experiment wants, so that none can be made."""
    lab.git("branch", "exp/0004-less-luck", "main")
    decide(session, row)
    end(session, "0004", "failed")


def _sign_and_pull(lab: TinyLab, session: Session, found: dict[str, dict[str, object]]) -> None:
    """Sign an experiment, pull a note into the trunk, and fail to pull what conflicts with it; break the lab file a while."""
    session.call(
        "sign", experiment="0001", diff_hash=found["p0001"]["diff_hash"], request_id="sign-1", why="clear on both"
    )
    end(session, "0001", "merged")
    (lab.root / "notes.md").write_text("the rate was too low\n")
    lab.git("add", "notes.md")
    lab.git("commit", "-qm", "Take a note")
    session.call("trunk", action="pull")
    train = lab.root / "train.py"
    train.write_text(train.read_text().replace("RATE = 1.0", "RATE = 1.5"))
    lab.git("commit", "-qam", "A rate of my own")
    with suppress(rpc.RpcError):  # it conflicts
        session.call("trunk", action="pull")
    config = lab.root / "cockpit.toml"
    good = config.read_text()
    for text in (good.replace('"min"', '"down"'), good):
        config.write_text(text)
        wait_for(lambda text=text: (rows(session, "lab")["lab"]["config_error"] is None) == (text == good))


def _by_hand(lab: TinyLab) -> None:
    """What takes bad luck to come about, or a detector that is yet to be: the fold knows these events."""
    ledger = Ledger(lab.state.ledger)
    events = (
        e.MergeFailed("0003", "it conflicts with the trunk in train.py"),
        e.FindingNoted("f00001", "0001", "seed-spread", "warning", "one seed gives half of the effect"),
    )
    ledger.append_all([e.dump(event) for event in events])
    ledger.close()


def anonymous(lab: TinyLab) -> bytes:
    """The ledger with this machine's names and places taken out, sealed anew."""
    names = {str(lab.root): "/home/ada/lab", f"{os_user()}@{socket.gethostname()}": "ada@workstation"}
    names |= {socket.gethostname(): "workstation", boot_id(): "boot"}
    lines, prev = [], GENESIS
    for event, _ in read_lines(lab.state.ledger.read_bytes()):
        text = json.dumps(event.data)
        for old, new in names.items():
            text = text.replace(json.dumps(old)[1:-1], new) if old else text
        data = _person(json.loads(text))
        line, prev = seal(event.v, event.n, round(1_790_000_000 + event.n * 1.5, 3), event.type, data, prev)
        lines.append(line)
    return b"".join(lines)


def _person(data: dict[str, object]) -> dict[str, object]:
    who = data.get("who")
    if isinstance(who, dict) and who.get("os_user") == os_user():
        data["who"] = {**who, "os_user": "ada"}
    return {**data, "pid": 4242} if "pid" in data else data


if __name__ == "__main__":
    sys.exit(main())
