from __future__ import annotations

import base64
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from orchestration.cluster import checks
from orchestration.cluster.profile import ClusterProfile
from orchestration.doctor import Finding
from tests.orchestration import s3
from tests.orchestration.cluster.services import Services, serving

TOKEN = "s3cret-t0ken"


def made(address: str, **more: Any) -> ClusterProfile:
    whole: dict[str, Any] = {
        "name": "c", "title": "C", "address": address, "tracking": {"uri": "http://mlflow:5000", "uri_here": address},
        "storage": {"uri": "/none/such"}, "source": "/c.yaml",
    }  # fmt: skip
    return ClusterProfile.model_validate(whole | more)


def by_name(findings: list[Finding], name: str) -> list[tuple[str, str]]:
    return [(each.level, f"{each.fact} {each.todo}") for each in findings if each.name == name]


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", TOKEN)
    monkeypatch.setenv("BAD_TOKEN", "wr0ng")
    monkeypatch.delenv("NO_TOKEN", raising=False)


ASK: dict[str, Any] = {"auth": {"token": {"env": "A_TOKEN"}}}


@pytest.mark.parametrize(
    ("services", "more", "ray", "authentication"),
    [
        (Services(token=TOKEN), ASK, "ok", ("ok", "by token")),
        (Services(token=TOKEN), {}, "fail", ("fail", "by token; ours was not taken")),
        (Services(token=TOKEN), {"auth": {"token": {"env": "BAD_TOKEN"}}}, "fail", ("fail", "was not taken")),
        (Services(), {}, "ok", ("warn", "only the loopback address")),
        (Services(), {"auth": {"open": True}}, "ok", ("warn", "as the profile intends")),
        (Services(), ASK, "ok", ("fail", "asks nobody for a token start it with RAY_AUTH_MODE=token")),
        (Services(token=TOKEN, ray="2.59.1"), ASK, "fail", ("ok", "by token")),
    ],
)
def test_the_dashboard_is_asked_with_the_token_and_without(
    services: Services, more: dict[str, Any], ray: str, authentication: tuple[str, str]
) -> None:
    with serving(services) as address:
        findings = checks._ray(made(address, **more))
    (found,) = by_name(findings, "Ray")
    assert found[0] == ray
    (said,) = by_name(findings, "authentication")
    assert said[0] == authentication[0]
    assert authentication[1] in said[1]
    assert not any(secret in each.fact + each.todo for each in findings for secret in (TOKEN, "wr0ng"))


def test_another_version_of_ray_is_named_with_ours() -> None:
    with serving(Services(ray="2.59.1")) as address:
        (said, *_) = by_name(checks._ray(made(address)), "Ray")
    ours = metadata.version("ray")
    assert f"the cluster has 2.59.1, this machine {ours}" in said[1]
    assert f"ray=={ours}" in said[1]


def test_what_is_no_dashboard_is_said() -> None:
    nobody = made("http://127.0.0.1:9")
    assert "Connection refused" in checks._ray(nobody)[0].fact
    with serving(Services()) as address:
        (finding, *_) = checks._ray(made(f"{address}/prefix"))
    assert (finding.level, "is no Ray dashboard" in finding.fact) == ("fail", True)


def test_a_token_that_is_not_set_is_said_before_anything_is_sent() -> None:
    with serving(Services(token=TOKEN)) as address:
        (finding,) = checks._ray(made(address, auth={"token": {"env": "NO_TOKEN"}}))
    assert (finding.level, finding.fact) == ("fail", "the token: $NO_TOKEN: is not set")


def test_a_token_in_clear_over_a_network_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Services(token=TOKEN)) as address:
        monkeypatch.setattr(ClusterProfile, "is_local", property(lambda self: False))
        (said,) = by_name(checks._ray(made(address, **ASK)), "authentication")
    assert (said[0], "unencrypted use https" in said[1]) == ("warn", True)


@pytest.mark.parametrize(
    ("services", "level", "words"),
    [
        (Services(), "ok", "at http://127.0.0.1"),
        (Services(mlflow="2.9.1"), "fail", "has MLflow 2.9.1"),
        (Services(basic="Basic x"), "fail", "refuses the user"),
        (Services(hosts=False), "fail", "--allowed-hosts"),
    ],
)
def test_mlflow_is_asked_as_a_run_would(services: Services, level: str, words: str) -> None:
    with serving(services) as address:
        (finding,) = checks._tracking(made(address))
    assert finding.level == level
    assert words in f"{finding.fact} {finding.todo}"


