"""A cluster profile is one file that says where a cluster is, how to get in, and where runs, files and data lie.

    YAML -> tree (`document`) -> no secret and no unknown word in it -> ClusterProfile

Addresses come in two where they can differ: as the cluster's nodes reach a service, and as this machine does
(`..._here`), which a forwarded port makes another one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, model_validator

from jobs.contract import FROZEN, Resources
from orchestration import addresses, check, nodes
from orchestration.cluster import secrets
from orchestration.cluster.secrets import Secret
from orchestration.document import Place, Tree, mapping, read_file, show
from orchestration.errors import SpecError, did_you_mean
from orchestration.nodes import NODES
from orchestration.storage import address

_SECRET_FIELDS = (("auth", "token"), ("tracking", "password"), ("storage", "access_key"), ("storage", "secret_key"))
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")  # S3's rule for names


def _http(value: str) -> str:
    if problem := addresses.problem(value, addresses.HTTP):
        raise ValueError(f"{problem}; such as http://127.0.0.1:8265")
    parts = urlsplit(value)
    if not parts.hostname:
        raise ValueError("expected an address such as http://127.0.0.1:8265")
    if parts.query or parts.fragment:
        raise ValueError("an address ends before ? and #")
    return value.rstrip("/")


Http = Annotated[str, AfterValidator(_http)]


class Auth(BaseModel):
    """Who may run code on the cluster: Ray asks for a token (RAY_AUTH_MODE=token), or it asks nobody."""

    model_config = FROZEN

    token: Secret | None = None  # the cluster's RAY_AUTH_TOKEN
    open: bool = False  # everybody who reaches the address may run code there, and that is intended

    @model_validator(mode="after")
    def _one(self) -> Auth:
        if self.token and self.open:
            raise ValueError("open: a cluster that asks for a token is not open")
        return self


class Tracking(BaseModel):
    """The MLflow server."""

    model_config = FROZEN

    uri: Http  # as the nodes reach it: their MLFLOW_TRACKING_URI
    uri_here: Http | None = None  # as this machine reaches it; None: the same
    username: str | None = None  # of MLflow's basic authentication
    password: Secret | None = None

    @model_validator(mode="after")
    def _both(self) -> Tracking:
        if (self.username is None) != (self.password is None):
            raise ValueError("username: a user name and a password come together")
        return self


class Storage(BaseModel):
    """Where checkpoints and artifacts lie: an S3 bucket, or a folder that all nodes see under one path."""

    model_config = FROZEN

    uri: str  # s3://bucket/prefix or /shared/folder
    endpoint: Http | None = None  # of an S3 server that is not Amazon's, as the nodes reach it
    endpoint_here: Http | None = None  # as this machine reaches it; None: the same
    region: str | None = None  # None: what the AWS configuration of the machine says
    access_key: Secret | None = None  # None: what boto3 finds by itself, such as the role of the machine
    secret_key: Secret | None = None

    @model_validator(mode="after")
    def _is_possible(self) -> Storage:
        if self.bucket is None and not self.uri.startswith("/"):
            raise ValueError("uri: expected s3://bucket/prefix or an absolute path")
        if self.bucket is not None and not _BUCKET.fullmatch(self.bucket):
            raise ValueError("uri: no bucket can be called that")
        if self.bucket is None and self.model_fields_set - {"uri"}:
            raise ValueError("uri: a folder has no endpoint, region or keys; those belong to s3://")
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("access_key: the two keys come together")
        return self

    @property
    def bucket(self) -> str | None:
        """The bucket; None for a folder."""
        return urlsplit(self.uri).netloc if self.uri.startswith("s3://") else None

    @property
    def prefix(self) -> str:
        """What the keys of objects begin with: empty, or ending in a slash."""
        inside = urlsplit(self.uri).path.strip("/")
        return f"{inside}/" if inside else ""


class Environment(BaseModel):
    """What the driver and the workers find around them."""

    model_config = FROZEN

    code: Literal["image", "wheel", "working_tree"] = (
        "image"  # in the nodes' image; the installed version; this checkout
    )
    pip: tuple[str, ...] = ()  # requirements beside it, installed on each node by Ray
    variables: dict[str, str] = {}
    secrets: dict[str, Secret] = {}  # by the variable that they become on the nodes
    send_secrets: bool = (
        False  # False: nodes have all secrets already; True: whoever lists the cluster's jobs sees them
    )

    @model_validator(mode="after")
    def _names(self) -> Environment:
        for name in (*self.variables, *self.secrets):
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"variables: {show(name)} cannot be the name of an environment variable")
        if twice := self.variables.keys() & self.secrets.keys():
            raise ValueError(f"secrets: {show(min(twice))} is among the variables too")
        return self


class ClusterProfile(BaseModel):
    """A profile, checked. What it names is not looked at here: see `checks`."""

    model_config = FROZEN

    name: str
    title: str
    address: Http  # of the dashboard, which serves Ray's Jobs API, as this machine reaches it
    auth: Auth = Auth()
    tracking: Tracking
    storage: Storage
    home: Path | None = None  # LEOCLR_OPS_HOME of the nodes; None: the storage's folder
    data: dict[str, Path] = {}  # root folder on the nodes by data set name
    nodes: str | None = None  # that there are, or that an autoscaler brings at most: 8x8x64, see `orchestration.nodes`
    resources: Resources = Resources()  # for what a stage does not say itself
    environment: Environment = Environment()
    source: Path = Field(exclude=True)  # the file

    @property
    def is_local(self) -> bool:
        """Whether the address is this machine's own, or a port that it forwards."""
        return is_loopback(self.address)

    @property
    def home_there(self) -> Path:
        """LEOCLR_OPS_HOME on the nodes."""
        return self.home or Path(self.storage.uri)

    def headers(self) -> dict[str, str]:
        """Return what a request to the dashboard carries. Raises: SecretProblem."""
        return {"Authorization": f"Bearer {self.auth.token.value()}"} if self.auth.token else {}

    def variables(self) -> dict[str, str]:
        """Return the environment of driver and workers, without secrets."""
        found = {"LEOCLR_OPS_HOME": str(self.home_there), "MLFLOW_TRACKING_URI": self.tracking.uri}
        if self.tracking.username is not None:
            found["MLFLOW_TRACKING_USERNAME"] = self.tracking.username
        if self.storage.bucket is not None:
            found["LEOCLR_OPS_MIRROR"] = self.storage.uri
        if self.storage.endpoint is not None:  # MLflow reads the first, boto3 the second
            found |= {"MLFLOW_S3_ENDPOINT_URL": self.storage.endpoint, "AWS_ENDPOINT_URL_S3": self.storage.endpoint}
        if self.storage.region is not None:
            found["AWS_DEFAULT_REGION"] = self.storage.region
        if self.nodes is not None:
            found[NODES] = self.nodes
        return found | self.environment.variables

    def secrets(self) -> dict[str, Secret]:
        """Return where the secrets of driver and workers are, by variable; the token is no part of it."""
        named = {
            "MLFLOW_TRACKING_PASSWORD": self.tracking.password,
            "AWS_ACCESS_KEY_ID": self.storage.access_key,
            "AWS_SECRET_ACCESS_KEY": self.storage.secret_key,
        }
        return {name: secret for name, secret in named.items() if secret} | self.environment.secrets

    def fill(self, asked: Resources) -> Resources:
        """Return what a stage asks for, completed by the profile: what the stage says itself stays."""
        return Resources.model_validate(
            self.resources.model_dump(exclude_unset=True) | asked.model_dump(exclude_unset=True)
        )


