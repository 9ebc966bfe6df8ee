"""Makes the golden ledger of sequential judging: a solid change after three seeds, and one that ends half-way.

    python tests/golden/make_judging.py [--force]

See make.py beside it: the same promise holds for these files.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from tests.golden.make import anonymous, end, make  # noqa: E402
from tests.tinylab import TinyLab, decide, proposal, rate, rows, wait_for, waiting  # noqa: E402

JUDGE = '\n[judge]\nmode = "fast"\ncalibration = 3\n'
LINE = "        loss = bottom + 2.0 / (1 + step)"
WAITS = "        while step == 6:\n            time.sleep(0.01)"
HOPELESS = proposal("Far behind", LINE, f"{LINE} + 1.0\n{WAITS}", "architecture")


def main() -> int:
    """Make both files. Exit code 2 when they exist and `--force` was not given."""
    return make("v1-judging", "--force" in sys.argv, _live_through)


def _live_through(root: Path) -> bytes:
    lab = TinyLab(root, [rate(3.0), HOPELESS], queue=2, slots=2, steps=10, extra=JUDGE)
    try:
        with lab.session() as session:
            wait_for(lambda: len(waiting(session)) == 2)
            for row in waiting(session):
                decide(session, row)
            for name in ("0001", "0002"):
                end(session, name, "judged")
            wait_for(lambda: all(shard["state"] == "ended" for shard in rows(session, "shard").values()))
        lab.stop()
        return anonymous(lab)
    finally:
        lab.end()


if __name__ == "__main__":
    sys.exit(main())
