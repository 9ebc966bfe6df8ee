"""Makes the golden ledger of asking Claude: a round that goes well, one that is refused, and a change that was proposed before.

    python tests/golden/make_asking.py [--force]

See make.py beside it: the same promise holds for these files.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from engine.core import fold  # noqa: E402
from engine.ledger import read_lines  # noqa: E402
from tests.golden.make import _anonymous  # noqa: E402
from tests.messages_server import Turn, serving  # noqa: E402
from tests.tinylab import TinyLab, decide, rate, wait_for, waiting  # noqa: E402


def main() -> int:
    """Make both files. Exit code 2 when they exist and `--force` was not given."""
    ledger, expected = HERE / "ledger-v1-asking.jsonl", HERE / "rows-v1-asking.json"
    if ledger.exists() and "--force" not in sys.argv:
        print(f"{ledger} exists: later code has to fold that very one", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="golden-") as place:
        os.environ["XDG_RUNTIME_DIR"] = place
        os.environ["GIT_CONFIG_GLOBAL"] = os.devnull
        lab = TinyLab(Path(place) / "lab", [])
        config = lab.root / "cockpit.toml"
        config.write_text(config.read_text().replace('kind = "recording"', 'kind = "claude"'))
        lab.git("commit", "-qam", "Ask Claude")
        try:
            _ask(lab)
            lab.stop()
            raw = _anonymous(lab)
        finally:
            lab.end()
    ledger.write_bytes(raw)
    state = fold([event for event, _ in read_lines(raw)])
    expected.write_text(json.dumps(list(state.since(0)), indent=1) + "\n")
    return 0


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
