"""The journal: every number once, whole lines only, and nothing durable after a loss that is no number."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs import journal
from jobs.journal import MAX_POINTS, Damaged, Diverged, Journal, numbers, read

MIDDLE = (1, 2, 0.25)  # epoch, epochs, share of the whole


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be written unless a test asks for it."""
    monkeypatch.setattr(journal, "FLUSH_S", math.inf)
    monkeypatch.setattr(journal, "SAMPLE_S", math.inf)


def steps(path: Path) -> list[int]:
    return [line["s"] for line in read(path)[0] if "s" in line and "e" not in line]


def epochs(path: Path) -> list[int]:
    return [line["e"] for line in read(path)[0] if "e" in line]


def step(book: Journal, total: int, loss: Any = 1.0) -> None:
    book.step(total, {"loss": loss, "images": 8}, MIDDLE)


def test_numbers_are_read_back_as_they_were_noted(path: Path, waiting: None) -> None:
    book = Journal(path, steps=2)
    book.step(1, {"loss": torch.tensor(0.5), "lr": 0.25, "queue": torch.tensor(3), "images": 8}, MIDDLE)
    book.epoch(0, 1, {"knn_top1": 71.5})
    book.close()
    first, epoch, sample = read(path)[0]
    assert (first["s"], first["m"], first["p"]) == (1, {"loss": 0.5, "lr": 0.25, "queue": 3.0}, [1, 2, 0.25])
    assert (epoch["e"], epoch["s"], epoch["m"]) == (0, 1, {"knn_top1": 71.5})
    assert sample["y"] == 1
    assert sample["m"]["images_per_s"] > 0
    assert sample["m"]["system/process_memory_megabytes"] > 1


def test_numbers_wait_on_the_device_until_they_are_flushed(path: Path, waiting: None) -> None:
    book = Journal(path, steps=3)
    for total in (1, 2, 3):
        step(book, total, torch.tensor(float(total)))
    assert read(path) == ([], 0)
    book.flush()
    assert [line["m"]["loss"] for line in read(path)[0]] == [1.0, 2.0, 3.0]
    book.close()


def test_a_line_that_a_kill_left_half_written_is_cut_and_written_again(path: Path, waiting: None) -> None:
    book = Journal(path, steps=3)
    step(book, 1)
    step(book, 2)
    book.flush()
    book.close()
    whole = path.read_bytes().split(b"\n")[0] + b"\n"
    path.write_bytes(whole + b'{"s":2,"t":17')
    assert read(path) == ([json.loads(whole)], len(whole))
    again = Journal(path, steps=3)
    assert path.read_bytes() == whole
    step(again, 2, 7.0)
    again.close()
    assert [line["m"]["loss"] for line in read(path)[0] if "s" in line] == [1.0, 7.0]


def test_a_replay_writes_no_step_epoch_or_sample_number_twice(path: Path, waiting: None) -> None:
    for _ in range(2):
        book = Journal(path, steps=4)
        for total in (1, 2):
            step(book, total)
        book.epoch(0, 2, {"knn_top1": 50.0})
        book.close()
    assert steps(path) == [1, 2]
    assert epochs(path) == [0]
    assert [line["y"] for line in read(path)[0] if "y" in line] == [1, 2]
    book = Journal(path, steps=4)
    for total in (2, 3):
        step(book, total)
    book.close()
    assert steps(path) == [1, 2, 3]


def test_epochs_and_steps_are_counted_apart(path: Path, waiting: None) -> None:
    book = Journal(path, steps=4)
    step(book, 1)
    book.flush()
    book.epoch(0, 2, {"knn_top1": 50.0})  # the journal ends with the epoch: step 2 was never flushed
    book.close()
    again = Journal(path, steps=4)
    step(again, 2)  # the epoch's line says 2 too, but that is no step
    again.epoch(0, 2, {"knn_top1": 50.0})
    again.epoch(1, 4, {})  # no monitor looked
    again.epoch(2, 6, {"knn_top1": 60.0})
    again.close()
    assert (steps(path), epochs(path)) == ([1, 2], [0, 2])


def test_a_long_run_keeps_the_first_and_every_kth_step(path: Path, waiting: None) -> None:
    book = Journal(path, steps=3 * MAX_POINTS)
    for total in range(1, 11):
        step(book, total)
    book.close()
    assert steps(path) == [1, 3, 6, 9]


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_stops_the_run_before_anything_is_durable(
    loss: float, path: Path, waiting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    book = Journal(path, steps=3)
    for total, value in enumerate((1.0, loss, 1.0), 1):
        step(book, total, torch.tensor(value))
    with pytest.raises(Diverged, match=f"the loss is {loss} in epoch 1: lower the learning rate"):
        book.flush(durable=True)
    assert steps(path) == [1, 2, 3]  # what led there can be seen
    monkeypatch.setattr(os, "fsync", synced.append)
    book.close()  # told once
    assert synced


def test_a_loss_between_two_recorded_steps_is_looked_at_too(path: Path, waiting: None) -> None:
    book = Journal(path, steps=3 * MAX_POINTS)
    step(book, 1)
    step(book, 2, torch.tensor(math.nan))
    with pytest.raises(Diverged):
        book.close()
    assert steps(path) == [1]
    assert book._file.closed


def test_numbers_flow_without_being_asked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "FLUSH_S", 0.0)
    book = Journal(path, steps=2)
    step(book, 1)
    assert steps(path) == [1]
    book.close()


def test_reading_goes_on_from_an_offset(path: Path) -> None:
    assert read(path, 7) == ([], 7)
    path.write_text('{"s":1}\n{"s":2}\n{"s"')
    lines, offset = read(path)
    assert (lines, offset) == ([{"s": 1}, {"s": 2}], 16)
    assert read(path, 8) == ([{"s": 2}], 16)
    with path.open("a") as file:
        file.write(":3}\n")
    assert read(path, offset) == ([{"s": 3}], 24)


def test_a_damaged_line_is_named_by_its_place(path: Path) -> None:
    path.write_text('{"n":1}\n{"n":2}\n{"n"\n{"n":4}\n')
    with pytest.raises(Damaged, match=r"journal\.jsonl: line 3 is damaged"):
        read(path)
    with pytest.raises(Damaged, match="line 3 is damaged"):
        read(path, 8)
    assert read(path, 21) == ([{"n": 4}], 29)


def test_a_stage_goes_on_behind_a_damaged_line(path: Path, waiting: None, caplog: pytest.LogCaptureFixture) -> None:
    book = Journal(path, steps=4)
    for total in (1, 2, 3):
        step(book, total)
    book.close()
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], lines[1].replace(b'"m"', b'"n"'), *lines[2:]]))
    before = path.read_bytes()
    again = Journal(path, steps=4)
    for total in (2, 3, 4):  # from a checkpoint before the damage
        step(again, total)
    again.close()
    assert path.read_bytes().startswith(before)  # it only grows
    assert [line["s"] for line in numbers(path).lines if "s" in line] == [1, 3, 4]
    assert "line 2 of the journal is damaged" in caplog.text


def test_any_changed_byte_costs_its_line_at_most(path: Path, waiting: None) -> None:
    book = Journal(path, steps=2)
    step(book, 1)
    book.epoch(0, 1, {"knn_top1": 71.5})
    book.close()
    whole = path.read_bytes()
    good = numbers(path).lines
    for at in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            found = numbers(path)
            assert len(found.lines) + len(found.damaged) >= len(good) - 1
            assert sum(line not in good for line in found.lines) <= 1
            for line in found.lines:
                assert {"t", "m"} < line.keys() and ("s" in line) != ("y" in line)
