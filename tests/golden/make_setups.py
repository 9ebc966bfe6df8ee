"""Makes the golden ledger of setups: under what conditions shards were started.

    python tests/golden/make_setups.py [--force]

See make.py beside it: the same promise holds for these files.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from tests.golden.make import anonymous, end, make  # noqa: E402
from tests.tinylab import TinyLab, decide, rate, wait_for, waiting  # noqa: E402


def main() -> int:
    """Make both files. Exit code 2 when they exist and `--force` was not given."""
    return make("v1-setups", "--force" in sys.argv, _live_through)


def _live_through(root: Path) -> bytes:
    lab = TinyLab(root, [rate(4.0)], slots=2)
    try:
        with lab.session() as session:
            (row,) = wait_for(lambda: waiting(session))
            decide(session, row)
            end(session, "0001", "judged")
        lab.stop()
        return anonymous(lab)
    finally:
        lab.end()


if __name__ == "__main__":
    sys.exit(main())
