"""A researcher writes a lab file, gets it wrong in every way there is, and is told where and what to do."""

from __future__ import annotations

import contextlib
import re
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.globs import Globs, glob_problem
from engine.lab import Lab, LabError, Limits, Problem, load, parse
from engine.templates import fill, has_stray_brace, names
from engine.toml_lines import key_lines
from engine.toml_write import toml_list, toml_text

ROOT = Path("/home/ada/my lab")
DOCS = Path(__file__).parent.parent / "docs"
SMALL = """\
[lab]
command = ["{python}", "train.py", "--seed", "{seed}"]
editable = ["train.py"]

[metric]
name = "val_loss"

[rungs.screen]
budget = 300
timeout = "3m"
"""
EXAMPLE = re.findall(r"```toml\n(.*?)```", (DOCS / "architecture.md").read_text(), re.DOTALL)[0]


PIECES = (
    *(
        "{",
        "}",
        "{{",
        '"',
        "'",
        "'''",
        '"""',
        "[",
        "]",
        "[[",
        "=",
        "\n",
        "\r\n",
        ".",
        ",",
        "#",
        "\\",
        "\\u0000",
        "\x00",
    ),
    *("true", "-1", "1e400", "9" * 5000, "nan", "inf", "1979-05-27", "{x = 1}", "[" * 2000, "{seed}", "{held}"),
    *("[rungs.b]\n", "a.b = 1\n"),
)
KEYS = (
    "command",
    "editable",
    "name",
    "budget",
    "timeout",
    "screen",
    "seeds",
    "slots",
    "env",
    "path",
    "state_dir",
    "a b",
)
DURATIONS = {
    "90": 90,
    "0.5": 0.5,
    '"90s"': 90,
    '"3m"': 180,
    '"2h"': 7200,
    '"1h30m"': 5400,
    '"250ms"': 0.25,
    '"1d"': 86400,
}


