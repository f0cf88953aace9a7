import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from orchestration import cli, cli_runs, cli_tables, errors, look, opening
from orchestration.cli import app

GOLDEN = Path(__file__).parents[1] / "golden" / "help.txt"
COMMANDS = (
    "", "submit", "plan", "status", "logs", "cancel", "attach", "resume", "table", "table show", "table verify", "ui",
    "doctor", "clusters",
    "pipelines", "sweep", "sweeps", "report", "explain", "import", "export", "data", "data check", "data fetch",
    "data pack", "data push", "gc", "reconcile", "chaos",
)  # fmt: skip
HEAVY = {"torch", "ray", "mlflow", "pydantic", "rich", "numpy", "yaml", "psutil"}

runner = CliRunner()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEOCLR_OPS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "home"


def helps() -> str:
    """Return the help of all commands, 100 columns wide, as tests/golden/help.txt holds it."""
    texts = []
    for command in COMMANDS:
        result = runner.invoke(app, [*command.split(), "--help"], prog_name="leoclr-ops", terminal_width=100)
        assert result.exit_code == 0, result.output
        texts.append(result.stdout)
    return "\n".join(texts)


def test_the_help_is_as_it_was() -> None:
    assert helps() == GOLDEN.read_text()


def test_every_command_is_in_the_golden_help() -> None:
    listed = set(names(app))
    for group in app.registered_groups:
        assert group.name
        assert group.typer_instance
        listed |= {group.name, *(f"{group.name} {name}" for name in names(group.typer_instance))}
    assert listed == set(COMMANDS) - {""}


def names(group: typer.Typer) -> list[str]:
    return [info.name or info.callback.__name__ for info in group.registered_commands if info.callback]


def python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_help_imports_nothing_heavy() -> None:
    program = "import sys, orchestration.cli as cli\ntry: cli.main()\nfinally: print(*sys.modules, file=sys.stderr)"
    result = python(program, "--help")
    assert result.returncode == 0
    assert "Usage: leoclr-ops" in result.stdout
    assert HEAVY.isdisjoint(result.stderr.split())


def test_help_answers_at_once() -> None:
    def once() -> float:
        began = time.process_time() + sum(os.times()[2:4])
        python("from orchestration.cli import main; main()", "--help")
        return time.process_time() + sum(os.times()[2:4]) - began

    assert min(once() for _ in range(3)) < 0.5  # s of CPU: the clock would measure what else this machine does


