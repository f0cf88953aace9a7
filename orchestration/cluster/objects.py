"""Objects of a bucket: put, read, list and delete; a write can be bound to what is there.

Conditional writes (`If-Match`, `If-None-Match`) are what leases stand on. Amazon has them since 2024; `require` asks a
server whether it obeys them, since an old one ignores the words and overwrites.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orchestration.cluster.bucket import Bucket, speaking
from orchestration.errors import StoreError, Unanswered

DIGEST = "sha256"  # the metadata of an object that holds its sha256, in hex
_LATE = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
_ABSENT = ("NoSuchKey", "404", "NotFound")
_AT_ONCE = 1000  # keys that S3 deletes in one request, at most


class Changed(StoreError):
    """A conditional write came too late: somebody else wrote the object since."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What is known of an object without reading it."""

    key: str
    bytes: int
    etag: str
    sha256: str = ""  # hex, as whoever wrote it said; a listing does not tell
    modified_s: float = 0.0  # Unix time


@dataclass(frozen=True)
class Objects:
    """The objects of a bucket below its prefix; keys are relative to that. All methods raise StoreError."""

    bucket: Bucket

    @cached_property
    def client(self) -> Any:
        """boto3's client; any thread may use it, another process needs its own."""
        return self.bucket.client()

    def place(self, key: str) -> str:
        """Return the address of an object."""
        return f"s3://{self.bucket.name}/{self.bucket.prefix}{key}"

    def at(self, key: str) -> dict[str, str]:
        """Return what a request names an object by."""
        return {"Bucket": self.bucket.name, "Key": self.bucket.prefix + key}

    def put(self, key: str, body: bytes, *, digest: str = "", only: str | None = None) -> str:
        """Write an object and return its ETag; `digest` is its sha256 in hex, which the server checks.

        `only`: the ETag that the object must still have, "" where it must not be there. Raises: Changed otherwise.
        """
        more: dict[str, Any] = {}
        if digest:
            more = {"Metadata": {DIGEST: digest}, "ChecksumSHA256": base64_of(digest)}
        if only is not None:
            more |= {"IfMatch": only} if only else {"IfNoneMatch": "*"}
        with self._late(key):
            return str(self.client.put_object(**self.at(key), Body=body, **more)["ETag"])

    def get(self, key: str, *, known: str = "") -> tuple[bytes, str] | None:
        """Return an object and its ETag; None where it is not there, or its ETag is still `known`."""
        more = {"IfNoneMatch": known} if known else {}

        def ask() -> tuple[bytes, str]:
            answer = self.client.get_object(**self.at(key), **more)
            return answer["Body"].read(), str(answer["ETag"])

        with speaking(self.place(key)):
            found: tuple[bytes, str] | None = _unless((*_ABSENT, "304", "NotModified"), ask)
            return found

    def read(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes of an object from `start` to before `end`. Raises: StoreError where it is shorter."""
        with speaking(self.place(key)):
            answer = self.client.get_object(**self.at(key), Range=f"bytes={start}-{end - 1}")
            content = bytes(answer["Body"].read())
        if len(content) != end - start:
            raise Unanswered(f"it ends after {start + len(content):,} bytes", place=self.place(key))
        return content

    def stat(self, key: str) -> Stat | None:
        """Return what is known of an object, None where it is not there."""
        with speaking(self.place(key)):
            found = _unless(_ABSENT, lambda: self.client.head_object(**self.at(key)))
        if found is None:
            return None
        digest = str(found.get("Metadata", {}).get(DIGEST, ""))
        return Stat(key, int(found["ContentLength"]), str(found["ETag"]), digest, found["LastModified"].timestamp())

    def list(self, prefix: str) -> Iterator[Stat]:
        """Yield every object whose key begins so, in the order of the keys."""
        cut = len(self.bucket.prefix)
        with speaking(self.place(prefix)):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket.name, Prefix=self.bucket.prefix + prefix
            )
            for page in pages:
                for each in page.get("Contents", ()):
                    modified = each["LastModified"].timestamp()
                    yield Stat(each["Key"][cut:], int(each["Size"]), str(each["ETag"]), modified_s=modified)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are not there are no error."""
        names = [{"Key": self.bucket.prefix + key} for key in keys]
        for start in range(0, len(names), _AT_ONCE):
            with speaking(self.place("")):
                part = {"Objects": names[start : start + _AT_ONCE], "Quiet": True}
                answer = self.client.delete_objects(Bucket=self.bucket.name, Delete=part)
            for each in answer.get("Errors", ()):
                raise Unanswered(f"DeleteObjects is refused: {each.get('Code', '')}", place=self.place(""))

    def unfinished(self) -> Iterator[tuple[str, str, float]]:
        """Yield the uploads in parts that were begun and not ended: key, upload, and Unix time of its beginning."""
        cut = len(self.bucket.prefix)
        with speaking(self.place("")):
            pages = self.client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket.name, Prefix=self.bucket.prefix
            )
            for page in pages:
                for each in page.get("Uploads", ()):
                    yield each["Key"][cut:], each["UploadId"], each["Initiated"].timestamp()

    def abort(self, key: str, upload: str) -> None:
        """Remove the parts of an upload that was not ended."""
        with speaking(self.place(key)):
            self.client.abort_multipart_upload(**self.at(key), UploadId=upload)

    def require(self) -> None:
        """Find out whether the bucket can be used and its server obeys conditional writes. Raises: StoreError."""
        self.bucket.probe()
        key = f".leoclr-ops-{secrets.token_hex(8)}"
        self.put(key, b"1", only="")
        try:
            self.put(key, b"2", only="")
        except Changed:
            return
        finally:
            self.delete([key])
        hint = "leases need them: use a newer server, or a folder that all nodes see in place of a bucket"
        raise StoreError("the server ignores conditional writes", place=self.place(""), hint=hint)

    def _late(self, key: str) -> Any:
        return _Late(self.place(key))


class _Late:
    """Turns a refused condition into `Changed`, and what else boto3 raises into a StoreError."""

    def __init__(self, place: str) -> None:
        self._place, self._speaking = place, speaking(place)

    def __enter__(self) -> None:
        self._speaking.__enter__()

    def __exit__(self, *raised: Any) -> bool | None:
        if _code(raised[1]) in _LATE:
            raise Changed("somebody else wrote it since", place=self._place) from raised[1]
        return self._speaking.__exit__(*raised)


def base64_of(digest: str) -> str:
    """Return a digest in hex as S3 writes it."""
    return base64.b64encode(bytes.fromhex(digest)).decode()


def _code(error: BaseException | None) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _unless(codes: tuple[str, ...], ask: Callable[[], Any]) -> Any:
    """Return the answer to a request, None where the server answers one of `codes`."""
    from botocore.exceptions import ClientError

    try:
        return ask()
    except ClientError as error:
        if _code(error) in codes:
            return None
        raise
