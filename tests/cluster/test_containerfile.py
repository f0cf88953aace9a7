from __future__ import annotations

import re

from tests.cluster.files import CLUSTER, ROOT

TEXT = (CLUSTER / "Containerfile").read_text()


def test_it_copies_what_is_there_and_all_packages() -> None:
    copied = {name for line in re.findall(r"^COPY (.+) \S+$", TEXT, re.M) for name in line.split()}
    assert all((ROOT / name).exists() for name in copied)
    assert {"leoclr", "jobs", "orchestration", "cluster", "pyproject.toml", "constraints.txt"} <= copied


def test_everything_is_installed_by_the_constraints_and_run_by_nobody_special() -> None:
    installs = [line for line in TEXT.replace("\\\n", "").splitlines() if "pip install" in line]
    assert len(installs) == 2
    assert all("--constraint /tmp/constraints.txt" in line for line in installs)
    assert "ray[default,train,tune]" in TEXT  # without `default` there is no dashboard, and no Jobs API
    assert TEXT.index("\nUSER ray") > TEXT.rindex("RUN ")


def test_it_has_what_ray_s_launchers_call() -> None:
    packages = re.search(r"--no-install-recommends (.+)", TEXT)
    assert packages
    assert {"wget", "rsync", "openssh-client", "gcc"} <= set(packages[1].split())
