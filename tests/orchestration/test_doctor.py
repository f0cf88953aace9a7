import subprocess
from pathlib import Path

import pytest

from orchestration import doctor
from orchestration.doctor import Finding
from orchestration.errors import StoreError
from orchestration.storage import Home
from orchestration.tracking import Store

OK = '{"torch": "2.15", "torchvision": "0.29", "kept": [0], "gpus": ["NVIDIA H100"]}'


def test_a_sound_pair_names_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TORCH", f"print('noise'); print('{OK}')")
    pair, gpu = doctor._torch()
    assert pair == Finding("torch pair", "ok", "torch 2.15 with torchvision 0.29: nms runs")
    assert gpu == Finding("GPU", "ok", "NVIDIA H100")


@pytest.mark.parametrize(
    ("program", "fact"),
    [
        (
            "raise RuntimeError('operator torchvision::nms does not exist')",
            "RuntimeError: operator torchvision::nms does not exist",
        ),
        (f"print('{OK}'.replace('[0]', '[0, 1]'))", "nms kept [0, 1] of two boxes, expected [0]"),
        ("import os; os._exit(139)", "exit code 139"),
    ],
)
def test_a_broken_pair_fails_with_its_last_words(monkeypatch: pytest.MonkeyPatch, program: str, fact: str) -> None:
    monkeypatch.setattr(doctor, "TORCH", program)
    (pair,) = doctor._torch()
    assert (pair.level, pair.fact) == ("fail", fact)
    assert "install" in pair.todo


def test_without_a_compiler_views_are_slow_and_doctor_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # nothing is compiled yet
    assert doctor._machine_code().level == "ok"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    monkeypatch.setenv("CC", "/no/such/compiler")
    found = doctor._machine_code()
    assert (found.level, "$CC" in found.todo) == ("warn", True)


def test_a_program_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PROBE_S", 1)
    assert doctor._probe("import time; time.sleep(60)") == "no answer in 1 s"


def test_ray_without_a_token_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "RAY", 'print(\'{"ray": "2.60.0"}\')')
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    assert [finding.level for finding in doctor._ray()] == ["ok"]
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    (finding,) = doctor._ray()
    assert (finding.level, finding.fact) == ("warn", "2.60.0, which asks nobody for a token")


def test_a_driver_without_a_gpu_in_torch_is_a_warning_and_no_gpu_is_fine() -> None:
    assert doctor._gpu((), driver=True).level == "warn"
    assert doctor._gpu((), driver=False).level == "ok"


def test_a_store_that_does_not_answer_fails_with_its_hint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(home: Home, uri: str | None = None) -> Store:
        raise StoreError("nothing answers", place="https://mlflow.example.org", hint="start the server")

    monkeypatch.setattr(Store, "open", refuse)
    expected = Finding("store", "fail", "https://mlflow.example.org: nothing answers", "start the server")
    assert doctor._store(Home(tmp_path)) == expected


def test_a_home_that_cannot_be_made_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finding = doctor._store(Home(tmp_path / "file" / "home"))
    assert finding.level == "fail"
    assert "LEOCLR_OPS_HOME" in finding.todo


def test_little_room_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert doctor._disk(tmp_path / "not" / "there" / "yet").fact.endswith(f"GB free at {tmp_path}")
    assert doctor._memory(int(3.9e9)).level == "warn"
    assert doctor._memory(int(4.1e9)).level == "ok"
    monkeypatch.setattr(doctor, "SHM_GB", 1e9)
    monkeypatch.setattr(doctor, "DISK_GB", 1e9)
    assert doctor._shared_memory(tmp_path).todo.startswith("in a container")
    assert doctor._disk(tmp_path).level == "warn"
    assert doctor._shared_memory(tmp_path / "absent").level == "ok"


def test_a_folder_without_commits_is_a_warning(tmp_path: Path) -> None:
    assert doctor._git(tmp_path).level == "warn"
    who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    for command in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    assert doctor._git(tmp_path).fact.startswith("commit ")


def test_all_checks_report_in_a_fixed_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "TORCH", f"print('{OK}')")
    monkeypatch.setattr(doctor, "RAY", 'print(\'{"ray": "2.60"}\')')
    monkeypatch.setattr(doctor, "_store", lambda home: Finding("store", "ok", ""))
    names = [finding.name for finding in doctor.examine(Home(tmp_path))]
    assert names == [
        "versions",
        "torch pair",
        "GPU",
        "C compiler",
        "Ray",
        "store",
        "disk",
        "memory",
        "shared memory",
        "git",
    ]
