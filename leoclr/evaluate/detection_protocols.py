"""Detection protocols: MoCo's on PASCAL VOC and COCO, and a small one for scenes of digits.

Sources: facebookresearch/moco at 132aea9da9bb995a411c915c0420be3db62052f3, detection/configs/ (named at each field), on
facebookresearch/detectron2 at 02b5c4e295e990042a714712c21dc79b731e8833, detectron2/config/defaults.py ("defaults.py").
All layers and every batch norm train (FREEZE_AT 0, NORM naiveSyncBN), and one more follows layer4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from leoclr import optim
from leoclr.evaluate.detector_settings import DetectorSettings

Score = Literal["voc07", "voc_area", "coco"]
"""voc07: VOC's 11-point precision, voc_area: VOC's since 2010, coco: COCO's. All average overlaps .50, .55 .. .95."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoCoVoc:
    """Faster R-CNN R50-C4 for 24,000 steps, as MoCo's: pascal_voc_R_50_C4_24k_moco.yaml and what it inherits.

    Train on VOC07+12 trainval, test on VOC07 test; numbers are means of 5 trials (detection/README.md). With fewer
    images a step, halve `lr` and double iterations and milestones alike (facebookresearch/moco#11). CLSA's numbers are
    of the same files with torch's SyncBN for the naive one.
    """

    VERSION: ClassVar[int] = 1

    detector: DetectorSettings = field(default_factory=DetectorSettings)
    iterations: int = 24_000  # optimizer steps; pascal_voc_R_50_C4_24k.yaml, MAX_ITER
    batch: int = 16  # scenes of one step, over all workers; Base-RCNN-C4-BN.yaml, IMS_PER_BATCH
    lr: float = 0.02  # Base-RCNN-C4-BN.yaml, BASE_LR
    warmup: int = 100  # steps, in a straight line; pascal_voc_R_50_C4_24k.yaml, WARMUP_ITERS
    warmup_start: float = 0.001  # share of `lr` at step 0; defaults.py, WARMUP_FACTOR
    milestones: tuple[int, ...] = (
        18_000,
        22_000,
    )  # where the rate falls to a tenth; pascal_voc_R_50_C4_24k.yaml, STEPS
    momentum: float = 0.9  # defaults.py
    weight_decay: float = 1e-4  # defaults.py, WEIGHT_DECAY; biases have it too: WEIGHT_DECAY_BIAS None
    weight_decay_norm: float = 0.0  # of batch norm's weights and biases; defaults.py
    train_sides: tuple[int, ...] = tuple(
        range(480, 801, 32)
    )  # shorter side, drawn, pixels; pascal_voc_R_50_C4_24k.yaml
    test_side: int = 800  # pixels; pascal_voc_R_50_C4_24k.yaml
    max_side: int = 1333  # longer side at most, pixels; defaults.py, MAX_SIZE_TRAIN and MAX_SIZE_TEST
    flip_p: float = 0.5  # defaults.py, RANDOM_FLIP; 0 where a mirror image has another meaning, as with digits
    precise_bn_steps: int = 200  # batches that measure batch norm's test statistics; defaults.py, PRECISE_BN.NUM_ITER
    score: Score = "voc07"  # detectron2/evaluation/pascal_voc_evaluation.py, for VOC07

    def __post_init__(self) -> None:
        for name in ("iterations", "batch", "lr", "test_side", "max_side"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive")
        for name in ("warmup", "precise_bn_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} is negative")
        for name in ("warmup_start", "momentum", "weight_decay", "weight_decay_norm", "flip_p"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not in 0..1")
        if not self.train_sides or min(self.train_sides) <= 0:
            raise ValueError(f"train_sides: {self.train_sides} are not positive numbers")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones: {self.milestones} do not rise")
        if self.score not in get_args(Score):
            raise ValueError(f"score: {self.score!r} is none of {', '.join(get_args(Score))}")

    def rate(self, step: int) -> float:
        """Return the learning rate at `step`: detectron2/solver/build.py, WarmupMultiStepLR."""
        warm = optim.warmup_factor(step, length=self.warmup, start=self.warmup_start)
        return warm * optim.step_decay(self.lr, step, milestones=self.milestones)


@dataclass(frozen=True, slots=True, kw_only=True)
class MoCoCoco(MoCoVoc):
    """Faster R-CNN R50-C4 for 180,000 steps ("2x") on COCO: coco_R_50_C4_2x_moco.yaml and what it inherits.

    Train on train2017, test on val2017. MoCo's own numbers are the box scores of a Mask R-CNN (MASK_ON True): its mask
    head, which this detector lacks, adds a loss to the same trunk. A table of these numbers must say so.
    """

    VERSION: ClassVar[int] = 1

    iterations: int = 180_000  # coco_R_50_C4_2x.yaml, MAX_ITER
    warmup: int = 1000  # defaults.py, WARMUP_ITERS
    milestones: tuple[int, ...] = (120_000, 160_000)  # coco_R_50_C4_2x.yaml, STEPS
    train_sides: tuple[int, ...] = tuple(range(640, 801, 32))  # coco_R_50_C4_2x.yaml, MIN_SIZE_TRAIN
    score: Score = "coco"  # detectron2/evaluation/coco_evaluation.py


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallDetector(DetectorSettings):
    """The detector for scenes of 64 pixels: MoCo's, each number shrunk by hand; no paper's."""

    anchor_sizes: tuple[int, ...] = (9, 14, 20, 27)  # of digits of 16..40 pixels in 96, seen in 64
    anchor_ratios: tuple[float, ...] = (1.0, 2.0)  # digits are high or square
    anchors: int = 64  # of the 2,048 of 16 x 16 cells
    proposals_before_nms: tuple[int, int] = (200, 200)
    proposals: tuple[int, int] = (100, 50)
    regions: int = 16
    pool: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Small(MoCoVoc):
    """A detection in a minute on two CPU cores, for scenes of digits: chosen by hand on digit_scenes; no paper's."""

    VERSION: ClassVar[int] = 1

    detector: SmallDetector = field(default_factory=SmallDetector)
    iterations: int = 100
    batch: int = 4
    lr: float = 0.05
    warmup: int = 20
    milestones: tuple[int, ...] = (75, 90)
    train_sides: tuple[int, ...] = (64,)
    test_side: int = 64
    max_side: int = 64
    flip_p: float = 0.0  # a mirrored digit is no digit
    precise_bn_steps: int = 10
