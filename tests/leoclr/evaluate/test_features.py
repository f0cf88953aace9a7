"""Running a model over a split leaves the model and torch's generators as they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from leoclr.augment import views
from leoclr.data.contract import DataSet, Split, Stack
from leoclr.evaluate import features

CPU = torch.device("cpu")
VIEW = views.TestView(resize=8, size=8)


@pytest.fixture
def data() -> DataSet:
    images = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
    split = Split(Stack(images), np.arange(10) % 2)
    return DataSet("tiny", ("a", "b"), {"train": split, "test": split}, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def model() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten())


def test_extract_gives_each_image_its_row_whatever_the_batch(data: DataSet) -> None:
    pixels = nn.Flatten()
    rows = features.extract(pixels, data, "test", view=VIEW, device=CPU)
    images_NHWC = torch.from_numpy(np.stack([data.splits["test"].images.read(i) for i in range(10)]))
    expected = (images_NHWC / 255 - torch.tensor(data.mean)) / torch.tensor(data.std)
    torch.testing.assert_close(rows, expected.permute(0, 3, 1, 2).reshape(10, -1))
    torch.testing.assert_close(features.extract(pixels, data, "test", view=VIEW, device=CPU), rows)


def test_extract_joins_batches_in_the_order_that_was_asked_for(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = features.extract(nn.Flatten(), data, "test", view=VIEW, device=CPU)
    monkeypatch.setattr(features, "BATCH", 3)
    chosen = np.array([9, 0, 4, 4, 1, 2, 8])
    rows = features.extract(nn.Flatten(), data, "test", view=VIEW, device=CPU, chosen=chosen)
    assert torch.equal(rows, whole[chosen])
    with pytest.raises(ValueError, match="tiny: no image of test"):
        features.extract(nn.Flatten(), data, "test", view=VIEW, device=CPU, chosen=chosen[:0])


def test_extract_is_repeatable_has_no_gradient_and_restores_each_mode(data: DataSet) -> None:
    net = model()
    net[1].eval()  # mixed modes must come back mixed
    before = features.digest(net)
    first = features.extract(net, data, "train", view=VIEW, device=CPU)
    assert torch.equal(first, features.extract(net, data, "train", view=VIEW, device=CPU))
    assert not first.requires_grad
    assert [module.training for module in net] == [True, False, True, True]
    assert features.digest(net) == before


@pytest.mark.parametrize("name", ["0.bias", "1.running_mean", "1.num_batches_tracked"])
def test_digest_sees_parameters_and_buffers(name: str) -> None:
    net = model()
    before = features.digest(net)
    with torch.no_grad():
        net.state_dict()[name].add_(1)
    assert features.digest(net) != before


def test_seeded_draws_repeat_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    undisturbed = torch.rand(3)
    torch.manual_seed(5)
    drawn = []
    for _ in range(2):
        with features.seeded(7, CPU):
            drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(torch.rand(3), undisturbed)
