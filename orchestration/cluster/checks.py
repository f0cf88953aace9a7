"""Is a cluster ready? `leoclr-ops doctor --cluster NAME` asks each part that a profile names.

What only a node can see is said, and not guessed.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

from orchestration.cluster.bucket import Bucket
from orchestration.cluster.objects import Objects
from orchestration.cluster.profile import ClusterProfile, Storage, is_loopback
from orchestration.cluster.reach import Answer, Unreachable, ask
from orchestration.cluster.secrets import Secret, SecretProblem
from orchestration.doctor import Finding
from orchestration.errors import LeoclrOpsError, StoreError
from orchestration.storage import address

START = "start the cluster, or forward its port: see cluster/README.md"


def examine(profile: ClusterProfile) -> list[Finding]:
    """Return the findings of all checks, in a fixed order, after a few seconds."""
    checks: list[Callable[[ClusterProfile], list[Finding]]] = [_ray, _tracking, _storage, _data, _environment]
    with ThreadPoolExecutor(len(checks)) as pool:
        found = [finding for each in pool.map(lambda check: _whole(check, profile), checks) for finding in each]
    return [Finding("profile", "ok", f"{profile.title} ({profile.source})"), *found]


def require(profile: ClusterProfile) -> None:
    """Refuse a cluster that does not take our jobs. Raises: LeoclrOpsError."""
    for finding in _whole(_ray, profile):
        if finding.level == "fail":
            hint = f"{finding.todo}; leoclr-ops doctor --cluster {profile.name}"
            raise LeoclrOpsError(finding.fact, place=f"cluster {profile.name}: {finding.name}", hint=hint)


def _whole(check: Callable[[ClusterProfile], list[Finding]], profile: ClusterProfile) -> list[Finding]:
    """Return what a check finds; a secret that is not there ends it."""
    try:
        return check(profile)
    except SecretProblem as error:
        return [Finding(check.__name__.strip("_"), "fail", str(error), error.hint)]


def _ray(profile: ClusterProfile) -> list[Finding]:
    """Ask the dashboard with the token and without."""
    try:
        mode = ask(f"{profile.address}/api/authentication_mode")  # answers to everybody
        version = ask(f"{profile.address}/api/version", profile.headers())
    except Unreachable as error:
        return [Finding("Ray", "fail", str(error), START)]
    except SecretProblem as error:
        todo = f"{error.hint}; the cluster's token is its RAY_AUTH_TOKEN, or in ~/.ray/auth_token of its head"
        return [Finding("Ray", "fail", f"the token: {error}", todo)]
    return [_version(profile, version), _authentication(profile, mode, version)]


def _version(profile: ClusterProfile, answer: Answer) -> Finding:
    ours, theirs = metadata.version("ray"), answer.field("ray_version")
    if answer.status in (401, 403):
        fact = "asks for a token" if answer.status == 401 else "refuses the token"
        todo = "auth.token must be the cluster's RAY_AUTH_TOKEN" if profile.auth.token else "write auth.token"
        return Finding("Ray", "fail", f"{profile.address} {fact}", todo)
    if answer.status != 200 or theirs is None:
        fact = f"{profile.address} answers {answer.status}, and is no Ray dashboard"
        return Finding("Ray", "fail", fact, "`address` is that of the dashboard: port 8265 of the head; no redirects")
    if theirs != ours:
        todo = f"run the cluster's image with ray=={ours}, or install ray=={theirs} here: mixed versions do not run"
        return Finding("Ray", "fail", f"the cluster has {theirs}, this machine {ours}", todo)
    return Finding("Ray", "ok", f"{theirs} at {profile.address}, as here")


def _authentication(profile: ClusterProfile, mode: Answer, version: Answer) -> Finding:
    token = mode.field("authentication_mode") == "token"
    if token and profile.auth.token and version.status == 200:
        if profile.address.startswith("http://") and not profile.is_local:
            todo = "use https, or forward the port: `kubectl port-forward`, `ssh -L 8265:127.0.0.1:8265`"
            return Finding("authentication", "warn", "by token, which travels unencrypted", todo)
        return Finding("authentication", "ok", "by token")
    if token:
        return Finding("authentication", "fail", "by token; ours was not taken", "see the line above")
    if profile.auth.open:
        return Finding("authentication", "warn", "none, as the profile intends", "whoever reaches it runs code there")
    todo = "start it with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN on every node, and write auth.token"
    if profile.auth.token:
        return Finding("authentication", "fail", "none: the cluster asks nobody for a token", todo)
    fact = "none; only the loopback address keeps others out, if the cluster listens there alone"
    return Finding("authentication", "warn", fact, todo)


def _tracking(profile: ClusterProfile) -> list[Finding]:
    """Ask MLflow whether it is well, which version it has, and for an experiment, as a run would."""
    tracking = profile.tracking
    address, headers = tracking.uri_here or tracking.uri, _basic(tracking.username, tracking.password)
    try:
        health, version = ask(f"{address}/health"), ask(f"{address}/version", headers)
        search = ask(f"{address}/api/2.0/mlflow/experiments/search", headers, post={"max_results": 1})
    except Unreachable as error:
        todo = "start the server, or give it a minute; `tracking.uri_here` is how this machine reaches it"
        return [Finding("tracking", "fail", str(error), todo)]
    if search.status in (401, 403) and "Invalid Host" not in search.text:
        return [Finding("tracking", "fail", f"{address} refuses the user", "correct tracking.username and password")]
    if health.status != 200 or search.status != 200:
        fact = f"{address} answers {health.status} to /health and {search.status} to a search"
        todo = "is it an MLflow server? A host name that it refuses must be in its --allowed-hosts"
        return [Finding("tracking", "fail", fact, todo)]
    is_open = tracking.username is None
    return [
        _mlflow_version(address, version.text.strip(), is_open=is_open),
        *_reach_of(tracking.uri, tracking.uri_here, "tracking"),
    ]


def _basic(username: str | None, password: Secret | None) -> dict[str, str]:
    if username is None or password is None:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password.value()}".encode()).decode()}


def _mlflow_version(address: str, theirs: str, *, is_open: bool) -> Finding:
    ours = metadata.version("mlflow")
    if theirs.split(".")[:1] != ours.split(".")[:1]:
        todo = f"run a server of MLflow {ours.split('.')[0]}: the interfaces of major versions differ"
        return Finding("tracking", "fail", f"{address} has MLflow {theirs}, this machine {ours}", todo)
    anybody = "; it asks nobody for a password: who reaches it can read and change all runs" if is_open else ""
    return Finding("tracking", "ok", f"MLflow {theirs} at {address}; {ours} here{anybody}")


def _reach_of(there: str, here: str | None, name: str) -> list[Finding]:
    """Warn of an address that the nodes would take for themselves."""
    if not is_loopback(there):
        return []
    fact = f"the nodes are told {there}, which is each node itself"
    todo = "well with one node; else write the address that nodes use" + ("" if here else ", and ours as `..._here`")
    return [Finding(name, "warn", fact, todo)]


def _storage(profile: ClusterProfile) -> list[Finding]:
    storage = profile.storage
    if storage.bucket is None:
        return [_folder(Path(storage.uri))]
    try:
        Objects(_bucket(storage)).require()
    except StoreError as error:
        return [Finding("storage", "fail", f"{storage.uri}: {error}", error.hint)]
    ok = Finding("storage", "ok", f"{storage.uri}: an object was written, read and removed{_at(storage)}")
    return [ok, *(_reach_of(storage.endpoint, storage.endpoint_here, "storage") if storage.endpoint else [])]


def _bucket(storage: Storage) -> Bucket:
    keys = [secret.value() if secret else None for secret in (storage.access_key, storage.secret_key)]
    return Bucket(
        name=storage.bucket or "",
        prefix=storage.prefix,
        endpoint=storage.endpoint_here or storage.endpoint,
        region=storage.region,
        access_key=keys[0],
        secret_key=keys[1],
    )


def _at(storage: Storage) -> str:
    endpoint = storage.endpoint_here or storage.endpoint
    return f", at {endpoint}" if endpoint else ""


def _folder(folder: Path) -> Finding:
    if not folder.is_dir():
        todo = "every node must see it under this path; on one of them: `leoclr-ops doctor`"
        return Finding("storage", "warn", f"{folder} is not on this machine: it cannot be checked from here", todo)
    probe = folder / f".leoclr-ops-{secrets.token_hex(8)}"
    try:
        probe.write_text("probe")
        probe.unlink()
    except OSError as error:
        todo = "give yourself write access, or name another folder as storage.uri"
        return Finding("storage", "fail", f"{folder} cannot be written: {error.strerror}", todo)
    return Finding("storage", "ok", f"{folder} is writable here; that the nodes see the same is not checked")


def _data(profile: ClusterProfile) -> list[Finding]:
    if not profile.data:
        return [Finding("data", "ok", "no roots named: generated data sets only, or `--data NAME=DIR`")]
    roots = ", ".join(f"{name} at {address(root) or root}" for name, root in profile.data.items())
    folders = [(name, root) for name, root in profile.data.items() if not address(root)]
    if not folders:
        return [Finding("data", "ok", roots)]
    name, root = folders[0]
    todo = f"they lie on the nodes and are not checked from here; there: `leoclr-ops data check {name} --root {root}`"
    return [Finding("data", "ok", roots, todo)]


def _environment(profile: ClusterProfile) -> list[Finding]:
    """Look up every secret that would be sent; those that nodes have themselves cannot be seen from here."""
    environment, wanted = profile.environment, profile.secrets()
    count = len(profile.variables())
    fact = f"code from the {environment.code.replace('_', ' ')}, {count} variables, {len(environment.pip)} requirements"
    if not environment.send_secrets:
        names = f"; the nodes must have {', '.join(wanted)} themselves" if wanted else ""
        return [Finding("environment", "ok", fact + names)]
    missing = [_lack(name, secret) for name, secret in wanted.items()]
    if found := [finding for finding in missing if finding]:
        return found
    todo = "whoever may list the cluster's jobs reads them; nodes that have them already need none: send_secrets: false"
    return [
        Finding(
            "environment", "warn" if wanted else "ok", f"{fact}, {len(wanted)} secrets sent", todo if wanted else ""
        )
    ]


def _lack(name: str, secret: Secret) -> Finding | None:
    try:
        secret.value()
    except LeoclrOpsError as error:
        return Finding("environment", "fail", f"{name}: {error}", error.hint)
    return None
