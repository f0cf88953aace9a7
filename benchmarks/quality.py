"""Show that speed is not paid for with accuracy: fast and slow paths on the same digits, three seeds.

    python -m benchmarks.quality [--epochs N]

Pre-trains LeOCLR with the settings of the pipeline `quickstart` in fp32 and in bf16, and evaluates each backbone by the
protocol `small`: slowly, by a plain loop on the network as it is in fp32, and fast, by the product on a folded copy in
fp32 and in bf16. Prints the linear accuracies and writes build/quality.json; exits with 1 where a fast path is further
from the slow one than the seeds are from each other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn import functional

from benchmarks.methods import machine
from jobs.pretrain import PretrainParams
from leoclr import backbones, data, heads, methods, pretraining
from leoclr.augment.evaluation import evaluation_views
from leoclr.backbones import Backbone
from leoclr.data.contract import DataSet
from leoclr.evaluate import features
from leoclr.evaluate.folded import Precision
from leoclr.evaluate.linear import LinearProbe
from leoclr.evaluate.linear_protocols import Small
from leoclr.pretraining import Pretraining
from leoclr.stepping import Place
from leoclr.work import Work
from orchestration import spec

CPU = torch.device("cpu")
PROTOCOL = Small()
EPOCHS = 3  # of a pre-training, half the pipeline's: a CPU without bf16 is slow in it
SLOW = "pre-training fp32, probe by a plain loop: fp32, network as it is"


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of a pre-training")
    epochs = parser.parse_args().epochs
    found = [_accuracies(params, epochs) for params in _arms()]
    rows = {path: [of_seed[path] for of_seed in found] for path in found[0]}
    print(f"{machine('cpu')}; {len(found)} seeds, {epochs} epochs of pre-training, linear top-1 in percent\n")
    print(
        "| path | mean | deviation | minus the slow path, seed by seed | within the spread |\n|---|---:|---:|---:|---|"
    )
    for path, scores in rows.items():
        print(_row(path, scores, rows[SLOW]))
    written = Path("build", "quality.json")
    written.parent.mkdir(exist_ok=True)
    written.write_text(json.dumps({"epochs": epochs, "top1": rows}, indent=1))
    sys.exit(not all(holds(scores, rows[SLOW]) for scores in rows.values()))


def holds(scores: Sequence[float], slow: Sequence[float]) -> bool:
    """Return whether the means are no further apart than the seeds of the path that spreads more.

    >>> holds([90.0, 91.0, 92.0], [90.2, 91.2, 92.2]), holds([80.0, 81.0, 82.0], [90.2, 91.2, 92.2])
    (True, False)
    """
    return abs(statistics.mean(scores) - statistics.mean(slow)) <= max(map(statistics.stdev, (scores, slow)))


def _row(path: str, scores: Sequence[float], slow: Sequence[float]) -> str:
    apart = [one - other for one, other in zip(scores, slow, strict=True)]
    paired = f"{statistics.mean(apart):+.2f} ({', '.join(f'{each:+.1f}' for each in apart)})"
    verdict = "yes" if holds(scores, slow) else "no"
    return f"| {path} | {statistics.mean(scores):.2f} | {statistics.stdev(scores):.2f} | {paired} | {verdict} |"


def _arms() -> list[PretrainParams]:
    """Return the pre-training of LeOCLR of each seed of the pipeline."""
    params = [arm.stages["pretrain"].params for arm in spec.load("quickstart", []).arms]
    return [each for each in params if isinstance(each, PretrainParams) and each.method == "leoclr"]


def _accuracies(params: PretrainParams, epochs: int) -> dict[str, float]:
    """Return the accuracy by every path of one seed."""
    found = data.module(params.dataset).load(Path())  # it comes inside a package: there is no folder
    plain = _pretrained(replace(params, epochs=epochs, precision="fp32"), found)
    half = _pretrained(replace(params, epochs=epochs, precision="bf16"), found)
    return {
        SLOW: _slow(plain, found, params.seed),
        "pre-training fp32, probe fp32, folded": _fast(plain, found, params.seed, "fp32"),
        "pre-training fp32, probe bf16, folded": _fast(plain, found, params.seed, "bf16"),
        "pre-training bf16, probe fp32, folded": _fast(half, found, params.seed, "fp32"),
        "pre-training bf16, probe bf16, folded": _fast(half, found, params.seed, "bf16"),
    }


def _pretrained(params: PretrainParams, found: DataSet) -> Backbone:
    torch.manual_seed(params.seed)
    module = methods.module(params.method)
    method = module.Method(
        params.settings,
        lambda: backbones.build(params.backbone, width=params.width, stem=params.stem),
        pretraining.facts(found),
    )
    views = module.views(params.settings, params.image_size)
    work = Pretraining(method, found, params, views, seed=params.seed, place=Place(device=CPU))
    _run(work)
    trunk = work.method.evaluated()
    assert isinstance(trunk, Backbone)
    return trunk


def _fast(backbone: Backbone, found: DataSet, seed: int, precision: Precision) -> float:
    work = LinearProbe(backbone, found, settings=replace(PROTOCOL, precision=precision), seed=seed, device=CPU)
    _run(work)
    return float(work.finish()["top1"])


def _run(work: Work) -> None:
    for epoch in range(work.epochs):
        work.start_epoch(epoch, 0)
        for _ in range(work.steps(epoch)):
            work.train_step()
        work.end_epoch(epoch)


def _slow(backbone: Backbone, found: DataSet, seed: int) -> float:
    """Return the accuracy of the protocol as one would write it down: no folding, no reuse of the product's loop."""
    generator = torch.Generator().manual_seed(seed)
    backbone.to(memory_format=torch.contiguous_format).eval()
    with torch.no_grad():
        rows = {name: torch.cat([backbone(part) for part in _images(found, name).split(100)]) for name in found.splits}
    labels = {name: torch.from_numpy(split.labels) for name, split in found.splits.items()}
    mean_F, std_F = rows["train"].mean(dim=0), rows["train"].std(dim=0).clamp_min(1e-6)
    with features.seeded(seed, CPU):
        head = heads.linear_head(backbone.feature_dim, len(found.classes))
    rate = PROTOCOL.lrs[0]
    optimizer = torch.optim.SGD(head.parameters(), lr=rate, momentum=PROTOCOL.momentum)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=PROTOCOL.epochs)
    for _ in range(PROTOCOL.epochs):
        order = torch.randperm(len(labels["train"]), generator=generator).split(PROTOCOL.batch)
        for chosen in order[: len(labels["train"]) // PROTOCOL.batch]:
            scores_NC = head((rows["train"][chosen] - mean_F) / std_F)
            optimizer.zero_grad()
            functional.cross_entropy(scores_NC, labels["train"][chosen]).backward()
            optimizer.step()
        schedule.step()
    right_N = head((rows["test"] - mean_F) / std_F).argmax(dim=1) == labels["test"]
    return 100 * float(right_N.double().mean())


def _images(found: DataSet, name: str) -> torch.Tensor:
    images = found.splits[name].images
    indices = torch.arange(len(images)).numpy()
    return evaluation_views(images, indices, PROTOCOL.view, mean=found.mean, std=found.std, device=CPU)


if __name__ == "__main__":
    main()
