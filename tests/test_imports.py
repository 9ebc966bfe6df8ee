"""The terminal opens at once and the launcher stays small: what each of them imports, seen from a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "anthropic", "duckdb", "git", "pydantic", "pyarrow", "numpy", "scipy", "watchfiles"}


def loaded(*modules: str, after: str = "") -> set[str]:
    """Top-level names in `sys.modules` after importing `modules`, and then running `after`, in a fresh interpreter."""
    code = f"import sys, json\nimport {', '.join(modules)}\n{after}\n"
    code += "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(done.stdout.splitlines()[-1]))


def at_start() -> set[str]:
    """What is loaded before anything was imported (an environment may load things by itself)."""
    return loaded("json")


@pytest.mark.parametrize(
    "modules",
    [
        ("cockpit.cli",),
        ("cockpit.cli", "cockpit.commands"),
        ("cockpit.attach", "cockpit.client"),
        ("cockpit.open", "cockpit.app", "cockpit.client"),
        ("cockpit.demo",),
        ("engine.types", "engine.rpc", "engine.paths"),
    ],
)
def test_what_the_terminal_reads_before_its_first_paint_is_light(modules: tuple[str, ...]) -> None:
    assert not loaded(*modules) & (HEAVY - at_start())


def test_the_command_line_itself_needs_no_terminal_library_either() -> None:
    found = loaded("cockpit.cli", "cockpit.commands")
    assert not found & ({"textual", "rich", "orjson"} - at_start())


def test_building_the_parser_and_its_help_stays_light() -> None:
    after = "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
    after += "    cockpit.cli.main(['--help'])\n"
    assert not loaded("cockpit.cli", after=after) & (HEAVY - at_start())


def test_the_launcher_imports_the_standard_library_alone() -> None:
    foreign = loaded("engine.shards.launcher") - sys.stdlib_module_names - at_start()
    assert foreign == {"engine"}


def test_the_engine_knows_no_terminal() -> None:
    assert not loaded("engine.daemon", "engine.doctor", "engine.init") & {"textual", "rich", "cockpit", "torch"}


def test_the_first_paint_does_not_wait_for_the_sql_screen() -> None:
    code = "import sys, cockpit.open, cockpit.app\nprint(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    names = done.stdout.split()
    assert "cockpit.screens.runs" in names
    assert not [name for name in names if "sql" in name.rpartition(".")[2] and name.startswith("cockpit")]
    assert "textual.widgets._text_area" not in names