def is_loopback(address: str) -> bool:
    """Return whether an address names this machine, by its text alone: no name is resolved.

    >>> is_loopback("http://127.0.0.1:8265"), is_loopback("http://[::1]:8265"), is_loopback("http://head:8265")
    (True, True, False)
    """
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def load(path: Path, file: str | None = None) -> ClusterProfile:
    """Return the profile in `path`; messages call it `file`.

    Raises: SpecError for what is wrong in it, a cluster without authentication among that.
    """
    place = Place(file or path.name)
    raw = mapping(read_file(path, place.file), place)
    _refuse_secrets(raw, place)
    for key in ("name", "source"):
        if key in raw:
            raise SpecError(
                f"no key here is called {show(key)}", place=str(place.at(key)), hint="the file's name is it"
            )
    whole: dict[str, Tree] = {"title": path.stem, **raw, "name": path.stem, "source": str(path)}
    profile = check.check(ClusterProfile, whole, where=lambda steps: place.at(*steps), noun="key")
    _refuse_impossible(profile, place)
    return profile


def _refuse_secrets(raw: Mapping[str, Tree], place: Place) -> None:
    """Refuse what is a secret, or may be one, before anything of the file is shown in a message."""
    for section, key in _SECRET_FIELDS:
        part = _unshown(raw, section, place)
        if part.get(key) is not None:
            secrets.check(part[key], place.at(section, key))
    environment = _unshown(raw, "environment", place)
    for name, value in _unshown(environment, "secrets", place.at("environment")).items():
        secrets.check(value, place.at("environment", "secrets", name))
    for name in _unshown(environment, "variables", place.at("environment")):
        if _SECRET_NAME.search(name.upper()):
            hint = f"move it to environment.secrets: `{name}: {{env: NAME}}`"
            raise SpecError(
                "this looks like a secret", place=str(place.at("environment", "variables", name)), hint=hint
            )
    _refuse_users(raw, place)


