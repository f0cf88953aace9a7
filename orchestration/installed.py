"""What a job's processes install before its loop runs: the keeper that its driver named in the job, and no secret."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs import keeping
from jobs.contract import Job
from jobs.keeping import Here, Keeper
from orchestration import shards
from orchestration.cluster.bucket import Bucket
from orchestration.cluster.objects import Objects
from orchestration.mirror import Mirror
from orchestration.mirror_keeper import Node
from orchestration.storage import Home, address

_REACHED = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_REGION")


def facts(home: Home, root: Path) -> dict[str, str]:
    """Return what a node must know: where the mirror is, how it is reached, where the home lies. Keys it has itself.

    Nothing, where there is no mirror and `root`, where the data lies, is a folder.
    """
    if not home.mirror and not address(root):
        return {}
    reached = {name: os.environ[name] for name in _REACHED if os.environ.get(name)}
    return {"mirror": home.mirror, "home": str(home.path), **reached}


@contextmanager
def keeper(config: Mapping[str, Any]) -> Iterator[None]:
    """Install the keeper that a `Job`, as JSON, names; none where all nodes see one folder."""
    job = Job.model_validate(config)
    if not job.keeper:
        yield
        return
    for name in _REACHED:
        if name in job.keeper:
            os.environ.setdefault(name, job.keeper[name])
    with keeping.use(_keeper(job)):
        yield


def _keeper(job: Job) -> Keeper:
    home = Home(Path(job.keeper["home"]), job.keeper["mirror"])
    if not home.mirror:
        return _Reads(home)
    far = Mirror(Objects(Bucket.of(home.mirror)), home.path)
    return Node(far, fingerprint=job.fingerprint, retention=job.resources.checkpoints, data=_Reads(home).data)


class _Reads(Here):
    """Keeps nothing elsewhere, but reads data that lies in a bucket."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def data(self, root: str) -> Path:
        """See `jobs.keeping.Keeper`."""
        return shards.root(root, self._home.stores) if root.startswith("s3://") else Path(root)
