"""The command ``openrayzer``: its help, its table of commands, and the tools that start them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from launching import clean_environment

import openrayzer
from openrayzer.cli import COMMANDS
from openrayzer.cli.__main__ import help_text, main
from openrayzer.cli.commands.completion_command import actions_of
from openrayzer.cli.commands.init_command import TEMPLATES
from registry import UnknownNameError

ROOT = Path(__file__).parents[2]
TOOLS = sorted(ROOT.glob("tools/*.py"))


def test_the_help_names_every_command_and_imports_no_torch():
    code = """
import sys
from openrayzer.cli.__main__ import main
code = main(["--help"])
print(code, [name for name in ("torch", "numpy", "jsonargparse", "openrayzer.interfaces") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    *lines, last = done.stdout.splitlines()
    assert last == "0 []"
    assert "\n".join(lines) == help_text()
    assert [line.split()[0] for line in lines if line.startswith("  ") and "--" not in line] == list(COMMANDS)


def test_without_a_command_the_help_goes_to_stderr_and_the_input_is_wrong(capsys):
    assert main([]) == 2
    assert capsys.readouterr().err == help_text() + "\n"


def test_an_unknown_command_gives_close_matches():
    with pytest.raises(UnknownNameError, match=r"no command 'trian'; did you mean 'train'\? known: .*video"):
        main(["trian"])


def test_the_rank_of_the_deepspeed_launcher_may_stand_before_the_command(capsys):
    assert main(["--local_rank=1", "--version"]) == 0
    assert capsys.readouterr().out == f"openrayzer {openrayzer.__version__}\n"


def test_the_arguments_after_the_name_belong_to_the_command(capsys):
    assert main(["list", "schedule"]) == 0
    assert capsys.readouterr().out.startswith("schedule  (")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_a_parser_with_its_name_and_a_help_with_its_own_calls(name: str):
    parser = COMMANDS[name].parser()
    assert parser.prog == f"openrayzer {name}"
    text = parser.description or ""
    assert re.search(rf"^    openrayzer {name}\b", text, flags=re.MULTILINE)
    assert "tools/" not in text
    assert not parser.allow_abbrev


def test_a_summary_is_short_and_a_name_has_one_line():
    assert len(set(COMMANDS)) == len(COMMANDS) > 20
    assert [command.name for command in COMMANDS.values() if len(command.summary) > 65] == []


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.stem)
def test_a_tool_starts_a_command_and_nothing_else(tool: Path):
    code = tool.read_text(encoding="utf-8").partition('"""\n\n')[2]
    (name,) = re.findall(r'COMMANDS\["([\w-]+)"\]', code)
    expected = f"""from openrayzer.cli import COMMANDS, run_tool

main = COMMANDS["{name}"].main

if __name__ == "__main__":
    run_tool(main)
"""
    assert name in COMMANDS
    assert code == expected


def test_the_module_runs_as_a_script():
    command = [sys.executable, "-m", "openrayzer.cli", "trian"]
    done = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: openrayzer has no command 'trian'; did you mean 'train'?")


def test_the_page_lists_every_command_with_its_tool():
    page = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| (?:`(tools/\w+\.py)`)? ?\| (.*) \|$", page, flags=re.MULTILINE)
    assert [name for name, _, _ in rows] == list(COMMANDS)
    started = {re.findall(r'COMMANDS\["([\w-]+)"\]', tool.read_text())[0]: f"tools/{tool.name}" for tool in TOOLS}
    assert {name: tool for name, tool, _ in rows if tool} == started


def test_the_commands_and_options_that_pages_show_exist():
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("docs/tasks/*.md"), TEMPLATES / "README.md"]
    call = re.compile(
        r"^(?:cd \S+ && )?(?:.*openrayzer\.cli|openrayzer) ([a-z][\w-]*)((?:.*\\\n)*.*)$", flags=re.MULTILINE
    )
    calls = [
        (page.name, *found)
        for page in pages
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for found in call.findall(block)
    ]
    assert len(calls) > 10
    wrong = [f"{page}: openrayzer {name}" for page, name, _ in calls if name not in COMMANDS]
    for page, name, rest in calls:
        if name in COMMANDS:
            known = {option for action in actions_of(COMMANDS[name].parser()) for option in action.option_strings}
            shown = re.findall(r"(?<=\s)--[a-z]\w*", rest.partition("#")[0])
            wrong += [f"{page}: openrayzer {name} {option}" for option in shown if option not in known | {"--help"}]
    assert wrong == []
