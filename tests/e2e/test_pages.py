"""MLflow's pages on a real store, as a browser shows them; and the names that docs/tracking.md promises."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import jobs
from orchestration import compare, ui
from orchestration.tracking import Store
from tests.chromium import seen
from tests.e2e.quickstart import Project

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.e2e

DOCS = Path(__file__).parents[2] / "docs" / "tracking.md"
NOT_OURS = (  # what MLflow's pages say by themselves
    "status of 404",  # they ask their own server who is logged in; without accounts nobody is
    "ResizeObserver loop",  # a list that was drawn in two steps
)
WHO = "/mlflow/users/current"
ARMS = ("leoclr seed=0", "moco_v2 seed=0", "random seed=0")


@pytest.fixture(scope="module")
def project(submitted: tuple[Project, str]) -> Project:
    return submitted[0]


@pytest.fixture(scope="module")
def server(project: Project) -> Iterator[str]:
    """The address of MLflow's pages on the store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with ui.address(project.home, host="127.0.0.1", port=ui.free_port("127.0.0.1", 0)) as (address, _):
            yield address


class Look:
    """A page, and what was wrong with it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.failed: list[str] = []
        self.outside: list[str] = []
        page.on("response", lambda answer: self.failed.append(answer.url) if answer.status >= 400 else None)
        page.on("request", lambda request: self.outside.append(request.url) if _is_outside(request.url) else None)

    def sound(self, complaints: list[str]) -> None:
        assert [said for said in complaints if not any(words in said for words in NOT_OURS)] == []
        assert [url for url in self.failed if not url.endswith(WHO)] == []
        assert self.outside == []


def _is_outside(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "data:", "blob:"))


@pytest.mark.slow
def test_the_list_of_runs_reads_like_a_table(browser: Browser, server: str) -> None:
    with seen(browser, width=1500) as (page, complaints):
        look = Look(page)
        page.goto(server)
        page.get_by_role("link", name="quickstart").first.wait_for()
        page.locator("[aria-label*='xpand'], .ag-row button").first.click()
        for text in ("linear leoclr seed=0", "transfer moco_v2 seed=0", "pretrain random seed=0", "mnist5k"):
            page.get_by_text(text, exact=False).first.wait_for()
        for column in ("linear/top1", "pretrain/knn_top1"):
            page.get_by_text(column, exact=True).first.wait_for()
        look.sound(complaints)


@pytest.mark.slow
def test_the_page_that_compares_shows_params_of_the_pre_training_beside_the_numbers(
    browser: Browser, server: str, project: Project
) -> None:
    store = Store.open(project.home)
    found = compare.find(store, "quickstart", "linear top-1")
    runs = store.stage_runs(found.run_ids)
    with seen(browser, width=1500) as (page, complaints):
        look = Look(page)
        page.goto(f"{server.partition('#')[0]}{compare.fragment(store.experiment, found.run_ids)}")
        page.get_by_text("Comparing 3 Runs from 1 Experiment").wait_for()
        page.locator(".js-plotly-plot .parcoords, .plotly .parcoords-lines").first.wait_for()
        for arm in ARMS:
            page.get_by_text(f"linear {arm}", exact=True).first.wait_for()
        for name in ("pretrain.method", "pretrain.settings.temperature", "protocol", "final/top1", "linear/top1"):
            page.get_by_text(name, exact=True).first.wait_for()
        for run in runs.values():
            number = f"{run.metrics['top1']:.3f}".rstrip("0").rstrip(".")  # as MLflow writes it
            page.get_by_text(number, exact=True).first.wait_for(state="attached")
        look.sound(complaints)


@pytest.mark.slow
def test_the_models_page_lists_the_checkpoints_with_their_data_set(browser: Browser, server: str) -> None:
    page_of = server.partition("/runs")[0]
    with seen(browser, width=2400) as (page, complaints):
        look = Look(page)
        page.goto(f"{page_of}/models?workflowType=machine_learning")
        for arm in ARMS:
            page.get_by_text(f"pretrain {arm}", exact=True).first.wait_for()
        for text in ("mnist5k (#", "Dataset:", "detection/ap50"):  # further columns are drawn when they are scrolled to
            page.get_by_text(text, exact=False).first.wait_for(state="attached")
        look.sound(complaints)


@pytest.mark.slow
def test_a_submissions_page_shows_its_table(browser: Browser, server: str, project: Project) -> None:
    first = Store.open(project.home).submissions()[-1]
    with seen(browser, width=1500) as (page, complaints):
        look = Look(page)
        page.goto(f"{server.partition('?')[0]}/{first.run_id}")
        page.get_by_role("columnheader", name="linear top-1").first.wait_for()
        page.get_by_text("LeOCLR - MoCo-v2").first.wait_for(state="attached")
        look.sound(complaints)


def _documented() -> dict[str, list[str]]:
    """The names, with their stars, in the first column of each section's table."""
    sections: dict[str, list[str]] = {}
    for part in DOCS.read_text().split("\n## ")[1:]:
        title, _, text = part.partition("\n")
        column = 2 if title == "Artifacts" else 1
        rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
        sections[title] = [name for row in rows for name in re.findall(r"`([^`]+)`", row[column - 1])]
    return sections


def _unknown(names: Any, patterns: list[str]) -> list[str]:
    return sorted(name for name in set(names) if not any(fnmatchcase(name, pattern) for pattern in patterns))


def test_every_name_that_a_run_leaves_is_documented(project: Project) -> None:
    client, store = Store.open(project.home)._client, Store.open(project.home)
    documented = _documented()
    runs = client.search_runs([store.experiment], max_results=1000)
    assert len(runs) >= 16
    assert _unknown((key for run in runs for key in run.data.params), documented["Params"]) == []
    assert _unknown((key for run in runs for key in run.data.metrics), documented["Metrics"]) == []
    assert _unknown((key for run in runs for key in run.data.tags), documented["Tags"]) == []
    files = [file for run in runs for file in _files(project.home.artifacts / run.info.run_id / "artifacts")]
    assert _unknown(files, documented["Artifacts"]) == []
    models = client.search_logged_models([store.experiment])
    assert {model.name for model in models} == {f"pretrain {arm}" for arm in ARMS}
    assert _unknown((metric.key for model in models for metric in model.metrics), documented["Metrics"]) == []


def test_every_number_that_a_stage_ends_with_is_in_the_list_of_them() -> None:
    paragraph = DOCS.read_text().partition("What stages end with")[2].partition("\n\n")[0]
    known = re.findall(r"`([^`]+)`", paragraph)
    names = {metric.name for kind in jobs.STAGES for metric in jobs.module(kind).METRICS}
    assert _unknown(names, known) == []


def _files(folder: Path) -> list[str]:
    return [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
