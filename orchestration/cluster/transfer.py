"""Files to a bucket and back, each checked by sha256 on both sides; what is there already is not sent again.

A large file goes in parts. A killed upload leaves its parts with the server, and the next one sends those that are
missing or differ. A download that breaks off goes on where it stopped, and appears under its name when it is whole.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from orchestration.cluster.bucket import speaking
from orchestration.cluster.objects import DIGEST, Objects, base64_of
from orchestration.errors import StoreError, Unanswered

PART_BYTES = 16 << 20  # of a part; S3 takes 5 MiB and more
MOST_PARTS = 9_000  # S3 takes 10,000
AT_ONCE = 4  # parts under way, which are in memory
TRIES, FIRST_S = 4, 0.5  # of a download that breaks off, and the wait after the first, doubled each time
_READ_BYTES = 1 << 20

Show = Callable[[int], None]
"""Called with the bytes of a part once it is there."""


class Damaged(StoreError):
    """An object is not what its manifest says."""


def upload(objects: Objects, handle: int, key: str, *, digest: str, show: Show | None = None) -> bool:
    """Bring the file behind a handle to `key`; False where it was there already. `digest`: its sha256, in hex.

    The handle stays the caller's, and a file that is removed meanwhile is sent all the same. Raises: StoreError.
    """
    size, told = os.fstat(handle).st_size, show or _nobody
    there = objects.stat(key)
    if there is not None and there.bytes == size and there.sha256 == digest:
        told(size)
        return False
    for _ in range(2):
        if size <= PART_BYTES:
            objects.put(key, os.pread(handle, size, 0), digest=digest)
            told(size)
        else:
            with speaking(objects.place(key)):
                _in_parts(objects, handle, key, digest, told)
        found = objects.stat(key)
        if found is not None and found.bytes == size and found.sha256 == digest:
            return True
        objects.delete([key])  # it went on with an upload of other content, or the server lost something
    raise Unanswered("the server has not what was sent", place=objects.place(key))


def download(objects: Objects, key: str, path: Path, *, digest: str) -> None:
    """Bring an object to `path`, whole or not at all. Raises: Damaged when it has another sha256; StoreError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    draft = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            found = _receive(objects, key, file)
            file.flush()
            os.fsync(file.fileno())
        if found != digest:
            raise Damaged(f"sha256 {found[:12]} in place of {digest[:12]}", place=objects.place(key))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _receive(objects: Objects, key: str, file: Any) -> str:
    """Write an object to a file, from where it broke off if it does; return its sha256."""
    whole, received, tag = hashlib.sha256(), 0, ""
    for attempt in range(TRIES):
        try:
            with speaking(objects.place(key)):
                # Bound to one version: the bytes of two would be no file.
                more = {"Range": f"bytes={received}-", "IfMatch": tag} if received else {}
                answer = objects.client.get_object(**objects.at(key), **more)
                tag, size = answer["ETag"], received + int(answer["ContentLength"])
                for block in answer["Body"].iter_chunks(_READ_BYTES):
                    file.write(block)
                    whole.update(block)
                    received += len(block)
            if received == size:
                return whole.hexdigest()
        except StoreError:
            if attempt == TRIES - 1:
                raise
        time.sleep(FIRST_S * 2**attempt)
    raise Damaged(f"it ends after {received:,} bytes", place=objects.place(key))


def _in_parts(objects: Objects, handle: int, key: str, digest: str, show: Show) -> None:
    client, at, size = objects.client, objects.at(key), os.fstat(handle).st_size
    part_bytes = max(PART_BYTES, -(-size // MOST_PARTS))
    upload_id, there = _under_way(client, at)
    if upload_id is None:
        made = client.create_multipart_upload(**at, ChecksumAlgorithm="SHA256", Metadata={DIGEST: digest})
        upload_id = made["UploadId"]

    def send(number: int) -> dict[str, Any]:
        body = os.pread(handle, part_bytes, (number - 1) * part_bytes)
        own = hashlib.sha256(body).hexdigest()
        facts: dict[str, Any] = {"PartNumber": number}
        tag, checksum = there.get(number, ("", ""))
        if not _is_same(body, own, tag, checksum):
            answer = client.upload_part(
                **at, UploadId=upload_id, PartNumber=number, Body=body, ChecksumSHA256=base64_of(own)
            )
            tag, checksum = answer["ETag"], answer.get("ChecksumSHA256", "")
        show(len(body))
        return facts | {"ETag": tag} | ({"ChecksumSHA256": checksum} if checksum else {})

    with ThreadPoolExecutor(AT_ONCE) as pool:
        parts = list(pool.map(send, range(1, -(-size // part_bytes) + 1)))
    client.complete_multipart_upload(**at, UploadId=upload_id, MultipartUpload={"Parts": parts})


def _under_way(client: Any, at: dict[str, str]) -> tuple[str | None, dict[int, tuple[str, str]]]:
    """Return the upload of this object that an earlier call began, and its parts: ETag and checksum by number."""
    pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=at["Bucket"], Prefix=at["Key"])
    begun = [each["UploadId"] for page in pages for each in page.get("Uploads", ()) if each["Key"] == at["Key"]]
    if not begun:
        return None, {}
    pages = client.get_paginator("list_parts").paginate(**at, UploadId=begun[-1])
    parts = [each for page in pages for each in page.get("Parts", ())]
    return begun[-1], {each["PartNumber"]: (each["ETag"], each.get("ChecksumSHA256", "")) for each in parts}


def _is_same(body: bytes, own: str, tag: str, checksum: str) -> bool:
    """Return whether a part is there: by the checksum that the server keeps, or where it keeps none by its MD5."""
    if checksum:
        return checksum == base64_of(own)
    return tag.strip('"') == hashlib.md5(body, usedforsecurity=False).hexdigest()


def _nobody(count: int) -> None:
    return
