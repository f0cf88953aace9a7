"""Against an S3 server over HTTP (moto's), as the real thing is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from orchestration.cluster.bucket import Bucket
from orchestration.errors import StoreError
from tests.orchestration import s3


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3.empty() as address:
        yield address


def bucket(endpoint: str, **more: Any) -> Bucket:
    return Bucket(
        name="runs", prefix="a/b/", endpoint=endpoint, region="us-east-1", access_key="k", secret_key="s", **more
    )


def test_a_probe_leaves_nothing_behind(endpoint: str) -> None:
    client = bucket(endpoint).client()
    client.create_bucket(Bucket="runs")
    client.put_bucket_versioning(Bucket="runs", VersioningConfiguration={"Status": "Enabled"})
    bucket(endpoint).probe()
    assert "Contents" not in client.list_objects_v2(Bucket="runs")
    keys = {each["Key"] for each in client.list_object_versions(Bucket="runs")["Versions"]}
    assert len(keys) == 1  # the server kept a version: it was written, below the prefix
    assert keys.pop().startswith("a/b/.leoclr-ops-")


def test_a_bucket_that_is_not_there_is_named(endpoint: str) -> None:
    with pytest.raises(StoreError, match="HeadBucket is refused: 404") as caught:
        Bucket(name="none", endpoint=endpoint, region="us-east-1", access_key="k", secret_key="s").probe()
    assert caught.value.hint == "create the bucket, or correct storage.uri"


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(StoreError, match="Could not connect to the endpoint URL") as caught:
        bucket("http://127.0.0.1:9").probe()
    assert "is the server up" in caught.value.hint


def test_no_keys_is_said(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/none")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/none")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreError, match="Unable to locate credentials"):
        Bucket(name="runs", endpoint=endpoint, region="us-east-1").probe()
