"""Makes the golden ledger of asking Claude: a round that goes well, one that is refused, and a change that was proposed before.

    python tests/golden/make_asking.py [--force]

See make.py beside it: the same promise holds for these files.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from tests.golden.make import anonymous, make  # noqa: E402
from tests.messages_server import Turn, serving  # noqa: E402
from tests.tinylab import TinyLab, decide, rate, wait_for, waiting  # noqa: E402


def main() -> int:
    """Make both files. Exit code 2 when they exist and `--force` was not given."""
    return make("v1-asking", "--force" in sys.argv, _live_through)


def _live_through(root: Path) -> bytes:
    lab = TinyLab(root, [])
    config = lab.root / "cockpit.toml"
    config.write_text(config.read_text().replace('kind = "recording"', 'kind = "claude"'))
    lab.git("commit", "-qam", "Ask Claude")
    try:
        _ask(lab)
        lab.stop()
        return anonymous(lab)
    finally:
        lab.end()


def _ask(lab: TinyLab) -> None:
    turns = (
        Turn(f"<proposal>\n{rate(2.0)}</proposal>\n", thinking="hm"),
        Turn(f"<proposal>\n{rate(2.0)}\n</proposal>\n"),
        Turn(stop="refusal", category="frontier_llm", explanation="no"),
    )
    with serving(*turns) as server, lab.session() as session:
        session.call("key", key="sk-ant-golden", base_url=server.url)
        session.call("propose", n=1, request_id="one", note="mind the rate")
        decide(session, wait_for(lambda: waiting(session))[0], "decline", "not now")
        session.call("propose", n=1, request_id="two")
        session.call("again", proposal="p0002")
        session.call("propose", n=1, request_id="three")


if __name__ == "__main__":
    sys.exit(main())
