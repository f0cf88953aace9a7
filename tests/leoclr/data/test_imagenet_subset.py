from pathlib import Path

import pytest

from leoclr.data import imagenet_subset
from leoclr.data.contract import DataError
from tests.leoclr.data import trees


def load(root: Path, text: str) -> dict[str, list[tuple[str, int]]]:
    (root / "subset.txt").write_text(text)
    data = imagenet_subset.load(root)
    return {
        name: [
            (f"{path.parent.name}/{path.name}", label)
            for path, label in zip(part.images.paths, part.labels.tolist(), strict=True)
        ]
        for name, part in data.splits.items()
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    trees.imagenet(tmp_path)
    return tmp_path


A, B, C, D = trees.WNIDS


@pytest.mark.parametrize("text", [f"{C}\n{A}\n", f"{A} {C}\n", f"{A}\n{C}\n{C}\n"])  # CMC's form, solo-learn's, twice
def test_a_list_of_classes_takes_all_of_their_images(root: Path, text: str) -> None:
    found = load(root, text)
    assert found["train"] == [(f"{wnid}/{wnid}_{n}.JPEG", label) for label, wnid in enumerate((A, C)) for n in range(3)]
    assert [label for _, label in found["test"]] == [0, 1]
    assert imagenet_subset.load(root).classes == (A, C)


@pytest.mark.parametrize("prefix", ["", "{}/", "train/{}/"])
def test_a_list_of_images_takes_these_and_the_test_images_of_their_classes(root: Path, prefix: str) -> None:
    found = load(root, "".join(prefix.format(w) + f"{w}_{n}.JPEG\n" for w, n in ((D, 2), (B, 0), (D, 0))))
    assert found["train"] == [(f"{B}/{B}_0.JPEG", 0), (f"{D}/{D}_0.JPEG", 1), (f"{D}/{D}_2.JPEG", 1)]
    assert [(name.partition("/")[0], label) for name, label in found["test"]] == [(B, 0), (D, 1)]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("\n", "it holds nothing"),
        (f"{A} {A}_1.JPEG", "both classes and images"),
        ("n00000000", "no class folder n00000000"),
        (f"{A}_9.JPEG", f"1 images of subset.txt are missing, such as {A}/{A}_9.JPEG"),
    ],
)
def test_a_wrong_list_is_refused(root: Path, text: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        load(root, text)


def test_the_digest_moves_with_the_list_and_its_classes_alone(root: Path) -> None:
    load(root, f"{A} {B}")
    first = imagenet_subset.digest(root)
    trees.image(root / "train" / C / f"{C}_9.JPEG")
    assert imagenet_subset.digest(root) == first
    trees.image(root / "train" / A / f"{A}_9.JPEG")
    second = imagenet_subset.digest(root)
    load(root, f"{A} {C}")
    assert len({first, second, imagenet_subset.digest(root)}) == 3
