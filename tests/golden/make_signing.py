"""Makes the golden ledger of signatures: one that is withdrawn and signed again, and merged when its fresh pairs bear it out;
the trunk then moves under an experiment that is replayed there, and under one that conflicts.

    python tests/golden/make_signing.py [--force]

See make.py beside it: the same promise holds for these files.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from cockpit.attach import Session  # noqa: E402
from tests.golden.make import anonymous, make  # noqa: E402
from tests.test_crash import anchored, gains  # noqa: E402
from tests.tinylab import TinyLab, better, decide, rows, wait_for, waiting  # noqa: E402


def main() -> int:
    """Make both files. Exit code 2 when they exist and `--force` was not given."""
    return make("v1-signing", "--force" in sys.argv, _live_through)


def _live_through(root: Path) -> bytes:
    lab = TinyLab(root, [better(1), *gains(1), better(2)], extra="\n[judge]\nfresh = true\n")
    anchored(lab, 1)
    try:
        with lab.session() as session:
            _sign_twice(lab, session)
        lab.stop()
        return anonymous(lab)
    finally:
        lab.end()


def _sign_twice(lab: TinyLab, session: Session) -> None:
    first = wait_for(lambda: len(found := waiting(session)) == 3 and found)
    for each in first:
        decide(session, each)
    for name in ("0001", "0002", "0003"):
        _until(session, "judged", name)
    row = first[0]
    lab.hold.touch()
    session.call("sign", experiment="0001", diff_hash=row["diff_hash"], why="clear", request_id="s1")
    wait_for(lambda: any(each.get("fresh") and each["state"] == "running" for each in rows(session, "shard").values()))
    shard = next(each["id"] for each in rows(session, "shard").values() if each.get("fresh"))
    session.call("stop", id=shard, why="the machine is wanted", request_id="x1")
    _until(session, "judged")
    lab.hold.unlink()
    session.call("sign", experiment="0001", diff_hash=row["diff_hash"], why="clear", request_id="s2")
    _until(session, "merged")
    _until(session, "judged", "0002.r2")
    _until(session, "conflicted", "0003")


def _until(session: Session, state: str, name: str = "0001") -> None:
    wait_for(lambda: rows(session, "experiment").get(name, {}).get("state") == state)


if __name__ == "__main__":
    sys.exit(main())
