"""Makes the golden ledger of a lab on a cluster that sees each way in which an allocation ends: given back by a person, by the
lab's rule while an engine ran and while none did, and ended by the cluster.

    python tests/golden/make_allocations.py [--force]

See make.py beside it: the same promise holds for these files. Needs a Slurm (`make test-slurm` installs one).
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from tests.golden.make import anonymous, make  # noqa: E402
from tests.slurm.cluster import cluster  # noqa: E402
from tests.slurm.test_keeper import ended, get_pilot, held, idle_lab, kill  # noqa: E402
from tests.tinylab import rows, wait_for  # noqa: E402


def main() -> int:
    """Make both files. Exit code 2 when they exist and `--force` was not given."""
    return make("v1-allocations", "--force" in sys.argv, _live_through)


def _live_through(root: Path) -> bytes:
    with cluster(gpus=4) as slurm:
        lab = idle_lab(root, slurm)
        try:
            with lab.session() as session:
                session.call("pilot", action="confirm")
                wait_for(lambda: [row for row in rows(session, "shard").values() if row["metric"] is not None][2:])
                wait_for(lambda: len(ended(lab.state)) == 2)
                get_pilot(session, slurm)
            kill(lab)
            wait_for(lambda: held(slurm) == [])
            with lab.session() as session:
                wait_for(lambda: len(ended(lab.state)) == 4)
                slurm.run("scancel", get_pilot(session, slurm))
                wait_for(lambda: len(ended(lab.state)) == 6)
                get_pilot(session, slurm)
                session.call("pilot", action="release", why="done for today")
            lab.stop()
            return anonymous(lab)
        finally:
            lab.end()


if __name__ == "__main__":
    sys.exit(main())
