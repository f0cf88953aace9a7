"""How MLflow is reached: its client, our experiment, and what it raises in our words."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from orchestration import addresses, naming
from orchestration.errors import StoreError, Unanswered
from orchestration.storage import Home, locked

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

EXPERIMENT = "leoclr-ops"
FINAL = "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"  # answers of MLflow that stay the same
POOL = "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"
CREATE_WAIT_S = 120.0  # for another process that is creating the database, which takes 3 to 7 s
DEFAULTS = {  # ours, where the user set nothing; MLflow reads them when it is imported or asked
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # 7 by default: a call to a dead server blocks for 246 s
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout is for data
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",  # a password is not carried to an address that nobody named
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # it tells of each table that it creates
}


class Connection:
    """A tracking store: its address, our experiment there, and MLflow's client, made when it is first asked for.

    To import MLflow takes 3 s and more, and who only looks at a SQLite file does without.
    """

    def __init__(self, home: Home, uri: str | None) -> None:
        """Take `uri`, else $MLFLOW_TRACKING_URI, else the home's own SQLite file."""
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or own(home)
        if problem := addresses.problem(self.uri, addresses.TRACKING):
            raise StoreError(problem, place=without_secrets(self.uri), hint="mend MLFLOW_TRACKING_URI")
        self._home = home

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client; a SQLite file that is missing is created. Raises: StoreError when nothing answers."""
        with speaking(self.uri), self._alone(), _one_kept_open(self.uri):
            from mlflow.tracking import MlflowClient

            return MlflowClient(tracking_uri=self.uri)

    def experiment(self) -> tuple[str, str]:
        """Return the id of our experiment, which is created when missing, and the place of its artifacts.

        Raises: StoreError when nothing answers, or there is no room for it.
        """
        client = self.client
        with speaking(self.uri), self._alone():
            return _experiment(client, self._home)

    def _alone(self) -> AbstractContextManager[None]:
        """Keep other processes from creating the same tables and the same experiment."""
        self._home.artifacts.mkdir(parents=True, exist_ok=True)
        return locked(self._home.path / "mlflow.lock", wait_s=CREATE_WAIT_S)


@contextmanager
def _one_kept_open(uri: str) -> Iterator[None]:
    """Let MLflow keep one connection to a database open, and not five: PostgreSQL has 100 for all drivers.

    A file has no such limit. MLflow reads the variable when a process makes its first client, so it is set no longer
    than that takes, and no process that we start inherits it.
    """
    if uri.startswith("sqlite") or POOL in os.environ:
        yield
        return
    os.environ[POOL] = "1"
    try:
        yield
    finally:
        os.environ.pop(POOL, None)


def own(home: Home) -> str:
    """Return the tracking URI of the home's own SQLite file."""
    return f"sqlite:///{home.database}"


@contextmanager
def speaking(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into a StoreError that names the store and tells no password."""
    try:
        yield
    except _failures() as error:
        fact = _without_password(str(error).strip().partition("\n")[0], uri) or type(error).__name__
        if getattr(error, "error_code", "") in FINAL:
            raise StoreError(fact, place=without_secrets(uri)) from error
        hint = "is the store up, and MLFLOW_TRACKING_URI right? `leoclr-ops doctor` tries it"
        raise Unanswered(fact, place=without_secrets(uri), hint=hint) from error


def _failures() -> tuple[type[Exception], ...]:
    """Return what a store raises: what was never imported was not raised either."""
    theirs = (("mlflow.exceptions", "MlflowException"), ("sqlalchemy.exc", "SQLAlchemyError"))
    known = [getattr(sys.modules[module], name) for module, name in theirs if module in sys.modules]
    return (sqlite3.Error, OSError, ImportError, *known)  # the last: a database whose driver is not installed


def _without_password(fact: str, uri: str) -> str:
    """Return what a library says, less the user and the password of the store's address, however it writes them."""
    user = urlsplit(uri).netloc.rpartition("@")[0]
    password = user.partition(":")[2]
    # A user may be any word, as `ml` is in mlflow: without a password it goes only where an address has it.
    known = (f"{user}@" if user else "", user if password else "", password, unquote(password))
    for secret in (*known, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")):
        fact = fact.replace(secret, "***@" if secret.endswith("@") else "***") if secret else fact
    return fact


def without_secrets(uri: str) -> str:
    """Return `uri` without user name, password and query; of what is no address, what cannot be any of them.

    >>> without_secrets("https://ann:secret@mlflow.example.org:5000/x?token=1")
    'https://mlflow.example.org:5000/x'
    >>> without_secrets("https://ann:secret@[::1")
    'https://[::1'
    """
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        return _behind_user(uri)
    if not parts.netloc:
        return uri.partition("?")[0] if parts.scheme.startswith("sqlite") else _behind_user(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _behind_user(text: str) -> str:
    """Return a text less all between its scheme and its last @, and less a query."""
    before, _, rest = text.rpartition("@")
    scheme, found, _ = before.partition("://")
    return (scheme + found if found else "") + re.split("[?#]", rest)[0]


def _experiment(client: MlflowClient, home: Home) -> tuple[str, str]:
    """Return id and artifact location of our experiment, which is created when missing."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        served = client.tracking_uri.startswith(("http://", "https://"))  # a server knows its own place for artifacts
        location = None if served else home.artifacts.resolve().as_uri()
        found = client.get_experiment(client.create_experiment(EXPERIMENT, artifact_location=location))
    if found.lifecycle_stage != "active":
        hint = f"mlflow experiments restore --experiment-id {found.experiment_id}"
        raise StoreError(f"the experiment `{EXPERIMENT}` was deleted", hint=hint)
    for key, value in naming.EXPERIMENT_TAGS.items():
        if found.tags.get(key) != value:
            client.set_experiment_tag(found.experiment_id, key, value)
    return str(found.experiment_id), str(found.artifact_location)
