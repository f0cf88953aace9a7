from pathlib import Path

import numpy as np
import pytest

from leoclr.data import voc0712
from leoclr.data.contract import DataError
from tests.leoclr.data import trees


def test_it_reads_as_torchvision_does(tmp_path: Path) -> None:
    from torchvision import datasets

    trees.voc0712(tmp_path)
    data = voc0712.load(tmp_path)
    parts = {"train": [("2007", "trainval"), ("2012", "trainval")], "test": [("2007", "test")]}
    for split, names in parts.items():
        references = [datasets.VOCDetection(tmp_path, year=year, image_set=part) for year, part in names]
        part = data.splits[split]
        assert [str(path) for path in part.images.paths] == [path for each in references for path in each.images]
        objects = [each[index][1]["annotation"]["object"] for each in references for index in range(len(each))]
        for scene, theirs in zip(part.scenes, objects, strict=True):
            assert [data.classes[label - 1] for label in scene.labels] == [one["name"] for one in theirs]
            assert scene.difficult.tolist() == [one["difficult"] == "1" for one in theirs]
            corners = [[int(one["bndbox"][side]) for side in ("xmin", "ymin", "xmax", "ymax")] for one in theirs]
            assert np.add(scene.boxes, [1, 1, 0, 0]).tolist() == corners
            assert len(scene.crowd) == len(scene.area) == 0
    assert data.metric == "map11"


def test_images_that_no_list_names_do_not_count(tmp_path: Path) -> None:
    trees.voc0712(tmp_path)
    first = voc0712.digest(tmp_path)
    trees.image(tmp_path / "VOCdevkit" / "VOC2012" / "JPEGImages" / "segmentation.jpg")
    assert voc0712.digest(tmp_path) == first


@pytest.mark.parametrize("part", ["JPEGImages/2012_trainval_1.jpg", "Annotations/2012_trainval_1.xml"])
def test_what_a_list_names_must_be_there(tmp_path: Path, part: str) -> None:
    trees.voc0712(tmp_path)
    (tmp_path / "VOCdevkit" / "VOC2012" / part).unlink()
    for ask in (voc0712.digest, voc0712.load):
        with pytest.raises(DataError, match=part):
            ask(tmp_path)
