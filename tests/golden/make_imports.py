"""Makes the golden ledger of imports: a history that another program made.

    python tests/golden/make_imports.py [--force]

See make.py beside it: the same promise holds for these files.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from tests.golden.make import anonymous, make  # noqa: E402
from tests.tinylab import TinyLab, rows, wait_for  # noqa: E402

NIGHT = (
    "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n"
    "baseline\t0.9979\t44.0\tkeep\tbaseline\n"
    "bea057b\t0.000000\t0.0\tcrash\ttoo large\n"
)


def main() -> int:
    """Make both files. Exit code 2 when they exist and `--force` was not given."""
    return make("v1-imports", "--force" in sys.argv, _live_through)


def _live_through(root: Path) -> bytes:
    lab = TinyLab(root, [])
    source = lab.root / "results.tsv"
    source.write_text(NIGHT)
    try:
        with lab.session() as session:
            session.call("import", path=str(source), request_id="i1")
            wait_for(lambda: {row["state"] for row in rows(session, "shard").values()} == {"ended"})
        lab.stop()
        return anonymous(lab)
    finally:
        lab.end()


if __name__ == "__main__":
    sys.exit(main())
