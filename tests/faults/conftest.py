"""The stores of `tests.orchestration`, for faults that need no process of their own."""

from __future__ import annotations

from tests.orchestration.conftest import empty_database as empty_database
from tests.orchestration.conftest import home as home
from tests.orchestration.conftest import store as store
