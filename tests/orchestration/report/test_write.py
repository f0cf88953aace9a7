"""A report holds every run of its submission, escapes what a store says, and shows images only where they are."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from leoclr.data import mnist5k
from orchestration import records
from orchestration.errors import NotFound, StoreError
from orchestration.records import Point
from orchestration.report import collect, write
from orchestration.report.explain import Explainer
from orchestration.report.origin import Origin, origin
from orchestration.report.shelf import Absent, Shelf
from orchestration.storage import Home
from orchestration.tracking import Store
from tests.orchestration import tracked

EVIL = '<img src=x onerror="alert(1)">&'
VOID = {"meta", "link", "img", "br", "!doctype"}


class Read(HTMLParser):
    """Refuses tags that are closed in the wrong order; notes ids, links and what would be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: Counter[str] = Counter()
        self.fetched: list[str] = []
        self.alts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags[tag] += 1
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":
            self.links.append(found["href"])
        if tag == "img":
            self.alts.append(found["alt"])
        self.fetched += [value for name, value in found.items() if name == "src" and not value.startswith("data:")]
        self.fetched += [value for name, value in found.items() if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def runs(store: Store, tmp_path: Path) -> dict[str, str]:
    tracked.table(tmp_path)
    made = tracked.finish(store, tmp_path)
    for run_id in made.values():
        store.log_points(run_id, [Point("loss", 5.0 / step, step, 1_000 + step) for step in range(1, 30)])
    return made


def written(store: Store, home: Home, tmp_path: Path, name: str | None = None) -> Read:
    done = write.report(store, home, name, to=tmp_path / "report.html")
    assert done.notes == ()
    return Read(done.path.read_text(encoding="utf-8"))


def test_every_cell_leads_to_its_runs(runs: dict[str, str], store: Store, home: Home, tmp_path: Path) -> None:
    page = written(store, home, tmp_path)
    assert len(page.ids) == len(set(page.ids))
    inside = [each.removeprefix("#") for each in page.links if each.startswith("#")]
    assert set(inside) <= set(page.ids)
    assert {f"run-{run_id}" for run_id in runs.values()} <= set(inside)
    assert len(inside) == len(page.links)
    assert page.fetched == []
    assert page.tags["script"] == page.tags["iframe"] == 0
    assert page.tags["h1"] == 1
    assert page.tags["svg"] >= 3  # two swatches of the legend and a curve


def test_the_report_is_kept_with_its_submission(runs: dict[str, str], store: Store, home: Home, tmp_path: Path) -> None:
    written(store, home, tmp_path)
    [kept] = home.artifacts.rglob("report.html")
    assert store.submissions()[0].run_id in kept.parts
    assert kept.read_text() == (tmp_path / "report.html").read_text()


def test_what_a_store_says_is_text(runs: dict[str, str], store: Store, home: Home, tmp_path: Path) -> None:
    [submission] = store.submissions()
    store.set_tags(submission.run_id, {records.TITLE: EVIL, records.HOST: EVIL})
    for run_id in runs.values():
        store.set_tags(run_id, {records.ARM: EVIL, records.GIT_COMMIT: EVIL, records.VERSION + "torch": EVIL})
    page = written(store, home, tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert page.fetched == []
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text
    assert page.tags["img"] == 0  # data has another digest: no image is shown


def test_a_table_that_the_store_names_by_a_path_is_not_opened(
    runs: dict[str, str], store: Store, home: Home, tmp_path: Path
) -> None:
    """The spec of a submission is a stranger's text; so is the folder of a data set in it."""
    [submission] = store.submissions()
    recorded = f"name: tiny\ntitle: t\ntable: {tmp_path}/tiny-table.yaml\ndata: {{mnist5k: /etc}}\narms: []\n"
    with store._speaking():
        store._client.log_text(submission.run_id, recorded, "provenance/pipeline.yaml")
    chapter = collect.of_submission(store, submission)
    assert chapter.table
    assert [column.title for column in chapter.table.columns] == ["pretrain knn_top1", "knn top1"]
    assert chapter.table.cells[0][1].n == 2


def test_names(runs: dict[str, str], store: Store, home: Home) -> None:
    [submission] = store.submissions()
    for name in ("tiny", submission.run_id[:8], None):
        assert [each.run_id for each in collect.chapters(store, home, name)] == [submission.run_id]
    assert len(collect.chapters(store, home, None, everything=True)) == 1
    with pytest.raises(NotFound, match="no pipeline, sweep or submission that ran here is called `tinny`"):
        collect.chapters(store, home, "tinny")
    with pytest.raises(NotFound, match="it is no submission"):
        collect.chapters(store, home, runs["knn leoclr seed=0"])


def test_arms_that_differ_in_seeds_are_one(runs: dict[str, str], store: Store, home: Home) -> None:
    [chapter] = collect.chapters(store, home, None)
    assert [group.title for group in chapter.groups] == ["leoclr", "moco_v2"]
    assert [len(group.runs["pretrain"]) for group in chapter.groups] == [2, 2]
    assert set(chapter.every()) == set(runs.values())


def test_images_are_shown_only_of_the_data_that_was_trained_on(
    runs: dict[str, str], store: Store, home: Home, tmp_path: Path
) -> None:
    run = store.stage_runs(runs.values())[runs["pretrain leoclr seed=0"]]
    with pytest.raises(Absent, match="its digest is another one"):
        Shelf(home, {}).of(run)
    store.set_tags(run.run_id, {records.DIGEST: mnist5k.digest(tmp_path)})
    again = store.stage_runs([run.run_id])[run.run_id]
    data = Shelf(home, {}).of(again)
    assert data.name == "mnist5k"
    page = written(store, home, tmp_path)
    assert [alt for alt in page.alts if "views that training made" in alt]
    text = re.sub(r"\s+", " ", (tmp_path / "report.html").read_text())
    assert "its checkpoint cannot be used" in text  # the made-up weights are none


def test_history_is_the_same_by_file_and_by_mlflow(runs: dict[str, str], store: Store) -> None:
    by_file = store.history(runs.values(), "loss")
    file, store._file = store._file, None
    assert file
    assert store.history(runs.values(), "loss") == by_file
    assert by_file[runs["knn leoclr seed=0"]][:2] == [(1, 5.0), (2, 2.5)]
    assert len(by_file) == 8


def test_a_run_that_says_it_lies_elsewhere_is_not_followed(
    runs: dict[str, str], store: Store, home: Home, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere" / "provenance").mkdir(parents=True)
    (tmp_path / "elsewhere" / "provenance" / "pipeline.yaml").write_text("table: quickstart\n")
    with sqlite3.connect(home.database) as database:
        database.execute("UPDATE runs SET artifact_uri = ?", [str(tmp_path / "elsewhere")])
    database.close()
    [submission] = store.submissions()
    with pytest.raises(StoreError, match="outside the store's folder"):
        store.text(submission.run_id, "provenance/pipeline.yaml")
    assert origin(store, submission.run_id) == Origin()
    assert "outside the store" in Explainer(store).explain(runs["knn leoclr seed=0"]).facts["checkpoint"]


def test_runs_lead_to_their_pages_where_a_server_shows_them(
    runs: dict[str, str], store: Store, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = runs["knn leoclr seed=0"]
    assert store.page(run_id) == ""
    monkeypatch.setattr(type(store), "uri", property(lambda self: "https://mlflow.example.org/x/"))
    page = written(store, home, tmp_path)
    assert f"https://mlflow.example.org/x/#/experiments/{store._experiment}/runs/{run_id}" in page.links
