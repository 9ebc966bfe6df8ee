"""Makes the golden ledger of imports: a night of autoresearch with its commits, then a table that is read a second way.

    python tests/golden/make_importing.py [--force]

See make.py beside it: the same promise holds for these files.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from tests.golden.make import anonymous, make  # noqa: E402
from tests.test_importing import night, told  # noqa: E402
from tests.tinylab import TinyLab  # noqa: E402


def main() -> int:
    """Make both files. Exit code 2 when they exist and `--force` was not given."""
    return make("v1-importing", "--force" in sys.argv, _live_through)


def _live_through(root: Path) -> bytes:
    lab = TinyLab(root, [])
    try:
        path = night(lab)
        table = lab.root / "runs.csv"
        table.write_text("trial,val_loss,accuracy\n1,3.0,0.5\n2,2.0,0.7\n")
        with lab.session() as session:
            told(session, path)
            told(session, table)
            told(session, table, mapping={"metric": "accuracy"})
        lab.stop()
        return anonymous(lab)
    finally:
        lab.end()


if __name__ == "__main__":
    sys.exit(main())
