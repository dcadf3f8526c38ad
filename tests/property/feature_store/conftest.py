"""One server for these tests."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

_path = Path(__file__).parents[2] / "integration" / "feature_store" / "servers.py"
_spec = importlib.util.spec_from_file_location("feature_store_servers", _path)
assert _spec is not None
assert _spec.loader is not None
_servers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_servers)


@pytest.fixture(scope="session")
def plain_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with _servers.plain(tmp_path_factory.mktemp("v")) as url:
        yield url