def test_mlflow_is_told_user_and_password() -> None:
    basic = "Basic " + base64.b64encode(f"ann:{TOKEN}".encode()).decode()
    tracking = {"uri": "http://mlflow:5000", "username": "ann", "password": {"env": "A_TOKEN"}}
    with serving(Services(basic=basic)) as address:
        (finding,) = checks._tracking(made(address, tracking={**tracking, "uri_here": address}))
    assert finding.level == "ok"


def test_a_tracking_server_without_a_password_is_said_to_be_open() -> None:
    with serving(Services()) as address:
        (finding,) = checks._tracking(made(address))
    assert finding.level == "ok"
    assert "who reaches it can read and change all runs" in finding.fact


def test_loopback_as_the_nodes_address_is_a_warning() -> None:
    with serving(Services()) as address:
        ok, warning = checks._tracking(made(address, tracking={"uri": address}))
    assert (ok.level, warning.level) == ("ok", "warn")
    assert "which is each node itself" in warning.fact


def test_a_folder_is_tried_where_it_is_seen(tmp_path: Path) -> None:
    (unseen,) = checks._storage(made("http://127.0.0.1:9"))
    assert (unseen.level, "cannot be checked from here" in unseen.fact) == ("warn", True)
    (seen,) = checks._storage(made("http://127.0.0.1:9", storage={"uri": str(tmp_path)}))
    assert seen.level == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_fails() -> None:
    (finding,) = checks._storage(made("http://127.0.0.1:9", storage={"uri": "/proc"}))
    assert (finding.level, "cannot be written" in finding.fact) == ("fail", True)


def test_a_bucket_is_written_through_our_address_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with s3.empty() as address:
        storage = {
            "uri": "s3://absent/x", "endpoint": "http://s3.cluster.local:9000", "endpoint_here": address,
            "region": "us-east-1", "access_key": {"env": "A_TOKEN"}, "secret_key": {"env": "A_TOKEN"},
        }  # fmt: skip
        profile = made("http://127.0.0.1:9", storage=storage, home=Path("/tmp/x"))
        (missing,) = checks._storage(profile)
        bucket = checks._bucket(profile.storage)
        bucket.client().create_bucket(Bucket="absent")
        (found,) = checks._storage(profile)
    assert (missing.level, missing.todo) == ("fail", "create the bucket, or correct storage.uri")
    assert found.level == "ok"
    assert TOKEN not in repr(bucket)


def test_secrets_that_would_be_sent_must_be_there() -> None:
    secrets = {"HF_TOKEN": {"env": "NO_TOKEN"}}
    (kept,) = checks._environment(made("http://127.0.0.1:9", environment={"secrets": secrets}))
    assert (kept.level, "the nodes must have HF_TOKEN themselves" in kept.fact) == ("ok", True)
    (missing,) = checks._environment(made("http://x", environment={"secrets": secrets, "send_secrets": True}))
    assert (missing.level, missing.fact) == ("fail", "HF_TOKEN: $NO_TOKEN: is not set")
    (sent,) = checks._environment(
        made("http://x", environment={"secrets": {"HF_TOKEN": {"env": "A_TOKEN"}}, "send_secrets": True})
    )
    assert (sent.level, "lists" not in sent.fact and "cluster's jobs reads them" in sent.todo) == ("warn", True)


def test_all_checks_are_made_in_order_though_one_lacks_its_secret(tmp_path: Path) -> None:
    storage = {"uri": "s3://bucket/x", "access_key": {"env": "NO_TOKEN"}, "secret_key": {"env": "NO_TOKEN"}}
    with serving(Services(token=TOKEN)) as address:
        data = {"imagenet": Path("/data/imagenet")}
        findings = checks.examine(made(address, storage=storage, home=tmp_path, data=data, **ASK))
    names = [each.name for each in findings]
    assert names == ["profile", "Ray", "authentication", "tracking", "storage", "data", "environment"]
    assert by_name(findings, "storage")[0] == ("fail", "$NO_TOKEN: is not set export NO_TOKEN=...")
    assert "imagenet at /data/imagenet" in findings[5].fact
    assert "leoclr-ops data check imagenet --root /data/imagenet" in findings[5].todo
