"""Where profiles lie: the user's own, and the examples that come with the package.

The files of `cluster/` at the top of a checkout lie in a wheel as `files/` beside this file: a package called `cluster`
would stand in everybody's way.
"""

from __future__ import annotations

import os
from pathlib import Path

from orchestration.storage import expanded

_WHEEL, _CHECKOUT = Path(__file__).parent / "files", Path(__file__).parents[2] / "cluster"


def user() -> Path:
    """Return the user's folder of profiles: below $LEOCLR_OPS_CONFIG, else $XDG_CONFIG_HOME, else ~/.config."""
    if ours := os.environ.get("LEOCLR_OPS_CONFIG"):
        return expanded(ours, "LEOCLR_OPS_CONFIG").absolute() / "clusters"
    config = expanded(os.environ.get("XDG_CONFIG_HOME") or "~/.config", "XDG_CONFIG_HOME")
    return config.absolute() / "leoclr-ops" / "clusters"


def files() -> Path:
    """Return the folder of the cluster files that come with the package."""
    return _WHEEL if _WHEEL.is_dir() else _CHECKOUT


def shipped() -> dict[str, Path]:
    """Return the example profiles by name."""
    return {path.stem: path for path in sorted((files() / "profiles").glob("*.yaml"))}


def known() -> dict[str, Path]:
    """Return all profiles by name; the user's own hide the examples."""
    return dict(sorted({**shipped(), **{path.stem: path for path in user().glob("*.yaml")}}.items()))
