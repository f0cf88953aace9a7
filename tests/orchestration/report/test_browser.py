"""The report on a store that real runs made, as a browser shows it: on a desk and on a phone, in light and dark."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from orchestration.report.explain import Explainer
from orchestration.storage import Home
from orchestration.tracking import Store
from tests.chromium import seen

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

COMMAND = str(Path(sys.executable).with_name("leoclr-ops"))
PIPELINE = """
title: LeOCLR, hardly trained
matrix: {method: {leoclr: {}}, seed: [0, 1]}
stages:
  pretrain:
    params:
      {dataset: mnist5k, backbone: resnet18, width: 2, stem: stride2, image_size: 28, epochs: 2, batch: 800, lr: 0.01,
       knn_every: 1, settings: {queue_size: 800, blur_p: 0.0}}
    resources: {cpus_per_worker: 0.5}
  knn: {needs: [pretrain], params: {dataset: mnist5k, protocol: small}, resources: {cpus_per_worker: 0.5}}
"""
SIZES = {"desk": (1280, 900), "phone": (390, 844)}
MIN_CONTRAST = 4.5  # WCAG 2.2, 1.4.3
CONTRAST = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = c => {
    const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = element => {
    for (let each = element; each; each = each.parentElement) {
      const color = rgb(getComputedStyle(each).backgroundColor);
      if (color.length < 4 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  document.querySelectorAll("details").forEach(each => each.open = true);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const tag = element.tagName.toLowerCase();
    if (!walker.currentNode.data.trim() || ["title", "desc", "style"].includes(tag)) continue;
    const style = getComputedStyle(element);
    const [one, other] = [light(rgb(tag === "text" ? style.fill : style.color)), light(ground(element))];
    found.push([(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), walker.currentNode.data.trim()]);
  }
  return found;
}"""


def cli(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [COMMAND, *arguments],
        cwd=folder,
        env=os.environ | {"LEOCLR_OPS_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a finished submission, and the report on it."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "tiny.yaml").write_text(PIPELINE)
    cli(folder, "submit", "tiny.yaml")
    assert cli(folder, "report").strip() == "tiny-report.html"
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    return Store.open(Home(folder / "home"))


def shown(page: Page, folder: Path) -> None:
    page.goto((folder / "tiny-report.html").as_uri())
    page.evaluate("document.querySelectorAll('img').forEach(each => each.loading = 'eager')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", sorted(SIZES))
def test_the_page_is_sound(browser: Browser, folder: Path, size: str, scheme: Literal["light", "dark"]) -> None:
    width, height = SIZES[size]
    with seen(browser, width=width, height=height, color_scheme=scheme) as (page, complaints):
        shown(page, folder)
        assert page.evaluate("document.documentElement.scrollWidth") == width  # what is wide scrolls in its region
        assert page.evaluate("[...document.images].every(each => each.naturalWidth > 0)")
        weak = [pair for pair in page.evaluate(CONTRAST) if pair[0] < MIN_CONTRAST]
        assert weak == []
        assert complaints == []


def test_it_shows_what_the_runs_left(browser: Browser, folder: Path, store: Store) -> None:
    with seen(browser) as (page, _):
        shown(page, folder)
        titles = page.locator("h2").all_inner_texts()
        assert titles == [
            "Result", "Seeds", "Learning curves", "Cost", "What each method saw", "Nearest neighbors", "Runs",
        ]  # fmt: skip
        assert page.locator("article").count() == 4
        assert page.locator("figure img").count() == 2  # views and neighbors
        assert page.locator("figure svg[role=img]").count() >= 2
        for run in store.stages("knn"):
            said = page.locator(f"#run-{run.run_id}").inner_text()
            assert f"top1 {run.metrics['top1']:.4g}" in said


def test_every_link_leads_somewhere_and_every_number_to_its_run(browser: Browser, folder: Path) -> None:
    with seen(browser) as (page, complaints):
        shown(page, folder)
        lost = page.evaluate(
            "[...document.links].map(each => each.getAttribute('href'))"
            ".filter(each => !each.startsWith('#') || !document.getElementById(each.slice(1)))"
        )
        assert lost == []
        mean = page.locator("section[aria-labelledby=c1-result] td a").first
        mean.click()
        single = page.locator(":target")
        assert float(single.inner_text()) > 0
        single.click()
        article = page.locator("article:target")
        assert single.inner_text() in article.inner_text() or article.count() == 1
        assert "stands on" in article.inner_text()
        assert complaints == []


def test_the_keyboard_reaches_all_that_scrolls_or_opens(browser: Browser, folder: Path) -> None:
    with seen(browser, width=390, height=844) as (page, _):
        shown(page, folder)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        wanted = page.locator("[role=region], summary").count()
        reached: set[str] = set()
        for _ in range(400):
            page.keyboard.press("Tab")
            told = page.evaluate(
                "(() => { const each = document.activeElement; if (each === document.body) return null;"
                " const all = [...document.querySelectorAll('[role=region], summary')];"
                " return [all.indexOf(each), each.getAttribute('aria-label') || each.innerText] })()"
            )
            if told is None:
                break
            if told[0] >= 0:
                assert told[1], "a region without a name"
                reached.add(str(told[0]))
        inside = page.evaluate("document.querySelectorAll('details:not([open]) summary ~ * summary').length")
        assert len(reached) == wanted - inside  # what is folded is reached once it opens


def test_the_command_of_a_run_plans_that_run(folder: Path, store: Store) -> None:
    run_id = store.stages("knn")[0].run_id
    explainer = Explainer(store)
    told = explainer.explain(run_id)
    assert told.defects == ()
    write, _, submit = told.recipe.command.partition(" && ")
    (folder / write.partition(" > ")[2]).write_text(explainer.pipeline(run_id))
    planned = cli(folder, *shlex.split(submit)[1:], "--dry-run")
    assert planned.count("done") >= 2
    assert "to do" not in planned
