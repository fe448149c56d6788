"""Code blocks of the pages, and a check of a command line that does not run it."""

import contextlib
import io
import re
import shlex
from argparse import ArgumentParser
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from openrayzer.cli import COMMANDS
from openrayzer.composer import load_experiment

ROOT = Path(__file__).parents[2]
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "experiments/README.md", "ds_configs/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
SKIPPED = re.compile(r"<!-- (?:not tested|tested): (.+?) -->")
BLOCK = re.compile(r"(?:^ *(<!--[^\n]*-->)\n+)?^( *)```(\w+)\n(.*?)^ *```$", flags=re.MULTILINE | re.DOTALL)
TOOL = re.compile(r"(?:^|/)tools/(\w+)\.(py|sh)$")
COMMAND_OF_TOOL = re.compile(r'COMMANDS\["([\w-]+)"\]')
DEVELOPMENT = {"ruff", "mypy", "mkdocs"}
"""Programs of the extras ``dev`` and ``docs`` that ``.ci/run`` calls."""
SHELL = {"cd", "diff"}


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        page: its page, relative to the project.
        line: line number of its first line.
        language: bash, python, json or text.
        text: its lines, without their indentation.
        reason: from a comment before it, why no test checks it (``<!-- not tested: needs SLURM -->``), or the file with
            its own test (``<!-- tested: tests/... -->``); else empty.
        before: the text before it on the page.
    """

    page: str
    line: int
    language: str
    text: str
    reason: str
    before: str

    @property
    def name(self) -> str:
        """For the names of tests."""
        return f"{self.page}:{self.line}"


def blocks_of(file: Path) -> list[Block]:
    """The code blocks of a page."""
    page = file.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(page):
        marker, indent, language, code = match.groups()
        reason = SKIPPED.search(marker or "")
        text = "".join(line.removeprefix(indent) for line in code.splitlines(keepends=True))
        line = page.count("\n", 0, match.start(4)) + 1
        name = str(file.relative_to(ROOT))
        found.append(Block(name, line, language, text, reason[1] if reason else "", page[: match.start()]))
    return found


def commands_of(script: str) -> list[list[str]]:
    """The commands of a script as lists of words, without comments and changes of the environment."""
    commands: list[list[str]] = []
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        commands.append([])
        for word in lexer:
            if re.fullmatch(r"[;&|]+", word):
                commands.append([])
            elif commands[-1] or not re.fullmatch(r"[A-Z_]+=.*", word):
                commands[-1].append(word)
    return [words[: words.index(">")] if ">" in words else words for words in commands if words]


def problem_of(words: list[str]) -> str:
    """What is wrong with a command, or nothing: options are parsed, experiments and their changes are checked."""
    if words[0] in {".", *SHELL} or words[:3] == ["python3", "-m", "venv"]:
        return ""
    program = Path(words[0]).name
    if program in DEVELOPMENT:
        return "" if program in (ROOT / ".ci/run").read_text(encoding="utf-8") else f".ci/run does not call {program}"
    if program == "pip":
        return _install_problem(words[1:])
    if program == "openrayzer":
        return _command_problem(words[1], words[2:]) if len(words) > 1 else "no command"
    if program in ("python", "deepspeed", "torchrun") and (place := _module_place(words)):
        return _module_problem(words[place], words[place + 1 :])
    for place, word in enumerate(words):
        if tool := TOOL.search(word):
            return _tool_problem(word, tool[2], words[place + 1 :])
    return f"no check knows the command {program!r}; add <!-- not tested: REASON --> before the block"


def _module_place(words: list[str]) -> int:
    """Position of the module after ``-m`` or ``--module``; 0 without one."""
    return next((place + 1 for place, word in enumerate(words[:-1]) if word in ("-m", "--module")), 0)


def _module_problem(module: str, arguments: list[str]) -> str:
    if module == "pytest":
        missing = [word for word in arguments if word.startswith("tests/") and not (ROOT / word).exists()]
        return f"{missing} do not exist" if missing else ""
    if module == "openrayzer.cli":
        return _command_problem(arguments[0], arguments[1:])
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return f"there is no module {module}"
    sources = [Path(spec.origin), ROOT / "openrayzer/cli/arguments.py"]
    source = "".join(file.read_text(encoding="utf-8") for file in sources)
    unknown = [word for word in arguments if word.startswith("--") and f'"{word}"' not in source]
    return f"{module} has no option {unknown}" if unknown else ""


def _install_problem(arguments: list[str]) -> str:
    known = set(re.findall(r"^(\w+) =", _section("options.extras_require"), flags=re.M))
    asked = {extra for word in arguments for names in re.findall(r"\[(.+)\]$", word) for extra in names.split(",")}
    return f"no extras named {sorted(asked - known)}" if asked - known else ""


def _section(name: str) -> str:
    return (ROOT / "setup.cfg").read_text(encoding="utf-8").partition(f"[{name}]\n")[2].partition("\n[")[0]


def _tool_problem(tool: str, kind: str, arguments: list[str]) -> str:
    file = ROOT / tool
    if not file.is_file():
        return f"there is no {tool}"
    command = COMMAND_OF_TOOL.search(file.read_text(encoding="utf-8"))
    return _command_problem(command[1], arguments) if kind == "py" and command else ""


def _command_problem(name: str, arguments: list[str]) -> str:
    if name not in COMMANDS:
        return f"openrayzer has no command {name!r}"
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parsed = _parser(name).parse_args(arguments)
    except SystemExit as ended:
        return said.getvalue().strip().rpartition("\n")[2] if ended.code else ""
    experiment = str(getattr(parsed, "exp", None) or "")
    shipped = "/" not in experiment and not experiment.endswith(".json")
    if not experiment.strip(".") or not (shipped or (ROOT / experiment).is_file()):
        return ""  # a file of the reader
    return _experiment_problem(experiment if shipped else ROOT / experiment, list(parsed.set), list(parsed.data))


@cache
def _parser(name: str) -> ArgumentParser:
    return COMMANDS[name].parser()


def _experiment_problem(file: str | Path, changes: list[str], roots: list[Path]) -> str:
    try:
        load_experiment(file, overrides=changes, data_roots=roots)
    except Exception as error:  # any problem is one of the page
        return str(error)
    return ""
