"""Makes the golden ledger of findings: which detectors work, what they found, a barred verdict, and a person's word on it.

    python tests/golden/make_findings.py [--force]

See make.py beside it: the same promise holds for these files.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from tests.golden.make import anonymous, end, make  # noqa: E402
from tests.test_acknowledging import FORGED, SEEDLESS, checked  # noqa: E402
from tests.tinylab import TinyLab, decide, rows, wait_for, waiting  # noqa: E402


def main() -> int:
    """Make both files. Exit code 2 when they exist and `--force` was not given."""
    return make("v1-findings", "--force" in sys.argv, _live_through)


def _live_through(root: Path) -> bytes:
    lab = TinyLab(root, [SEEDLESS, FORGED], more=checked())
    try:
        with lab.session() as session:
            for row in wait_for(lambda: len(found := waiting(session)) == 2 and found):
                decide(session, row)
            for name in ("0001", "0002"):
                end(session, name, "judged")
            barred = rows(session, "experiment")["0001"]["barred"]
            session.call("ack", findings=barred[:1], why="it has no seed, and needs none", request_id="ack-1")
        lab.stop()
        return anonymous(lab)
    finally:
        lab.end()


if __name__ == "__main__":
    sys.exit(main())
