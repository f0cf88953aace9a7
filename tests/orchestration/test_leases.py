"""One owner at a time, over a real server's conditional writes; clocks are ours to move."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from orchestration import leases
from orchestration.cluster.objects import Changed, Objects
from orchestration.leases import LEASE_S, Leases
from orchestration.provenance import Owner
from orchestration.storage import Busy
from tests.orchestration import s3


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with s3.server() as found:
        yield found


@pytest.fixture
def there(address: str, request: pytest.FixtureRequest) -> Objects:
    return s3.objects(address, f"{request.node.name}/")


class Host:
    """A driver on a host of its own, with a clock of its own."""

    def __init__(self, there: Objects, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name, self.now, self._patch = name, 1000.0, monkeypatch
        self._leases = Leases(there, "/home", clock=lambda: self.now)

    def as_itself(self) -> Leases:
        self._patch.setattr("socket.gethostname", lambda: self.name)
        return self._leases


@pytest.fixture
def ann(there: Objects, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(there, "ann", monkeypatch)


@pytest.fixture
def bob(there: Objects, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(there, "bob", monkeypatch)


def test_a_lease_has_one_owner_until_it_is_given_back(ann: Host, bob: Host) -> None:
    lease = ann.as_itself().take("lease")
    with pytest.raises(Busy, match="a submit on ann has it"):
        bob.as_itself().take("lease")
    ann.as_itself().release(lease)
    assert bob.as_itself().take("lease").token == 2


def test_one_that_gives_signs_of_life_is_never_taken_over(ann: Host, bob: Host) -> None:
    lease = ann.as_itself().take("lease")
    for _ in range(5):
        with pytest.raises(Busy):
            bob.as_itself().take("lease")
        bob.now += LEASE_S - 1
        ann.as_itself().renew(lease)


def test_a_silent_one_is_taken_over_and_finds_out(ann: Host, bob: Host) -> None:
    lease = ann.as_itself().take("lease")
    with pytest.raises(Busy):  # from now on it is watched
        bob.as_itself().take("lease")
    bob.now += LEASE_S + 1
    taken = bob.as_itself().take("lease")
    assert taken.token == lease.token + 1
    with pytest.raises(Busy, match="taken it over"):
        ann.as_itself().renew(lease)
    with pytest.raises(Busy, match="taken it over"):  # for good
        ann.as_itself().renew(lease)
    ann.as_itself().release(lease)  # of what it lost it gives nothing back
    bob.as_itself().renew(taken)


def test_a_clock_that_is_wrong_takes_nothing_over(ann: Host, bob: Host) -> None:
    bob.now += 1e9  # years ahead
    ann.as_itself().take("lease")
    with pytest.raises(Busy):
        bob.as_itself().take("lease")


def test_a_killed_process_of_this_host_is_not_waited_for(
    there: Objects, ann: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        gone = Owner("ann", 2**22 + 1, 5.0)  # beyond all process ids
        patch.setattr(Owner, "current", classmethod(lambda cls: gone))
        ann.as_itself().take("lease")
    assert ann.as_itself().take("lease").token == 2


def test_a_write_whose_answer_was_lost_has_happened(there: Objects, ann: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = ann.as_itself().take("lease")
    put = Objects.put

    def lose(self: Objects, key: str, body: bytes, **more: str) -> str:
        put(self, key, body, **more)  # type: ignore[arg-type]
        raise Changed("what a second try of the same request is told")

    monkeypatch.setattr(Objects, "put", lose)
    ann.as_itself().renew(lease)
    monkeypatch.setattr(Objects, "put", put)
    ann.as_itself().renew(lease)


def test_a_refusal_for_nothing_loses_nothing(there: Objects, ann: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may refuse a conditional write that only met another one."""
    lease = ann.as_itself().take("lease")
    put, refusals = Objects.put, [1, 2]

    def refuse(self: Objects, key: str, body: bytes, **more: str) -> str:
        if refusals:
            refusals.pop()
            raise Changed("ConditionalRequestConflict")
        return put(self, key, body, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Objects, "put", refuse)
    ann.as_itself().renew(lease)
    assert not refusals


def test_two_threads_that_renew_one_lease_keep_it(there: Objects, ann: Host) -> None:
    own, lost = ann.as_itself(), list[Busy]()
    lease = own.take("lease")

    def renew() -> None:
        for _ in range(20):
            try:
                own.renew(lease)
            except Busy as error:
                lost.append(error)

    threads = [threading.Thread(target=renew) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not lost


def test_of_many_at_once_one_gets_it(there: Objects) -> None:
    found: list[int] = []

    def take() -> None:
        try:
            found.append(Leases(there, "/home").take("lease").token)
        except Busy:
            return

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1]
    assert leases.BEAT_S * 5 <= LEASE_S
