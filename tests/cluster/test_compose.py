from __future__ import annotations

import re
import runpy
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orchestration.cluster import profile
from tests.cluster.files import CLUSTER, tree
from tests.orchestration import s3

SERVICES: dict[str, Any] = tree("compose/compose.yaml")["services"]


def test_ports_are_on_loopback_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports == ["127.0.0.1:8333:8333", "127.0.0.1:5000:5000"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_watched_and_limited(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert service["restart"] == "unless-stopped"
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert not service["image"].endswith("latest")
    assert ":" in service["image"]


def test_the_server_waits_for_what_it_needs() -> None:
    assert SERVICES["mlflow"]["depends_on"] == {name: {"condition": "service_healthy"} for name in ("postgres", "s3")}


def test_secrets_come_from_a_file_that_is_made_once(tmp_path: Path) -> None:
    script = shutil.copy(CLUSTER / "compose" / "secrets.sh", tmp_path)
    first = subprocess.run([script], capture_output=True, text=True, check=True)
    file = tmp_path / ".env"
    made = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    values = dict(line.split("=") for line in made.splitlines())
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in values.values())  # also safe inside a URL
    assert len(set(values.values())) == 3
    assert not any(value in first.stdout for value in values.values())
    again = subprocess.run([script], capture_output=True, text=True, check=False)
    assert (again.returncode, file.read_text()) == (1, made)
    assert "hint: new passwords need new volumes" in again.stderr
    wanted = set(re.findall(r"\$\{(\w+)", (CLUSTER / "compose" / "compose.yaml").read_text()))
    assert wanted == set(values)


def test_every_variable_is_required() -> None:
    for variable in re.findall(r"\$\{[^}]*\}", (CLUSTER / "compose" / "compose.yaml").read_text()):
        assert ":?run cluster/compose/secrets.sh first}" in variable


def test_the_local_profile_names_these_services() -> None:
    local = profile.load(CLUSTER / "profiles" / "local.yaml")
    assert local.tracking.uri == "http://127.0.0.1:5000"
    assert local.storage.endpoint == "http://127.0.0.1:8333"
    assert local.storage.region == SERVICES["mlflow"]["environment"]["AWS_DEFAULT_REGION"]
    assert f"s3://{local.storage.bucket}/" in SERVICES["mlflow"]["command"][-1]
    assert f'"{local.storage.bucket}"' in (CLUSTER / "compose" / "make_bucket.py").read_text()
    assert {secret.env for secret in local.secrets().values()} == {"LEOCLR_S3_ACCESS_KEY", "LEOCLR_S3_SECRET_KEY"}


def test_the_bucket_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3.empty() as address:
        for name, value in {
            "AWS_ENDPOINT_URL_S3": address,
            "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        for _ in range(2):
            found = runpy.run_path(str(CLUSTER / "compose" / "make_bucket.py"))
            names = [bucket["Name"] for bucket in found["s3"].list_buckets()["Buckets"]]
            assert names == ["leoclr-ops"]


def test_compose_reads_it(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed")
    folder = shutil.copytree(CLUSTER / "compose", tmp_path / "compose", ignore=shutil.ignore_patterns(".env"))
    subprocess.run([folder / "secrets.sh"], check=True, capture_output=True)
    subprocess.run([docker, "compose", "--file", folder / "compose.yaml", "config", "--quiet"], check=True)
