"""Headless Chromium for tests that look at a page: Debian's package, driven by Playwright.

A test takes the fixture `browser` and opens pages with `seen`, which collects what the browser complains of:

    with seen(browser, width=390, height=844, color_scheme="dark") as (page, complaints):
        page.goto(address)
        assert complaints == []
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
LOAD_MS = 30_000  # for a page, or for anything on it


@pytest.fixture(scope="module")  # Playwright keeps an event loop in this thread for as long as it lives
def browser() -> Iterator[Browser]:
    """Yield a browser that ends with the module; skip the test where this machine has none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: it is in the dev extra")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the PATH (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield started
        finally:
            started.close()


@contextmanager
def seen(
    browser: Browser, *, width: int = 1280, height: int = 900, color_scheme: Literal["light", "dark"] = "light"
) -> Iterator[tuple[Page, list[str]]]:
    """Yield a page of a fresh profile, and the list of errors that its console, scripts and requests tell."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=color_scheme)
    try:
        page = context.new_page()
        page.set_default_timeout(LOAD_MS)
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(f"{request.url}: {request.failure}"))
        yield page, complaints
    finally:
        context.close()
