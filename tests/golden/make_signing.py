"""Makes the golden ledger of signatures: one that is withdrawn and signed again, and merged when its fresh pairs bear it out.

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
from tests.tinylab import TinyLab, better, decide, rows, wait_for, waiting  # noqa: E402


def main() -> int:
    """Make both files. Exit code 2 when they exist and `--force` was not given."""
    return make("v1-signing", "--force" in sys.argv, _live_through)


def _live_through(root: Path) -> bytes:
    lab = TinyLab(root, [better(1)], extra="\n[judge]\nfresh = true\n")
    try:
        with lab.session() as session:
            _sign_twice(lab, session)
        lab.stop()
        return anonymous(lab)
    finally:
        lab.end()


def _sign_twice(lab: TinyLab, session: Session) -> None:
    row = wait_for(lambda: waiting(session))[0]
    decide(session, row)
    _until(session, "judged")
    lab.hold.touch()
    session.call("sign", experiment="0001", diff_hash=row["diff_hash"], why="clear", request_id="s1")
    wait_for(lambda: any(each.get("fresh") and each["state"] == "running" for each in rows(session, "shard").values()))
    shard = next(each["id"] for each in rows(session, "shard").values() if each.get("fresh"))
    session.call("stop", id=shard, why="the machine is wanted", request_id="x1")
    _until(session, "judged")
    lab.hold.unlink()
    session.call("sign", experiment="0001", diff_hash=row["diff_hash"], why="clear", request_id="s2")
    _until(session, "merged")


def _until(session: Session, state: str) -> None:
    wait_for(lambda: rows(session, "experiment").get("0001", {}).get("state") == state)


if __name__ == "__main__":
    sys.exit(main())
