"""Ask a server over HTTP, once, without following redirects: a token is not carried to an address that nobody named."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestration.errors import LeoclrOpsError

TIMEOUT_S = 10.0  # a server that has just started takes seconds for its first search
_MOST_BYTES = 1 << 20  # of an answer; what is asked here fits in a few hundred


class Unreachable(LeoclrOpsError):
    """Nobody answers at an address."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int  # of HTTP
    text: str

    def field(self, name: str) -> str | None:
        """Return a field of an answer in JSON; None where it is no JSON, or has none."""
        try:
            tree = json.loads(self.text)
        except ValueError:
            return None
        value = tree.get(name) if isinstance(tree, dict) else None
        return None if value is None else str(value)


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None  # then urllib raises the redirect as an HTTPError, which is an answer


def ask(
    url: str,
    headers: Mapping[str, str] | None = None,
    *,
    post: Mapping[str, Any] | None = None,
    put: bytes | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Answer:
    """Return the answer to a GET, to a POST of JSON, or to a PUT of bytes, whatever its status.

    Raises: Unreachable when none comes within `timeout_s`.
    """
    data = put if post is None else json.dumps(post).encode()
    kind = {} if data is None else {"Content-Type": "application/json" if put is None else "application/octet-stream"}
    method = "PUT" if put is not None else None  # None: what urllib takes by the data
    full = {**kind, **(headers or {})}
    request = urllib.request.Request(url, data, full, method=method)  # noqa: S310  # profiles hold http(s) only
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=timeout_s) as response:
            return Answer(response.status, response.read(_MOST_BYTES).decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read(_MOST_BYTES).decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException) as error:  # OSError: URLError, TimeoutError, a TLS that fails
        reason = getattr(error, "reason", None) or error
        raise Unreachable(f"no answer: {reason or type(error).__name__}", place=url) from None
