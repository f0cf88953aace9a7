"""Where published data sets come from, and what they hold: addresses, md5 sums and counts, as data.

Addresses and sums are torchvision's (torchvision/datasets/{cifar,stl10,oxford_iiit_pet,voc}.py); COCO's sums are those
of intel/neural-compressor, examples/pytorch/fx/object_detection/maskrcnn/download_dataset.sh.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Archive:
    """A file to download and unpack."""

    url: str
    md5: str
    into: str  # folder below the data set's root that it is unpacked in; "." is the root
    makes: str  # a folder below the root that is there once it is unpacked

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


ARCHIVES: Mapping[str, tuple[Archive, ...]] = {
    "cifar10": (
        Archive(
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            ".",
            "cifar-10-batches-py",
        ),
    ),
    "cifar100": (
        Archive(
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
            ".",
            "cifar-100-python",
        ),
    ),
    "stl10": (
        Archive(
            "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
            "91f7769df0f17e558f3565bffb0c7dfb",
            ".",
            "stl10_binary",
        ),
    ),
    "pets": (
        Archive(
            "https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz",
            "5c4f3ee8e5d25df40f4fd59a7f44e54c",
            "oxford-iiit-pet",
            "oxford-iiit-pet/images",
        ),
        Archive(
            "https://www.robots.ox.ac.uk/~vgg/data/pets/data/annotations.tar.gz",
            "95a8c909bbe2e81eed6a22bccdf3f68f",
            "oxford-iiit-pet",
            "oxford-iiit-pet/annotations",
        ),
    ),
    "voc0712": (
        Archive(
            "https://thor.robots.ox.ac.uk/pascal/VOC/voc2007/VOCtrainval_06-Nov-2007.tar",
            "c52e279531787c972589f7e41ab4ae64",
            ".",
            "VOCdevkit/VOC2007",
        ),
        Archive(
            "https://thor.robots.ox.ac.uk/pascal/VOC/voc2007/VOCtest_06-Nov-2007.tar",
            "b6e924de25625d8de591ea690078ad9f",
            ".",
            "VOCdevkit/VOC2007",
        ),
        Archive(
            "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
            "6cd6e144f989b92b3379bac3b3de84fd",
            ".",
            "VOCdevkit/VOC2012",
        ),
    ),
    "coco": (
        Archive(
            "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
            "f4bbac642086de4f52a3fdda2de5fa2c",
            "coco",
            "coco/annotations",
        ),
        Archive(
            "http://images.cocodataset.org/zips/val2017.zip",
            "442b8da7639aecaf257c1dceb8ba8c80",
            "coco",
            "coco/val2017",
        ),
        Archive(
            "http://images.cocodataset.org/zips/train2017.zip",
            "cced6f7f71b7629ddf16f17bbcfab6b2",
            "coco",
            "coco/train2017",
        ),
    ),
}

BY_HAND: Mapping[str, str] = {  # where to get the sets that no program may download
    "imagenet": "https://image-net.org/download-images gives ILSVRC2012 to registered researchers",
    "imagenet_subset": "link train and val of ImageNet into one folder, and write the list as subset.txt beside them",
    "cars": "the authors' site is gone; look for copies under the name Stanford Cars",
    "birdsnap": "http://thomasberg.org/datasets/birdsnap/1.1/birdsnap.tgz, then run its get_birdsnap.py",
}

MD5: Mapping[str, Mapping[str, str]] = {  # of files that were unpacked, by name
    "cifar10": {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
    "cifar100": {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    },
    "stl10": {
        "train_X.bin": "918c2871b30a85fa023e0c44e0bee87f",
        "train_y.bin": "5a34089d4802c674881badbb80307741",
        "test_X.bin": "7f263ba9f9e0b06b93213547f721ac82",
        "test_y.bin": "36f9794fa4beb8a2c72628de14fa638e",
        "unlabeled_X.bin": "5242ba1fed5e4be9e1e742405eb56ca4",
    },
}

COUNTS: Mapping[str, Mapping[str, int]] = {  # images of each split and classes, as published: the sets' own pages
    "imagenet": {"train": 1_281_167, "test": 50_000, "classes": 1000},
    "cifar10": {"train": 50_000, "test": 10_000, "classes": 10},
    "cifar100": {"train": 50_000, "test": 10_000, "classes": 100},
    "stl10": {"train": 5000, "test": 8000, "unlabeled": 100_000, "classes": 10},
    "cars": {"train": 8144, "test": 8041, "classes": 196},
    "birdsnap": {"train": 47_386, "test": 2443, "classes": 500},
    "pets": {"train": 3680, "test": 3669, "classes": 37},
    "voc0712": {"train": 16_551, "test": 4952, "classes": 20},
    "coco": {"train": 118_287, "test": 5000, "classes": 80},
}
