"""Is this machine ready? Each check answers ok, warn or fail, and what to do. Slow ones run in processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import psutil

from orchestration.errors import LeoclrOpsError
from orchestration.storage import Home
from orchestration.tracking import Store

PROBE_S = 120  # a cold disk reads torch for a minute
DISK_GB, MEMORY_GB, SHM_GB = 5, 4, 1  # below these a check warns: two warm workers hold about 1 GB each
SHM = Path("/dev/shm")  # noqa: S108  # where Ray keeps its objects; it is only measured
PACKAGES = ("torch", "torchvision", "ray", "mlflow", "pydantic", "typer")

TORCH = """
import json, torch, torchvision
boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9]])
kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist()
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(json.dumps({"torch": torch.__version__, "torchvision": torchvision.__version__, "kept": kept, "gpus": gpus}))
"""
CODE = "import json; from leoclr.augment import native; print(json.dumps({'ready': int(native.ready())}))"
RAY = "import json, ray.train; print(json.dumps({'ray': ray.__version__}))"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check; `todo` says how to mend what is not ok."""

    name: str
    level: Literal["ok", "warn", "fail"]
    fact: str
    todo: str = ""


def examine(home: Home) -> list[Finding]:
    """Return the findings of all checks, in a fixed order, after a few seconds."""
    checks: list[Callable[[], list[Finding]]] = [
        _versions,
        _torch,
        lambda: [_machine_code()],
        _ray,
        lambda: [_store(home)],
        lambda: [_disk(home.path)],
        lambda: [_memory(psutil.virtual_memory().available), _shared_memory(SHM)],
        lambda: [_git(Path.cwd())],
    ]
    with ThreadPoolExecutor(len(checks)) as pool:
        return [finding for findings in pool.map(lambda check: check(), checks) for finding in findings]


def _versions() -> list[Finding]:
    found, missing = [f"Python {sys.version.split()[0]}"], []
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        return [
            Finding("versions", "fail", f"not installed: {', '.join(missing)}", "run `make` to install what is missing")
        ]
    return [Finding("versions", "ok", ", ".join(found))]


def _torch() -> list[Finding]:
    """Import the pair and run one of torchvision's compiled operators: a mismatched pair fails there, or before."""
    answer = _probe(TORCH)
    if isinstance(answer, str) or answer["kept"] != [0]:
        fact = answer if isinstance(answer, str) else f"nms kept {answer['kept']} of two boxes, expected [0]"
        todo = "install torch and torchvision of one release from the same index; `make` does"
        return [Finding("torch pair", "fail", fact, todo)]
    pair = Finding("torch pair", "ok", f"torch {answer['torch']} with torchvision {answer['torchvision']}: nms runs")
    return [pair, _gpu(tuple(map(str, answer["gpus"])), driver=shutil.which("nvidia-smi") is not None)]


def _gpu(names: Sequence[str], *, driver: bool) -> Finding:
    if names:
        return Finding("GPU", "ok", ", ".join(names))
    if driver:
        return Finding(
            "GPU", "warn", "nvidia-smi is here, but torch sees no GPU", "compare `nvidia-smi` with torch's CUDA version"
        )
    return Finding("GPU", "ok", "none: the CPU is enough for quickstart")


def _machine_code() -> Finding:
    """Compile what colors views on a CPU, or find it compiled."""
    answer = _probe(CODE)
    if isinstance(answer, str) or not answer["ready"]:
        fact = answer if isinstance(answer, str) else "none works: color views take ten times as long on a CPU"
        return Finding("C compiler", "warn", fact, "install gcc or clang, or name one in $CC")
    return Finding("C compiler", "ok", "views of color images are made by machine code")


def _ray() -> list[Finding]:
    answer = _probe(RAY)
    if isinstance(answer, str):
        return [Finding("Ray", "fail", answer, "run `make` to install ray[train,tune]")]
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        todo = "unset RAY_AUTH_MODE: Ray's ports are open on all interfaces, and its token is what keeps others out"
        return [Finding("Ray", "warn", f"{answer['ray']}, which asks nobody for a token", todo)]
    return [Finding("Ray", "ok", f"{answer['ray']}, with Ray Train")]


def _probe(program: str) -> dict[str, Any] | str:
    """Run `program` in a fresh interpreter; return the JSON of its last line, or why there is none."""
    command = [sys.executable, "-W", "ignore", "-c", program]
    try:
        result = subprocess.run(  # noqa: S603  # our own programs
            command, capture_output=True, text=True, timeout=PROBE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {PROBE_S} s"
    if result.returncode:
        return (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
    answer: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
    return answer


def _store(home: Home) -> Finding:
    """Open the store as a submission does: that creates the database and the experiment where they are missing."""
    try:
        home.path.mkdir(parents=True, exist_ok=True)
        store = Store.open(home)
        store.ask()
    except (LeoclrOpsError, OSError) as error:
        todo = (
            getattr(error, "hint", "")
            or "set LEOCLR_OPS_HOME to a folder that you may write, or mend MLFLOW_TRACKING_URI"
        )
        return Finding("store", "fail", str(error), todo)
    if not os.access(home.path, os.W_OK):
        return Finding(
            "store", "fail", f"{home.path} is not writable", "set LEOCLR_OPS_HOME to a folder that you may write"
        )
    return Finding("store", "ok", f"{store.uri} answers; files go to {home.path}")


def _disk(folder: Path) -> Finding:
    while not folder.exists():  # the home is made by the first submission
        folder = folder.parent
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < DISK_GB:
        return Finding("disk", "warn", f"{free_gb:.1f} GB free at {folder}", "free some space, or set LEOCLR_OPS_HOME")
    return Finding("disk", "ok", f"{free_gb:.0f} GB free at {folder}")


def _memory(available_bytes: int) -> Finding:
    available_gb = available_bytes / 1e9
    fact = f"{available_gb:.1f} GB available, {psutil.cpu_count()} CPU cores"
    if available_gb < MEMORY_GB:
        return Finding("memory", "warn", fact, "close other programs, or run fewer stages at a time")
    return Finding("memory", "ok", fact)


def _shared_memory(folder: Path) -> Finding:
    if not folder.exists():
        return Finding("shared memory", "ok", f"no {folder} on this system: Ray uses its own")
    size_gb = shutil.disk_usage(folder).total / 1e9
    if size_gb < SHM_GB:
        todo = "in a container, start it with --shm-size=2g; else Ray's object store falls back to the disk"
        return Finding("shared memory", "warn", f"{size_gb:.2f} GB at {folder}", todo)
    return Finding("shared memory", "ok", f"{size_gb:.0f} GB at {folder}")


def _git(folder: Path) -> Finding:
    if shutil.which("git") is None:
        return Finding("git", "warn", "not installed", "install git: runs record the commit of the code")
    command = ["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"]
    result = subprocess.run(  # noqa: S603  # our own command
        command, capture_output=True, text=True, timeout=10, check=False
    )
    if result.returncode:
        return Finding("git", "warn", f"{folder} has no commit", "runs will record the commit as unknown")
    return Finding("git", "ok", f"commit {result.stdout.strip()}")
