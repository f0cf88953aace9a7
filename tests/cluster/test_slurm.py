"""The script is checked by shellcheck and run: Slurm and Ray are stand-ins that write down how they were called.

They are no Slurm; what is tested is what the script does with the answers that Slurm gives.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.files import CLUSTER, ours, tree

SCRIPT = CLUSTER / "slurm" / "leoclr-ops.sbatch"
STANDINS = {
    "scontrol": 'echo "scontrol $*" >>"$CALLS"; [ "$1" != show ] || printf "n1\\nn2\\nn3\\n"',
    "srun": 'while [[ "$1" == --* ]]; do node=$1; shift; case $node in --nodelist=*) on=${node#*=};; esac; done\n'
    'echo "$on: $*" >>"$CALLS"; export NODE=$on; exec "$@"',
    "hostname": 'echo "fd00::1 10.0.0.1"',
    "python": 'echo "python ${*: -2}" >>"$CALLS"; [[ $2 != *execvp* ]] || exec ' + sys.executable + ' "$@"',
}
VENV = {
    "ray": '[ "$1" != start ] || [ -n "${RAY_FAILS:-}" ] || exec sleep 60; [ -z "${RAY_FAILS:-}" ] || exit 1\n'
    '[ "$1" != health-check ] || grep -q "ray start --head" "$CALLS"',  # none answers before it was started
    "leoclr-ops": "exec " + sys.executable + ' "$HOME/submission.py" "$@"',
}
SUBMISSION = """
import os, sys, time
def note(line):
    with open(os.environ["CALLS"], "a") as calls: print(line, file=calls)
words = [*sys.argv[1:], "at", os.environ["RAY_ADDRESS"], os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN_PATH"]]
note("leoclr-ops " + " ".join(words))
try:
    time.sleep(60 if sys.argv[2] == "slow" else 0)
except KeyboardInterrupt:
    note("interrupted")
    sys.exit(130)
sys.exit(3 if sys.argv[2] == "bad" else 0)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    for folder, programs in ((tmp_path / "bin", STANDINS), (tmp_path / "venv" / "bin", VENV)):
        folder.mkdir(parents=True)
        for name, text in programs.items():
            (folder / name).write_text(f"#!/bin/bash\n{text}\n")
            (folder / name).chmod(0o755)
    (tmp_path / "submission.py").write_text(SUBMISSION)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("token")
    return {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "HOME": str(tmp_path), "CALLS": str(tmp_path / "calls"),
        "LEOCLR_OPS_VENV": str(tmp_path / "venv"), "SLURM_JOB_NODELIST": "n[1-3]", "SLURM_CPUS_PER_TASK": "64",
        "SLURM_GPUS_PER_TASK": "a100:4", "SLURM_JOB_ID": "7",
    }  # fmt: skip


def run(environment: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stderr, Path(environment["CALLS"]).read_text()


def test_shellcheck_finds_nothing() -> None:
    checker = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert checker
    scripts = [path for path in ours() if path.suffix in (".sh", ".sbatch")]
    done = subprocess.run([checker, *scripts], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    for script in scripts:
        subprocess.run(["bash", "-n", script], check=True)


def test_one_ray_a_node_and_the_submission_on_all(environment: dict[str, str]) -> None:
    code, stderr, calls = run(environment, "quickstart", "--set", "a=1")
    assert code == 0, stderr
    starts = [line for line in calls.splitlines() if "ray start" in line]
    every = "--num-cpus=64 --num-gpus=4 --block"
    head = "--head --node-ip-address=10.0.0.1 --port=6379 --dashboard-host=10.0.0.1 --dashboard-port=8265"
    assert starts[0] == f"n1: ray start {head} {every}"
    assert sorted(starts[1:]) == [f"{node}: ray start --address=10.0.0.1:6379 {every}" for node in ("n2", "n3")]
    assert "python 10.0.0.1:6379 3\n" in calls  # waits until all three are there
    token = environment["HOME"] + "/.ray/auth_token"
    assert f"leoclr-ops submit quickstart --set a=1 at 10.0.0.1:6379 token {token}\n" in calls
    assert "requeue" not in calls


def test_a_failed_submission_is_the_jobs_failure(environment: dict[str, str]) -> None:
    assert run(environment, "bad")[0] == 3


def test_a_head_that_ends_ends_the_job(environment: dict[str, str]) -> None:
    code, stderr, calls = run(environment | {"RAY_FAILS": "1"}, "quickstart")
    assert code == 1
    assert "error: Ray ended on n1" in stderr
    assert "leoclr-ops submit" not in calls


@pytest.mark.parametrize(
    ("missing", "words"), [(".ray/auth_token", "there is no token"), ("venv/bin/ray", "there is no Ray")]
)
def test_what_is_missing_is_said_before_anything_starts(
    environment: dict[str, str], missing: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / missing).unlink()
    (tmp_path / "calls").touch()
    code, stderr, calls = run(environment, "quickstart")
    assert (code, calls) == (1, "")
    assert words in stderr
    assert "hint: " in stderr


def test_before_the_time_is_over_it_stops_well_and_queues_itself(environment: dict[str, str], tmp_path: Path) -> None:
    process = subprocess.Popen([SCRIPT, "slow"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    calls = tmp_path / "calls"
    deadline = time.monotonic() + 30
    while "leoclr-ops submit slow" not in (calls.read_text() if calls.exists() else ""):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert calls.read_text().splitlines()[-2:] == ["interrupted", "scontrol requeue 7"]


def test_the_profile_asks_for_what_a_node_has() -> None:
    asked = tree("profiles/slurm.yaml")["resources"]
    options = dict(
        line[8:].split("=", 1)
        for line in SCRIPT.read_text().splitlines()
        if line.startswith("#SBATCH --") and "=" in line
    )
    gpus = int(options["--gpus-per-task"])
    assert gpus * asked["cpus_per_worker"] <= int(options["--cpus-per-task"])
