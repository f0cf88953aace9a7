"""Open the store of this user, and first end what it believes to be running though nobody runs it."""

from __future__ import annotations

import os
from typing import NoReturn

from orchestration.errors import NotFound
from orchestration.reconcile import reconcile
from orchestration.storage import Home
from orchestration.tracking import Store


def create() -> tuple[Home, Store]:
    """Return the home and its store, made where there is none.

    Raises: StoreError when the store cannot be used.
    """
    home = Home.default()
    store = Store.open(home)
    reconcile(store)
    return home, store


def past() -> tuple[Home, Store | None]:
    """Return the home and its store, None where there is none: to look creates nothing.

    Raises: StoreError when the store cannot be used.
    """
    home = Home.default()
    return create() if _is_there(home) else (home, None)


def known() -> tuple[Home, Store]:
    """Return the home and its store.

    Raises: NotFound where there is none; StoreError when it cannot be used.
    """
    home, store = past()
    return (home, store) if store else (home, _nothing(home))


def as_it_is() -> tuple[Home, Store]:
    """Return the home and its store with all that it believes. Raises: as `known`."""
    home = Home.default()
    return home, Store.open(home) if _is_there(home) else _nothing(home)


def _is_there(home: Home) -> bool:
    return home.database.exists() or bool(os.environ.get("MLFLOW_TRACKING_URI"))


def _nothing(home: Home) -> NoReturn:
    hint = "`leoclr-ops submit` begins; LEOCLR_OPS_HOME names another folder"
    raise NotFound("nothing was submitted yet", place=str(home.path), hint=hint)