def toml(value: object) -> str:
    """A value in TOML's inline syntax."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml_text(key)} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool) or value is None:
        return "true" if value else "false"
    if isinstance(value, str):
        return toml_text(value.encode("utf-8", "replace").decode())
    return repr(value)


def lab(text: str = SMALL) -> Lab:
    return parse(text, ROOT)


def with_line(table: str, line: str) -> str:
    """SMALL with a line below the header of `table`, which is added where it is missing."""
    if f"[{table}]\n" not in SMALL:
        return f"{SMALL}\n[{table}]\n{line}\n"
    return SMALL.replace(f"[{table}]\n", f"[{table}]\n{line}\n")


def problems(text: str) -> list[str]:
    with pytest.raises(LabError) as caught:
        lab(text)
    assert len(caught.value.problems) == len(str(caught.value).split("\n"))
    return str(caught.value).split("\n")


class TestAGoodFile:
    def test_a_small_file_has_sensible_defaults(self) -> None:
        made = lab()
        assert made.name == "my lab"
        assert made.python is None
        assert made.interpreter() == sys.executable
        assert (made.seeds, made.slots, made.threads, made.nice, made.climb) == ((0, 1, 2), 0, 1, 5, ("screen",))
        assert (made.metric.direction, made.metric.source, made.compare, made.ask) == (
            "min",
            "jsonl",
            "tokens",
            "always",
        )
        assert (made.prepare, made.score) == (None, None)
        assert made.proposer.kind == "none"
        assert made.state_dir == ROOT / ".cockpit"
        assert made.retain.checkpoints == "unless-refereed"
        assert made.branch == "cockpit/trunk"
        assert made.limits == Limits(memory=0, disk=20 << 30, processes=512, log=64 << 20)
        assert made.limits.memory_of(total=100 << 30, slots=3) == 30 << 30

    def test_limits_are_written_as_sizes(self) -> None:
        made = lab(SMALL + '[limits]\nmemory = "1.5 GiB"\ndisk = "500 MB"\nprocesses = 64\nlog = 2000000\n')
        assert made.limits == Limits(memory=3 << 29, disk=500 * 10**6, processes=64, log=2_000_000)
        assert made.limits.memory_of(total=100 << 30, slots=3) == 3 << 29

    def test_the_example_of_the_documentation_loads(self) -> None:
        made = lab(EXAMPLE)
        assert made.prepare is not None
        assert made.score is not None
        assert (made.prepare.timeout_s, made.score.timeout_s) == (600, 120)
        assert made.proposer.path == ROOT / "proposals"
        assert made.rung("screen").timeout_s == 180

    def test_a_rung_sets_any_parameter_and_commands_name_it(self) -> None:
        text = SMALL.replace('"{seed}"]', '"{seed}", "--lr={lr}", "{{literal}}", "{run_dir}/x"]') + "lr = 0.5\n"
        made = lab(
            text + '\n[rungs.confirm]\nbudget = 9\ntimeout = 60\nlr = "1e-4"\n[run]\nclimb = ["screen", "confirm"]\n'
        )
        argv = made.fill(made.command, made.values("confirm", 7, Path("/runs/a b")))
        assert argv == (sys.executable, "train.py", "--seed", "7", "--lr=1e-4", "{literal}", "/runs/a b/x")
        assert made.climb == ("screen", "confirm")

    def test_values_point_into_the_state_directory_unless_told_otherwise(self) -> None:
        values = lab().values("screen", 1, Path("/r"))
        assert values["data"] == str(ROOT / ".cockpit/data/open")
        assert values["held"] == str(ROOT / ".cockpit/data/held")
        assert (values["metrics"], values["scores"]) == ("/r/metrics.jsonl", "/r/score.json")
        assert lab().values("screen", 1, Path("/r"), data=Path("/d"))["data"] == "/d"

    def test_environment_values_carry_placeholders(self) -> None:
        made = lab(with_line("lab", 'env = { SEED = "{seed}", MODE = "fast", BRACES = "{{}}" }'))
        assert made.fill_env(made.values("screen", 4, Path("/r"))) == {"SEED": "4", "MODE": "fast", "BRACES": "{}"}
        assert made.fill_env(made.prepare_values()) == {"MODE": "fast", "BRACES": "{}"}  # no seed there

    def test_an_unknown_rung_or_interpreter_says_what_there_is(self) -> None:
        with pytest.raises(KeyError, match="the lab has screen"):
            lab().rung("full")
        with pytest.raises(LabError, match=r"lab.python: \"no-such-python\" is not on PATH"):
            lab(with_line("lab", 'python = "no-such-python"')).interpreter()

    def test_paths_are_taken_from_the_lab_and_links_are_kept(self, tmp_path: Path) -> None:
        (tmp_path / ".venv/bin").mkdir(parents=True)
        (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
        text = with_line("lab", 'python = ".venv/bin/python"\nmounts = ["data", "/big", "~/cache"]')
        made = parse(text + '[store]\nstate_dir = "/local/x"\n', tmp_path)
        assert made.interpreter() == str(tmp_path / ".venv/bin/python")  # resolved, it would not find its venv
        assert made.mounts == (tmp_path / "data", Path("/big"), Path.home() / "cache")
        assert made.state_dir == Path("/local/x")

    @pytest.mark.parametrize(("written", "seconds"), DURATIONS.items())
    def test_durations(self, written: str, seconds: float) -> None:
        assert lab(SMALL.replace('"3m"', written)).rungs[0].timeout_s == pytest.approx(seconds)

    def test_the_hash_follows_the_text(self) -> None:
        assert lab().text_hash != lab(SMALL + "# note\n").text_hash
        assert len(lab().text_hash) == 64


class TestPaths:
    def test_protected_wins(self) -> None:
        made = lab(with_line("lab", 'protected = ["src/data/**"]').replace('["train.py"]', '["src/**", "*.toml"]'))
        assert made.is_editable("src/a/model.py")
        assert not made.is_editable("src/data/loader.py")
        assert made.is_protected("src/data/loader.py")
        assert not made.is_editable("other.py")
        assert not made.is_protected("other.py")

    @pytest.mark.parametrize(
        "path",
        [
            "cockpit.toml", "program.md", ".gitattributes", "src/.gitignore", ".gitmodules", ".git/config", ".GIT/hooks/x",
            ".cockpit/ledger.jsonl", "../train.py", "/etc/passwd", "a/../train.py", "a//b", "", "a\\b", "a\nb", "./train.py",
        ],
    )  # fmt: skip
    def test_what_steers_the_research_is_always_protected(self, path: str) -> None:
        made = lab(SMALL.replace('["train.py"]', '["**", "cockpit.toml", ".git*"]'))
        assert made.is_protected(path)
        assert not made.is_editable(path)
        assert made.is_editable("any/where.py")

    def test_scripts_that_prepare_and_score_are_protected(self) -> None:
        more = '[prepare]\ncommand = ["bash", "./tools/get.sh"]\n[score]\ncommand = ["{python}", "-m", "judge.score"]\n'
        made = lab(SMALL.replace('["train.py"]', '["**"]') + more)
        assert made.is_protected("tools/get.sh")
        assert made.is_protected("judge/score.py")
        assert not made.is_protected("bash")

    def test_a_state_directory_inside_the_lab_is_protected(self) -> None:
        made = lab(SMALL.replace('["train.py"]', '["**"]') + '[store]\nstate_dir = "scratch/state"\n')
        assert made.is_protected("scratch/state/ledger.jsonl")

    @pytest.mark.parametrize(
        ("glob", "yes", "no"),
        [
            ("*.py", ["a.py"], ["a/b.py", "a.pyc"]),
            ("**/*.py", ["a.py", "a/b/c.py"], ["a.txt"]),
            ("src/**", ["src/a", "src/a/b"], ["src", "srcx/a"]),
            ("src", ["src", "src/a/b"], ["srcx"]),
            ("src/", ["src/a"], ["srcx/a"]),
            ("a/**/z", ["a/z", "a/b/c/z"], ["az", "a/bz"]),
            ("m[ab-d].py", ["ma.py", "mc.py"], ["me.py", "m-.py"]),
            ("m[!a].py", ["mb.py"], ["ma.py", "m/.py"]),
            ("a?c", ["abc"], ["a/c", "ac"]),
            ("a.b", ["a.b"], ["axb"]),
            ("a[", ["a["], ["a"]),
        ],
    )
    def test_globs(self, glob: str, yes: list[str], no: list[str]) -> None:
        globs = Globs([glob])
        assert [path for path in yes if not globs.match(path)] == []
        assert [path for path in no if globs.match(path)] == []

    @settings(max_examples=150, deadline=None)
    @given(st.text(alphabet="ab/*?[]!-.^\\", max_size=12), st.text(alphabet="ab/.-", max_size=8))
    def test_any_glob_compiles_and_editable_never_reaches_protected(self, glob: str, path: str) -> None:
        if glob_problem(glob) is None:
            Globs([glob], below=True).match(path)
            made = lab(SMALL.replace('["train.py"]', toml_list([glob])))
            assert not (made.is_editable(path) and made.is_protected(path))
            assert not made.is_editable("cockpit.toml")


class TestProblems:
    def test_the_line_the_key_and_the_fix_are_named(self) -> None:
        wrong = SMALL.replace("budget = 300", 'budget = "many"')
        expected = 'cockpit.toml:9: rungs.screen.budget: must be a whole number above 0; got "many". Fix: budget = 300'
        assert problems(wrong) == [expected]

    def test_every_problem_is_told_at_once_in_the_order_of_lines(self) -> None:
        wrong = SMALL.replace("300", "0").replace('"3m"', '"soon"').replace('["train.py"]', '["/etc/passwd"]')
        found = problems(wrong)
        assert [line.split(":")[1] for line in found] == ["3", "9", "10"]

    def test_a_shell_string_gets_the_list_to_write_instead(self) -> None:
        wrong = SMALL.replace('["{python}", "train.py", "--seed", "{seed}"]', "\"python train.py --name 'a b'\"")
        assert 'Fix: command = ["python", "train.py", "--name", "a b"]' in problems(wrong)[0]
        piped = SMALL.replace('["{python}", "train.py", "--seed", "{seed}"]', '"python train.py | tee log"')
        assert 'Fix: command = ["bash", "-c", "python train.py | tee log"]' in problems(piped)[0]

    @pytest.mark.parametrize(
        ("table", "line", "said"),
        [
            ("lab", 'editabel = ["x"]', 'lab.editabel: is not a key. Fix: did you mean "editable"?'),
            ("lab", "seeds = [1]", "lab.seeds: is not a key of [lab]. Fix: it belongs in [run]"),
            ("lab", "zzz = 1", "lab.zzz: is not a key. Fix: the keys here are name, command"),
            ("labb", "x = 1", 'labb: is not a key. Fix: did you mean "lab"?'),
            ("lab", "env = { A = 1 }", 'lab.env.A: must be a string; got 1. Fix: put it in quotes: "1"'),
            ("lab", 'env = { "A=B" = "x" }', "is not the name of an environment variable"),
            ("lab", 'env = { A = "{held}" }', "there is no {held} here: shards never see held-out data"),
            ("lab", 'env = { A = "{oops" }', "has a brace that is no placeholder"),
            ("lab", 'env_pass = ["ANTHROPIC_API_KEY"]', "is a secret of the cockpit, which never reaches a shard"),
            ("lab", 'protected = ["../other"]', "leaves the lab"),
            ("lab", 'protected = ["~/x"]', "is an absolute path"),
            ("lab", 'name = "a\\u001b[2J"', "one line of printable text"),
            ("metric", 'direction = "minimum"', 'must be "min" or "max"; got "minimum". Fix: direction = "min"'),
            ("metric", 'source = "regex"', 'source = "regex" needs a pattern'),
            ("metric", 'pattern = "x"', 'is for source = "regex" only'),
            ("metric", 'source = "regex"\npattern = "("', "is not a regular expression"),
            ("metric", 'source = "regex"\npattern = "(?P<loss>x)"', "needs the named group step"),
            ("rungs.screen", "budjet = 4", 'is not a key. Fix: did you mean "budget"?'),
            ("rungs.screen", "width = 4", "no command names {width}, so it would change nothing"),
            ("rungs.screen", "seed = 4", "{seed} is set by the engine"),
            ("rungs.screen", "deep = true", "must be a string or a number"),
            ("rungs.UP", 'budget = 1\ntimeout = "1s"', "is not a name for a rung"),
            ("run", "seeds = []", "run.seeds: must not be empty. Fix: seeds = [0, 1, 2]"),
            ("run", "seeds = [1, 1]", "names a seed twice. Fix: seeds = [1]"),
            ("run", "seeds = [-1]", "must be a whole number at least 0; got -1"),
            ("run", "seeds = [true]", "must be a whole number; got true"),
            ("run", "slots = 0", 'must be "auto" or a whole number from 1 to 1024; got 0'),
            ("run", "nice = 20", "must be a whole number at most 19; got 20"),
            ("limits", 'memory = "lots"', 'limits.memory: must be "auto" or a size with its unit'),
            ("limits", "memory = 0", "must lie between 1 MiB and 1024 TiB; got 0. Fix: memory ="),
            ("limits", 'disk = "20 G"', 'TiB); got "20 G". Fix: disk = "20 GiB"'),
            ("limits", "disk = true", "limits.disk: must be a size with its unit"),
            ("limits", "disk = 1.5", "limits.disk: must be a size with its unit"),
            ("limits", 'log = "9000 TiB"', "must lie between 1 MiB and 1024 TiB"),
            ("limits", "processes = 1", "must be a whole number at least 4; got 1. Fix: processes = 512"),
            ("limits", "procs = 1", 'limits.procs: is not a key. Fix: did you mean "processes"?'),
            ("lab", 'memory = "8 GiB"', "lab.memory: is not a key of [lab]. Fix: it belongs in [limits]"),
            ("run", 'climb = ["scren"]', 'there is no rung "scren". Fix: did you mean "screen"?'),
            ("gates", 'ask = "sometimes"', 'must be "always", "risky" or "never"'),
            ("proposer", 'kind = "recordings"', 'Fix: kind = "recording"'),
            ("score", "timeout = 3", "score: names neither a model to ask nor a command"),
            ("prepare", 'command = ["{seed}"]', "there is no {seed}. Fix: there are {python} {data} {held}"),
        ],
    )
    def test_what_is_wrong_is_said_in_words(self, table: str, line: str, said: str) -> None:
        found = problems(with_line(table, line))
        assert said in found[0]
        assert re.match(r"cockpit\.toml:\d+: ", found[0])

    def test_an_unknown_placeholder_lists_those_there_are(self) -> None:
        found = problems(SMALL.replace("{seed}", "{sed}"))
        assert "lab.command[3]: there is no {sed}. Fix: did you mean {seed}? There are {seed} {budget}" in found[0]

    def test_a_parameter_has_to_be_set_by_every_rung(self) -> None:
        text = SMALL.replace('"{seed}"', '"{lr}"') + "[rungs.b]\nbudget = 1\ntimeout = 1\nlr = 3\n"
        assert "rungs.screen: does not set lr, which lab.command[3] names" in problems(text)[0]

    def test_missing_tables_are_named(self) -> None:
        found = problems("")
        assert [line.split(":")[1].strip() for line in found] == ["lab", "metric", "rungs"]

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("[lab]\nname = unquoted\n", 2),
            ("[lab\n", 1),
            ("a = 1\na = 2\n", 2),
            ("a = [1,\n2\n", 3),
            ('a = """\n\n', 3),
        ],
    )
    def test_syntax_errors_have_a_line(self, text: str, line: int) -> None:
        found = problems(text)[0]
        assert "is not TOML" in found
        assert abs(int(found.split(":")[1]) - line) <= 1

    def test_loading_tells_what_is_wrong_with_the_file_itself(self, tmp_path: Path) -> None:
        with pytest.raises(LabError, match=r"there is no cockpit.toml.*cockpit init"):
            load(tmp_path)
        (tmp_path / "cockpit.toml").write_bytes(b"[lab]\nname = '\xff'\n")
        with pytest.raises(LabError, match=r"cockpit.toml:2: is not UTF-8"):
            load(tmp_path)
        (tmp_path / "cockpit.toml").write_bytes(b"#" * (1 << 20) + b"\n")
        with pytest.raises(LabError, match="larger than 1 MiB"):
            load(tmp_path)
        (tmp_path / "cockpit.toml").unlink()
        (tmp_path / "cockpit.toml").mkdir()
        with pytest.raises(LabError, match="cannot be read"):
            load(tmp_path)
        (tmp_path / "cockpit.toml").rmdir()
        (tmp_path / "cockpit.toml").write_text(SMALL)
        assert load(tmp_path).root == tmp_path

    def test_an_interpreter_that_is_not_there_is_a_problem_of_the_lab_file(self) -> None:
        made = parse(EXAMPLE.replace('python = "python3"', 'python = "{python3"'), ROOT)
        with pytest.raises(LabError, match=r'"\{python3" is not on PATH. Fix: '):
            made.values(made.rungs[0], 0, Path("/r"))

    @settings(max_examples=250, deadline=None)
    @given(st.data())
    def test_no_mutation_of_a_lab_file_raises_anything_else(self, data: st.DataObject) -> None:
        text = data.draw(st.sampled_from([SMALL, EXAMPLE]))
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(text)))
            cut = data.draw(st.integers(0, 12))
            new = data.draw(st.sampled_from(PIECES) | st.text(max_size=6))
            text = text[:at] + new + text[at + cut :]
        problems: tuple[Problem, ...] = ()
        try:
            made = parse(text, ROOT)
            values = made.values(made.rungs[0], 0, Path("/r"))  # the interpreter is looked for here
        except LabError as error:
            problems = error.problems
        else:
            assert len(made.fill(made.command, values)) == len(made.command)
        assert all(each.wrong and "\n" not in str(each) for each in problems)

    @settings(max_examples=100, deadline=None)
    @given(st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4), max_leaves=12,
    ))  # fmt: skip
    def test_no_value_of_any_type_raises_anything_else(self, value: object) -> None:
        for key in ("lab", "metric", "rungs", "run", "score", "proposer", "store", "other"):
            text = f"{key} = {toml(value)}\n" + SMALL.replace(f"[{key}]", "[renamed]")
            with contextlib.suppress(LabError):
                assert parse(text, ROOT).command


