import json
from pathlib import Path

import numpy as np
import pytest

from leoclr.data import coco
from leoclr.data.contract import DataError
from tests.leoclr.data import trees


def test_it_reads_as_pycocotools_does(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    trees.coco(tmp_path)
    data = coco.load(tmp_path)
    for split, part in (("train", "train2017"), ("test", "val2017")):
        theirs = COCO(tmp_path / "coco" / "annotations" / f"instances_{part}.json")
        names = {one["id"]: one["name"] for one in theirs.loadCats(theirs.getCatIds())}
        images = theirs.loadImgs(sorted(theirs.getImgIds()))
        assert [path.name for path in data.splits[split].images.paths] == [one["file_name"] for one in images]
        for scene, image in zip(data.splits[split].scenes, images, strict=True):
            objects = theirs.loadAnns(theirs.getAnnIds(imgIds=image["id"]))
            objects = [one for one in objects if split == "test" or min(one["bbox"][2:]) > 0]
            assert [data.classes[label - 1] for label in scene.labels] == [names[one["category_id"]] for one in objects]
            assert scene.crowd.tolist() == [one["iscrowd"] == 1 for one in objects]
            np.testing.assert_allclose(scene.area, np.array([one["area"] for one in objects], float), rtol=1e-6)
            sides = scene.boxes[:, 2:] - scene.boxes[:, :2]
            ours = np.concatenate([scene.boxes[:, :2], sides], axis=1)
            assert ours.tolist() == [one["bbox"] for one in objects]
    assert data.classes == ("person", "bicycle", "toothbrush")


def test_a_box_without_extent_is_kept_for_the_score_alone(tmp_path: Path) -> None:
    trees.coco(tmp_path)
    data = coco.load(tmp_path)
    flat = {
        split: sum(int((scene.boxes[:, 2:] == scene.boxes[:, :2]).any(axis=1).sum()) for scene in part.scenes)
        for split, part in data.splits.items()
    }
    assert flat == {"train": 0, "test": 1}


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("annotations"),
        lambda content: content["annotations"][0].update(category_id=3),
        lambda content: content["annotations"][0].update(image_id=4),
        lambda content: content["annotations"][0].update(bbox=[1, 2, 3]),
        lambda content: content["annotations"][0].pop("area"),
        lambda content: content["images"][0].update(file_name="../../x.jpg"),
        lambda content: content["images"][0].update(file_name="none.jpg"),
    ],
)
def test_a_wrong_annotation_file_is_named(tmp_path: Path, change) -> None:
    trees.coco(tmp_path)
    path = tmp_path / "coco" / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"val2017"):
        coco.load(tmp_path)
