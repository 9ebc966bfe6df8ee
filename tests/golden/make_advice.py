"""Makes the golden ledger of advice: a diff that is read before it is decided, and briefs by queries and by Claude.

    python tests/golden/make_advice.py [--force]

See make.py beside it: the same promise holds for these files.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from tests.golden.make import anonymous, make  # noqa: E402
from tests.messages_server import Turn, serving  # noqa: E402
from tests.tinylab import TinyLab, decide, rate, rows, wait_for, waiting  # noqa: E402

READING = "<reading>\nflag: budget | train.py | a longer schedule in disguise\napprove: 0.75\nsolid: 0.25\n</reading>"
BRIEF = "<brief>\nheld: [0001] It trains faster.\nnext: Try more of it.\n</brief>"


def main() -> int:
    """Make both files. Exit code 2 when they exist and `--force` was not given."""
    return make("v1-advice", "--force" in sys.argv, _live_through)


def _live_through(root: Path) -> bytes:
    lab = TinyLab(root, [rate(2.0)], extra='\n[gates]\nreview = "model"\n')
    try:
        _advise(lab)
        lab.stop()
        return anonymous(lab)
    finally:
        lab.end()


def _advise(lab: TinyLab) -> None:
    turns = (Turn(READING), Turn(BRIEF), Turn(stop="refusal", category="frontier_llm", explanation="no"))
    with serving(*turns) as server, lab.session() as session:
        session.call("key", key="sk-ant-golden", base_url=server.url)
        wait_for(lambda: any(row["state"] == "done" for row in rows(session, "reading").values()))
        decide(session, waiting(session)[0])
        wait_for(lambda: rows(session, "brief").get("b0001", {}).get("ended"))
        session.call("ask_brief", request_id="one")
        session.call("ask_brief", request_id="two")


if __name__ == "__main__":
    sys.exit(main())