class TestLines:
    def test_every_kind_of_key_has_its_line(self) -> None:
        text = (
            'a = 1 # [x]\n"b c".d = """\n[no]\n\\""" """\n[t.u]\nlist = [\n  1, # one\n  [2,\n   3],\n]\n'
            "inline = { p = 'x', q.r = [1] }\n[[many]]\nk = 1\n[[many]]\nk = 2\n[many.sub]\nz = 1979-05-27 07:32:00\n"
        )
        tomllib.loads(text)
        lines = key_lines(text)
        expected = {
            ("a",): 1, ("b c", "d"): 2, ("t",): 5, ("t", "u", "list"): 6, ("t", "u", "list", 0): 7, ("t", "u", "list", 1, 1): 9,
            ("t", "u", "inline", "p"): 11, ("t", "u", "inline", "q", "r", 0): 11, ("many", 0, "k"): 13, ("many", 1, "k"): 15,
            ("many", 1, "sub", "z"): 17,
        }  # fmt: skip
        assert {path: lines.get(path) for path in expected} == expected

    @settings(max_examples=150, deadline=None)
    @given(st.text(alphabet="ab=.[]{}\"'\\\n\r#, 1", max_size=60))
    def test_any_text_is_scanned_to_its_end(self, text: str) -> None:
        lines = key_lines(text)
        assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            return
        assert {(key,) for key in table} <= lines.keys()


