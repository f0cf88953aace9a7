"""Nobody but its owner reads the token, whoever made the file, and whatever the umask says."""

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestration import ray_token


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (*ray_token.ELSEWHERE, "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / ".ray" / "auth_token"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_for_its_owner_alone_and_once(token: Path) -> None:
    old = os.umask(0)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: ray_token.keep_private(), range(8)))
    finally:
        os.umask(old)
    first = token.read_text()
    assert len(bytes.fromhex(first)) == 32
    assert (mode(token), mode(token.parent)) == (0o600, 0o700)
    assert [each.name for each in token.parent.iterdir()] == [token.name]
    ray_token.keep_private()
    assert token.read_text() == first


def test_one_that_ray_made_is_closed_and_kept(token: Path) -> None:
    token.parent.mkdir()
    token.write_text("rays")
    token.chmod(0o644)
    ray_token.keep_private()
    assert (token.read_text(), mode(token)) == ("rays", 0o600)


@pytest.mark.parametrize(
    ("name", "value"), [("RAY_AUTH_TOKEN", "x"), ("RAY_AUTH_TOKEN_PATH", "/x"), ("RAY_AUTH_MODE", "disabled")]
)
def test_who_has_another_token_or_wants_none_gets_none(
    token: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    ray_token.keep_private()
    assert not token.parent.exists()


@pytest.mark.parametrize("home", ["/dev/null", "/proc"])
def test_a_home_that_takes_no_token_is_left_to_ray(token: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("HOME", home)
    ray_token.keep_private()


def test_a_disk_that_is_read_only_is_left_to_ray(token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    ray_token.keep_private()
    assert not token.exists()


def test_ray_reads_it_where_it_is_put(token: Path) -> None:
    from ray._private.authentication import authentication_token_setup

    assert authentication_token_setup._get_default_token_path() == token
