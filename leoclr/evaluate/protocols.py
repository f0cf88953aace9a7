"""Evaluation protocols by name: what papers agree on to call "linear" or "1 % of the labels", one class each.

A protocol is a settings class whose every default is the published value with its source, and a version: it moves when
a default or the procedure behind it does. Numbers under different protocols are never compared as if they were one.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

PROTOCOLS: dict[str, dict[str, str]] = {  # class by protocol, by stage kind; the first of a kind is its default
    "linear": {
        "moco": "leoclr.evaluate.linear_protocols.MoCo",
        "simclr": "leoclr.evaluate.linear_protocols.SimCLR",
        "byol": "leoclr.evaluate.linear_protocols.BYOL",
        "clsa": "leoclr.evaluate.linear_protocols.CLSA",
        "leoclr_table6": "leoclr.evaluate.linear_protocols.LeOCLRTable6",
        "lbfgs": "leoclr.evaluate.linear_protocols.LBFGS",
        "small": "leoclr.evaluate.linear_protocols.Small",
    },
    "knn": {
        "wu2018": "leoclr.evaluate.knn_protocols.Wu2018",
        "moco_cifar": "leoclr.evaluate.knn_protocols.MoCoCifar",
        "lightly": "leoclr.evaluate.knn_protocols.Lightly",
        "mmselfsup20": "leoclr.evaluate.knn_protocols.MMSelfSup20",
        "small": "leoclr.evaluate.knn_protocols.Small",
    },
    "semi_supervised": {
        "simclr": "leoclr.evaluate.semi_protocols.SimCLR",
        "byol": "leoclr.evaluate.semi_protocols.BYOL",
        "swav": "leoclr.evaluate.semi_protocols.SwAV",
        "barlow_twins": "leoclr.evaluate.semi_protocols.BarlowTwins",
        "small": "leoclr.evaluate.semi_protocols.Small",
    },
    "transfer": {
        "simclr": "leoclr.evaluate.transfer_protocols.SimCLR",
        "byol": "leoclr.evaluate.transfer_protocols.BYOL",
        "simclr_scratch": "leoclr.evaluate.transfer_protocols.SimCLRScratch",
        "small": "leoclr.evaluate.transfer_protocols.Small",
    },
    "detection": {
        "moco_voc_c4": "leoclr.evaluate.detection_protocols.MoCoVoc",
        "moco_coco_c4": "leoclr.evaluate.detection_protocols.MoCoCoco",
        "small": "leoclr.evaluate.detection_protocols.Small",
    },
}


class ProtocolSettings(Protocol):
    """What each class named above is: a frozen keyword-only dataclass with a default for every field."""

    VERSION: ClassVar[int]


def settings_type(kind: str, name: str) -> type[ProtocolSettings]:
    """Return the settings class of protocol `name` of stage `kind`, keys of `PROTOCOLS`."""
    module, _, cls = PROTOCOLS[kind][name].rpartition(".")
    found: type[ProtocolSettings] = getattr(importlib.import_module(module), cls)
    return found


def changed(kind: str, name: str, settings: Any) -> Mapping[str, Any]:
    """Return the fields of `settings` that differ from protocol `name`, by field name; empty: it is that protocol."""
    published = settings_type(kind, name)()
    names = [field.name for field in dataclasses.fields(settings)]
    return {each: getattr(settings, each) for each in names if getattr(settings, each) != getattr(published, each)}