class TestTemplates:
    @settings(max_examples=150, deadline=None)
    @given(st.text(alphabet="ab{}", max_size=12))
    def test_filling_is_exact_or_refused(self, text: str) -> None:
        values = {name: f"<{name}>" for name in names(text)}
        if has_stray_brace(text):
            with pytest.raises(ValueError, match="stray brace"):
                fill(text, values)
        else:
            unescaped = fill(text, values)
            assert "{{" not in unescaped or "{{{" in text
        assert fill(text.replace("{", "{{").replace("}", "}}"), {}) == text

    def test_values_are_never_filled_again_and_attributes_never_reached(self) -> None:
        assert fill("{a}", {"a": "{b}", "b": "x"}) == "{b}"
        assert has_stray_brace("{a.__class__}")
        with pytest.raises(ValueError, match=r"no value for \{c\}"):
            fill("{c}", {"a": "1"})


class TestDocumentation:
    """docs/configuration.md has a row for each key, with the default that the code has."""

    page = DOCS / "configuration.md"

    def rows(self) -> dict[str, str]:
        out = {}
        table = ""
        for line in self.page.read_text().splitlines():
            if header := re.match(r"## `\[(.+)\]`", line):
                table = header[1]
            elif row := re.match(r"\| `(\w+)` \| (.+?) \|", line):
                out[f"{table}.{row[1]}"] = row[2]
        return out

    def test_every_key_is_documented_with_its_default_and_no_other_is(self) -> None:
        from engine.lab_docs import rows

        assert self.rows() == {key: default for key, default, _ in rows()}

    def test_the_page_is_what_the_code_generates(self) -> None:
        from engine.lab_docs import page

        assert self.page.read_text() == page()


