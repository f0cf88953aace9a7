import itertools
import threading
from pathlib import Path

import numpy as np
import pytest

from leoclr.data import digit_scenes, mnist5k
from leoclr.data.contract import DataError, DataSet


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def data(root: Path) -> DataSet:
    return digit_scenes.load(root)


def test_boxes_enclose_ink_that_overlaps_little(data: DataSet) -> None:
    for split in data.splits.values():
        for index, scene in enumerate(split.scenes):
            ink_HW = split.images.read(index)[..., 0] >= digit_scenes.INK
            covered_HW = np.zeros_like(ink_HW)
            for x1, y1, x2, y2 in scene.boxes.astype(int):
                part_HW = ink_HW[y1:y2, x1:x2]
                assert part_HW[0].any() and part_HW[-1].any() and part_HW[:, 0].any() and part_HW[:, -1].any()
                covered_HW[y1:y2, x1:x2] = True
            assert not (ink_HW & ~covered_HW).any()
            for one, other in itertools.combinations(scene.boxes, 2):
                sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
                areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
                assert max(sides[0], 0) * max(sides[1], 0) <= digit_scenes.OVERLAP * min(areas)


def test_every_scene_has_one_to_four_digits_and_every_class_occurs(data: DataSet) -> None:
    for name, split in data.splits.items():
        assert len(split) == len(split.scenes) == digit_scenes.SCENES[name]
        assert {len(scene.labels) for scene in split.scenes} == {1, 2, 3, 4}
        assert set(np.concatenate([scene.labels for scene in split.scenes])) == set(range(1, 11))


def test_a_scene_is_a_function_of_its_digits_and_seed(data: DataSet) -> None:
    digits = mnist5k.load(Path()).splits["test"]
    canvas_HW, scene = digit_scenes.draw_scene(digits.images.images_NHWC[..., 0], digits.labels, seed=(96, 1, 7))
    written = data.splits["test"]
    assert np.array_equal(written.images.read(7)[..., 0], canvas_HW)
    assert np.array_equal(written.scenes[7].boxes, scene.boxes)
    assert np.array_equal(written.scenes[7].labels, scene.labels)


def test_writers_at_once_leave_one_set_and_no_draft(tmp_path: Path) -> None:
    folder = tmp_path / f"digit_scenes-{digit_scenes.digest(tmp_path)[:12]}"
    failures: list[BaseException] = []

    def publish() -> None:
        try:
            digit_scenes._publish(folder)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=publish) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_damaged_cache_is_named_with_what_to_do(tmp_path: Path) -> None:
    digit_scenes.load(tmp_path)
    (folder,) = tmp_path.iterdir()
    (folder / "JPEGImages" / "train_0003.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"train_0003\.png") as caught:
        digit_scenes.load(tmp_path)
    assert str(folder) in caught.value.hint


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        digit_scenes.load(tmp_path / "file")
