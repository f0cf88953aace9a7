"""A few steps of every method in float64 on a CPU give the losses of golden/losses.json.

Write the file anew, after bumping RESULTS_VERSION: `python -m tests.test_golden`.
"""

import json
from pathlib import Path

import pytest
import torch

from leoclr import RESULTS_VERSION
from leoclr.backbones import build
from leoclr.methods import METHODS, module
from leoclr.methods.contract import At
from leoclr.optim import cosine, set_lr, sgd
from tests.small_methods import FACTS, SMALL, batch

GOLDEN = Path(__file__).parent / "golden" / "losses.json"
TRAINED = sorted(name for name in METHODS if module(name).TRAINS)
STEPS = 4


def losses(name: str) -> list[float]:
    """Take STEPS steps as pre-training does: slow encoder, loss, SGD at the cosine's rate, queue."""
    torch.manual_seed(0)
    config = module(name).Config(**SMALL[name])
    method = module(name).Method(config, lambda: build("resnet18", width=4, stem="stride2"), FACTS).double()
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = sgd(trained, lr=0.03, momentum=0.9, weight_decay=1e-4)
    values = []
    for step in range(STEPS):
        at = At(step, total=STEPS, epoch=0, epochs=1)
        shown = batch(name, images=8, size=16, generator=torch.default_generator, dtype=torch.float64)
        set_lr(optimizer, cosine(0.03, step, total=STEPS))
        method.before_step(at)
        done = method(shown)
        optimizer.zero_grad()
        done.loss.backward()
        method.after_backward(at)
        optimizer.step()
        method.update(done)
        values.append(done.loss.item())
    return values


def test_file_is_of_this_results_version_and_names_every_method() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert golden["results_version"] == RESULTS_VERSION, "RESULTS_VERSION moved: run `python -m tests.test_golden`"
    assert sorted(golden["losses"]) == TRAINED


@pytest.mark.parametrize("name", TRAINED)
def test_losses_are_the_golden_ones(name: str) -> None:
    expected = json.loads(GOLDEN.read_text())["losses"][name]
    assert losses(name) == pytest.approx(expected, rel=1e-9), (
        f"the numbers of {name} moved. If that is intended, bump leoclr.RESULTS_VERSION, say why in the commit, "
        "and run `python -m tests.test_golden`; if not, the change has a bug"
    )


if __name__ == "__main__":
    content = {"results_version": RESULTS_VERSION, "losses": {name: losses(name) for name in TRAINED}}
    GOLDEN.write_text(json.dumps(content, indent=2) + "\n")