class TestDependencies:
    """docs/dependencies.md, pyproject.toml and constraints.txt name the same packages and versions."""

    def test_the_three_agree(self) -> None:
        project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["project"]
        extras = project["optional-dependencies"].values()
        wanted = {re.split(r"[<>=]", each)[0] for group in (project["dependencies"], *extras) for each in group}
        pinned = dict(re.findall(r"(?m)^([\w-]+)==(\S+)$", (DOCS.parent / "constraints.txt").read_text()))
        written = dict(re.findall(r"(?m)^\| ([\w-]+) \| (\d\S+) \|", (DOCS / "dependencies.md").read_text()))
        assert pinned.keys() == wanted
        assert written == pinned


def test_a_lab_is_pointed_at_a_cluster_by_two_lines() -> None:
    assert lab().slurm is None
    found = lab(SMALL + '[run]\nexecutor = "slurm"\nranks = 2\n[slurm]\ngpus = 4\nnodes = 2\nshared = "/scratch/ada"\n')
    assert found.slurm is not None
    assert (found.slurm.nodes, found.slurm.per_node(found.ranks), found.slurm.gpus_of_shard(found.ranks)) == (2, 2, 2)
    assert found.state.runs == Path("/scratch/ada/runs")
    assert found.state.ledger == ROOT / ".cockpit" / "ledger.jsonl"
    assert lab(SMALL + "[slurm]\ngpus = 4\n").slurm is None  # said beforehand, it changes nothing


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[run]\nexecutor = "slurm"\n', "says neither how many GPUs a node has"),
        ('[run]\nexecutor = "slurm"\nranks = 4\n[slurm]\ngpus = 2\n', "one shard takes 4"),
        ('[run]\nexecutor = "slurm"\nslots = 3\n[slurm]\ngpus = 2\n', "on a cluster the pilot says"),
        ('[run]\nexecutor = "slrum"\n', 'executor = "slurm"'),
        ('[slurm]\nwalltime = "long"\n', "must be a duration"),
        ('[run]\nexecutor = "slurm"\n[slurm]\ngpus = 2\nwalltime = "1m"\n', "the pilot that it runs in ends after 1 m"),
        ('[run]\nexecutor = "slurm"\n[slurm]\ngpus = 2\nargs = ["--nodes=64"]\n', "slurm.nodes is for"),
        ('[run]\nexecutor = "slurm"\n[slurm]\ngpus = 2\nargs = ["--export=ALL"]\n', "not for a lab to say"),
        ('[run]\nexecutor = "slurm"\n[slurm]\ngpus = 2\nargs = ["/bin/sh"]\n', "not an option in its long form"),
        ('[slurm]\npartitoin = "gpu"\n', "partition"),
    ],
)
def test_a_cluster_that_cannot_be_is_told(text: str, says: str) -> None:
    assert any(says in each for each in problems(SMALL + text))


def test_runs_can_resume_where_the_command_takes_the_directory() -> None:
    assert not lab().resumable
    found = lab(SMALL.replace('"{seed}"]', '"{seed}", "--resume", "{resume}"]'))
    assert found.resumable
    assert found.values("screen", 0, Path("/r/a1"))["resume"] == "/r/a1/resume"
