"""The one door to boto3: an S3 bucket, and whether it can be written."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from orchestration.errors import StoreError, Unanswered

CONNECT_S, READ_S = 5, 10  # for one try of one request; without them boto3 waits a minute for each
_HINTS = {  # what S3 answers, and what to do
    "404": "create the bucket, or correct storage.uri",
    "NoSuchBucket": "create the bucket, or correct storage.uri",
    "403": "the keys are not of somebody who may read, write and delete there: see the bucket's policy",
    "AccessDenied": "the keys are not of somebody who may read, write and delete there: see the bucket's policy",
    "InvalidAccessKeyId": "the server does not know this access key: is storage.endpoint the right one?",
    "SignatureDoesNotMatch": "the secret key is not that of this access key",
    "301": "the bucket lies in another region: write storage.region",
    "PermanentRedirect": "the bucket lies in another region: write storage.region",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket and how it is reached; None leaves a thing to boto3's own search: environment, ~/.aws, role."""

    name: str
    prefix: str = ""  # of all keys: empty, or ending in a slash
    endpoint: str | None = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, uri: str) -> Bucket:
        """Return the bucket of `s3://bucket/prefix`; how it is reached, AWS's own variables say.

        Raises: StoreError when it is no such address.

        >>> Bucket.of("s3://runs/ann/").prefix
        'ann/'
        """
        parts = urlsplit(uri)
        if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment or parts.username:
            raise StoreError("this is not an address such as s3://bucket/prefix", place=uri)
        inside = parts.path.strip("/")
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
        return cls(name=parts.netloc, prefix=f"{inside}/" if inside else "", endpoint=endpoint)

    def client(self, *, attempts: int = 4) -> Any:
        """Return a boto3 client; a request is tried up to `attempts` times. Raises: StoreError."""
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        config = Config(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            retries={"total_max_attempts": attempts, "mode": "standard"},
            s3={"addressing_style": "path"} if self.endpoint else {},  # small servers have no name for each bucket
        )
        try:
            return (
                boto3.session.Session().client(  # one of its own: boto3's shared one is for one thread, and remembers
                    "s3",
                    endpoint_url=self.endpoint,
                    region_name=self.region,
                    aws_access_key_id=self.access_key,
                    aws_secret_access_key=self.secret_key,
                    config=config,
                )
            )
        except (BotoCoreError, ValueError) as error:
            raise StoreError(str(error), place=self._place) from None

    def probe(self) -> None:
        """Write an object below the prefix, read it back, remove it.

        Raises: StoreError that says what the server refused, and what to do.
        """
        client, key, body = self.client(attempts=2), f"{self.prefix}.leoclr-ops-{secrets.token_hex(8)}", b"probe"
        with speaking():
            client.head_bucket(Bucket=self.name)
            client.put_object(Bucket=self.name, Key=key, Body=body)
            try:
                found = client.get_object(Bucket=self.name, Key=key)["Body"].read()
            finally:
                client.delete_object(Bucket=self.name, Key=key)
        if found != body:
            raise StoreError("an object came back changed", hint="is storage.endpoint an S3 server?")

    @property
    def _place(self) -> str:
        return f"s3://{self.name}/{self.prefix}"


@contextmanager
def speaking(place: str = "") -> Iterator[None]:
    """Turn what boto3 raises into Unanswered, which says what the server refused, and what to do."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        facts = error.response.get("Error", {})
        code, operation = str(facts.get("Code", "")), error.operation_name
        hint = _HINTS.get(code, "see the server's log")
        fact = f"{operation} is refused: {code} {facts.get('Message', '')}".rstrip()
        raise Unanswered(fact, place=place, hint=hint) from error
    except BotoCoreError as error:
        hint = "are the keys set (storage.access_key, storage.secret_key), and is the server up?"
        raise Unanswered(str(error), place=place, hint=hint) from error