def _unshown(tree: Mapping[str, Tree], key: str, place: Place) -> Mapping[str, Tree]:
    """Return the mapping at `key`; what stands there instead is not shown."""
    if not isinstance(part := tree.get(key) or {}, dict):
        raise SpecError("expected a mapping", place=str(place.at(key)))
    return part


def _refuse_users(tree: Tree | Mapping[str, Tree], place: Place) -> None:
    """Refuse user names and passwords inside addresses, wherever they stand."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            _refuse_users(value, place.at(key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            _refuse_users(value, place.at(str(index)))
    elif isinstance(tree, str) and re.search(r"://[^/\s]*@", tree):
        hint = "`tracking` takes `username` and `password`, `storage` takes `access_key` and `secret_key`"
        raise SpecError("an address holds no user name and no password", place=str(place), hint=hint)


def _refuse_impossible(profile: ClusterProfile, place: Place) -> None:
    if not (profile.auth.token or profile.auth.open or profile.is_local):
        raise SpecError(
            "a cluster without authentication lets everybody who reaches it run code",
            place=str(place.at("auth")),
            hint="start it with RAY_AUTH_MODE=token and write `auth: {token: {env: RAY_AUTH_TOKEN}}`, reach it through "
            "a forwarded port on 127.0.0.1, or say that it is intended: `auth: {open: true}`",
        )
    if profile.storage.bucket is not None and profile.home is None:
        hint = "a folder of each node, such as `home: /tmp/leoclr-ops`, that the bucket outlives"
        raise SpecError("`home` is missing", place=str(place), hint=hint)
    if profile.home is not None and not profile.home.is_absolute():
        raise SpecError("expected an absolute path of the nodes", place=str(place.at("home")))
    from leoclr.data import DATASETS  # here, since it imports numpy

    if profile.nodes is not None:
        nodes.parse(profile.nodes, str(place.at("nodes")))
    for name, root in profile.data.items():
        if name not in DATASETS:
            fact, hint = f"no data set is called {show(name)}", did_you_mean(name, DATASETS)
            raise SpecError(fact, place=str(place.at("data", name)), hint=hint)
        if not root.is_absolute() and not address(root):
            fact = "expected an absolute path of the nodes, or s3://bucket/prefix"
            raise SpecError(fact, place=str(place.at("data", name)))