@pytest.mark.parametrize(
    ("error", "code", "stderr"),
    [
        (errors.NotFound("no run", place="here", hint="look there"), 1, "error: here: no run\n\nhint: look there\n"),
        (errors.StageFailed("it broke"), 3, "error: it broke\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_a_mistake_is_a_message_and_a_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, stderr: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(opening, "known", fail)
    result = runner.invoke(app, ["logs", "abcd"])
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", stderr)


def test_debug_shows_where_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    result = runner.invoke(app, ["--debug", "logs", "abcd"])
    assert isinstance(result.exception, errors.NotFound)


def test_our_own_mistakes_fly(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(opening, "known", fail)
    assert isinstance(runner.invoke(app, ["logs", "abcd"]).exception, ZeroDivisionError)


def test_to_look_creates_nothing(home: Path) -> None:
    assert runner.invoke(app, ["status"]).stdout == "nothing was submitted yet\n"
    assert runner.invoke(app, ["status", "--json"]).stdout == "[]\n"
    for command in (["logs", "abcd"], ["cancel"], ["table", "quickstart"], ["ui"], ["status", "abcd"]):
        result = runner.invoke(app, command)
        assert result.exit_code == 1
        assert "nothing was submitted yet" in result.stderr
    assert not home.exists()


def test_a_misspelt_pipeline_is_one_readable_error() -> None:
    result = runner.invoke(app, ["submit", "quikstart"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: no pipeline is called `quikstart`\n\nhint: did you mean `quickstart`?")


def test_wrong_usage_is_code_2() -> None:
    assert runner.invoke(app, ["plan", "quickstart", "--data", "folder"]).exit_code == 2
    assert runner.invoke(app, ["table", "quickstart", "--format", "word"]).exit_code == 2
    assert runner.invoke(app, ["submitt"]).exit_code == 2
    for command in (["plan"], ["plan", "quickstart", "--table", "table-1"], ["submit", "--table", "x", "--set", "a=1"]):
        assert runner.invoke(app, command).exit_code == 2


def test_a_table_is_shown_without_the_word() -> None:
    shown = runner.invoke(app, ["table", "table-4"])
    assert shown.exit_code == 0, shown.output
    assert "65.5" in shown.stdout
    for command in (["table", "show", "table-4"], ["table", "--format", "text", "table-4"]):
        assert runner.invoke(app, command).stdout == shown.stdout


def test_a_plan_says_what_runs_at_the_same_time() -> None:
    planned = runner.invoke(app, ["plan", "--table", "table-4", "--nodes", "1x8", "--speed", "671.47"])
    assert planned.exit_code == 0, planned.output
    assert "on 1 node of 8 GPUs:\n       0:00  1 pretrain (8 GPUs)\n" in planned.stdout
    assert "GPU-hours, 100% of them used" in planned.stdout
    unknown = runner.invoke(app, ["plan", "--table", "table-4", "--nodes", "2x8"])
    assert "      first  2 pretrain (8 GPUs each)\n" in unknown.stdout
    assert "time unknown: no earlier run tells how long linear, pretrain takes" in unknown.stdout
    for more in (["--nodes", "8"], ["--nodes", "1x8", "--cluster", "aws"], ["--cluster", "slurm"]):
        assert runner.invoke(app, ["plan", "--table", "table-4", *more]).exit_code in (1, 2)


def test_a_table_as_a_goal_is_planned_without_data() -> None:
    planned = runner.invoke(app, ["plan", "--table", "table-4"])
    assert planned.exit_code == 0, planned.output
    assert "3 of 3 cells are missing" in planned.stdout
    assert "GPU-hours unknown: no run of this kind yet" in planned.stdout


def test_folders_of_the_command_line_are_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    expected = ["a.b=1", f"data.folder={json.dumps(str(tmp_path / 'my: photos'))}"]
    assert cli_runs.overrides(["a.b=1"], ["folder=my: photos"]) == expected


def test_names_complete_by_their_start() -> None:
    assert "quickstart" in cli_runs.names("pipelines", "qui")
    assert "quickstart" in cli_tables.complete("")
    assert cli_runs.names("pipelines", "no such") == []


def test_a_closed_pipe_is_no_mistake() -> None:
    command = [sys.executable, "-c", "from orchestration.cli import main; main()", "status"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stderr
    process.stdout.close()  # nobody reads
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == cli.CLOSED_PIPE


def test_status_of_a_run_shows_all_its_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = look.StageLook("bbbb2222", "linear", "linear", "a", "done", 1.0, 0, 0, 2.0, {}, "")
    seen = look.SubmissionLook("aaaa1111", "quickstart", "t", "done", 0, 3.0, "host", (stage,))
    monkeypatch.setattr(opening, "known", lambda: (None, object()))
    monkeypatch.setattr(opening, "past", lambda: (None, object()))
    monkeypatch.setattr(look, "status", lambda store, home, run: [seen])
    assert "bbbb2222" in runner.invoke(app, ["status", "aaaa"]).stdout
    assert "bbbb2222" not in runner.invoke(app, ["status"]).stdout
    assert json.loads(runner.invoke(app, ["status", "--json"]).stdout)[0]["stages"][0]["name"] == "linear"


def test_version() -> None:
    assert runner.invoke(app, ["--version"]).stdout.startswith("leoclr-ops 0.")
