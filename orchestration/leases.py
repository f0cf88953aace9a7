"""Leases in a bucket: which driver has a stage, where drivers on several hosts share one mirror.

What it promises: of any number of drivers one has a lease. One that is silent for `LEASE_S` can lose it, and finds out
before it records how a stage ended, because every write is bound to the one before it (If-Match). No clock of another
machine is believed: to take over is to have watched a lease stand still for `LEASE_S` by one's own clock.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from orchestration.cluster.objects import Changed, Objects
from orchestration.provenance import Owner
from orchestration.storage import Busy

LEASE_S = 60.0  # a lease that stands still so long can be taken over
TRIES = 3  # of a write that is refused though nothing has changed
BEAT_S = 10.0  # between two signs of life: six may be lost


@dataclass(slots=True)
class Lease:
    """One that this process has, until it is `lost`."""

    key: str
    token: int  # grows by one with every owner
    etag: str = ""
    beats: int = 0
    own: str = field(default_factory=lambda: uuid.uuid4().hex)
    lost: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)  # one write at a time: each stands on the last


class Leases:
    """Takes, renews and gives back the leases of one home. All methods raise StoreError."""

    def __init__(self, objects: Objects, home: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._objects, self._home, self._clock = objects, home, clock
        self._seen: dict[str, tuple[str, float]] = {}  # ETag of another's lease, and since when we see it

    def take(self, key: str) -> Lease:
        """Take a lease; the caller holds this host's own lock of the same thing. Raises: Busy when another has it."""
        lease = Lease(key, 1)
        try:
            self._write(lease, only="")
        except Changed:
            self._take_over(lease)
        self._seen.pop(key, None)
        return lease

    def renew(self, lease: Lease) -> None:
        """Give a sign of life. Raises: Busy when another has taken it over."""
        with lease.lock:
            if not lease.lost:
                try:
                    self._write(lease, only=lease.etag)
                    return
                except Changed:
                    lease.lost = True
        raise Busy("another submit has taken it over", place=self._objects.place(lease.key))

    def release(self, lease: Lease) -> None:
        """Give a lease back: the next one need not wait."""
        with lease.lock:
            if not lease.lost:
                lease.own, lease.lost = "", True
                with suppress(Changed):  # it was not ours any more
                    self._write(lease, only=lease.etag)

    def _take_over(self, lease: Lease) -> None:
        found = self._objects.get(lease.key)
        if found is None:
            raise Busy("it changes hands", place=self._objects.place(lease.key))
        facts, etag = _read(found[0]), found[1]
        now = self._clock()
        if self._seen.get(lease.key, ("", 0.0))[0] != etag:
            self._seen[lease.key] = etag, now
        stands_since = self._seen[lease.key][1]
        if not self._is_free(facts) and now - stands_since < LEASE_S:
            fact = f"a submit on {facts.get('host', 'another host')} has it"
            raise Busy(fact, place=self._objects.place(lease.key))
        lease.token = int(facts.get("token", 0)) + 1
        try:
            self._write(lease, only=etag)
        except Changed as error:
            raise Busy("another submit was faster", place=self._objects.place(lease.key)) from error

    def _is_free(self, facts: dict[str, Any]) -> bool:
        """Return whether nobody can have a lease: it was given back, or its process on this host is gone."""
        if not facts.get("own"):
            return True
        owner = Owner(str(facts.get("host")), int(facts.get("pid", 0)), float(facts.get("created", 0.0)))
        return owner.alive() is False

    def _write(self, lease: Lease, *, only: str) -> None:
        """Write a lease. Raises: Changed; a write whose answer was lost has happened all the same."""
        lease.beats += 1
        owner = Owner.current()
        facts = {"own": lease.own, "token": lease.token, "beats": lease.beats, "home": self._home}
        body = json.dumps(facts | {"host": owner.host, "pid": owner.pid, "created": owner.created}).encode()
        for left in reversed(range(TRIES)):
            try:
                lease.etag = self._objects.put(lease.key, body, only=only)
                return
            except Changed:
                there = self._objects.get(lease.key)
                if there is not None and there[0] == body:
                    lease.etag = there[1]
                    return
                stands = there is not None and there[1] == only  # a server may refuse what only met another write
                if not (stands and left):
                    raise


def _read(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:  # nobody of ours wrote it
        return {}
    return found if isinstance(found, dict) else {}
