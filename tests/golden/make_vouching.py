"""Makes the golden ledger of what vouches for the trunk: two experiments are signed together, their bundle is merged, and an
audit holds that merge to what it claimed.

    python tests/golden/make_vouching.py [--force]

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
from tests.tinylab import TinyLab, decide, rows, wait_for, waiting  # noqa: E402


def main() -> int:
    """Make both files. Exit code 2 when they exist and `--force` was not given."""
    return make("v1-vouching", "--force" in sys.argv, _live_through)


def _live_through(root: Path) -> bytes:
    lab = TinyLab(root, gains(2), extra="\n[judge]\nfresh = true\naudit = 1\n")
    anchored(lab, 2)
    try:
        with lab.session() as session:
            _sign_together(session)
        lab.stop()
        return anonymous(lab)
    finally:
        lab.end()


def _sign_together(session: Session) -> None:
    found = wait_for(lambda: len(these := waiting(session)) == 2 and these)
    for each in found:
        decide(session, each)
    names = ["0001", "0002"]
    wait_for(lambda: all(rows(session, "experiment").get(name, {}).get("state") == "judged" for name in names))
    diffs = [each["diff_hash"] for each in found]
    session.call("bundle", experiments=names, diff_hashes=diffs, why="clear", request_id="b1")
    wait_for(lambda: (row := rows(session, "audit").get("a0001")) and row["ended"])


if __name__ == "__main__":
    sys.exit(main())
