"""Makes the golden ledger of retunings: one that a person stops, and one that explains a gain by the learning rate.

    python tests/golden/make_retuning.py [--force]

See make.py beside it: the same promise holds for these files.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from cockpit.attach import Session  # noqa: E402
from tests.golden.make import anonymous, make  # noqa: E402
from tests.test_retuning import RATE, hand_over, tuned_lab  # noqa: E402
from tests.tinylab import TinyLab, decide, rows, wait_for, waiting  # noqa: E402


def main() -> int:
    """Make both files. Exit code 2 when they exist and `--force` was not given."""
    return make("v1-retuning", "--force" in sys.argv, _live_through)


def _live_through(root: Path) -> bytes:
    lab = hand_over(TinyLab(root, [RATE], **tuned_lab()))
    try:
        with lab.session() as session:
            _retune_twice(lab, session)
        lab.stop()
        return anonymous(lab)
    finally:
        lab.end()


def _retune_twice(lab: TinyLab, session: Session) -> None:
    decide(session, wait_for(lambda: waiting(session))[0])
    wait_for(lambda: rows(session, "experiment").get("0001", {}).get("state") == "judged")
    lab.hold.touch()
    session.call("retune", experiment="0001", why="is it the rate?", request_id="r1")
    wait_for(lambda: any("retune" in each and each["state"] == "running" for each in rows(session, "shard").values()))
    session.call("stop", id="0001", why="the machine is wanted", request_id="x1")
    wait_for(lambda: not any(each["state"] == "running" for each in rows(session, "shard").values()))
    lab.hold.unlink()
    session.call("retune", experiment="0001", why="now", request_id="r2")
    wait_for(lambda: rows(session, "retune").get("t0002", {}).get("ended"))
    wait_for(lambda: rows(session, "experiment")["0001"].get("asks"))


if __name__ == "__main__":
    sys.exit(main())
