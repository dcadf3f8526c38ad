"""Store URLs."""

from __future__ import annotations

import pytest

from headrace.feature_store.redis_store import address_of
from headrace.schemas.errors import SettingsError
from headrace.schemas.settings import StoreSettings


@pytest.mark.parametrize(
    ("url", "nodes", "path", "db", "tls", "cluster"),
    [
        ("redis://h:1/2", (("h", 1),), None, 2, False, False),
        ("redis://h", (("h", 6379),), None, 0, False, False),
        ("rediss://[::1]:7/", (("::1", 7),), None, 0, True, False),
        ("redis+cluster://a:1,b:2", (("a", 1), ("b", 2)), None, 0, False, True),
        ("rediss+cluster://a:1", (("a", 1),), None, 0, True, True),
        ("unix:///run/valkey.sock", (), "/run/valkey.sock", 0, False, False),
        ("unix:///run/valkey.sock?db=3", (), "/run/valkey.sock", 3, False, False),
    ],
)
def test_urls_are_read(
    url: str, nodes: object, path: str | None, db: int, tls: bool, cluster: bool
) -> None:
    """Every scheme gives its nodes or path, its database, and whether it is TLS or a cluster."""
    address = address_of(StoreSettings(url=url))
    found = (address.nodes, address.path, address.db, address.tls, address.cluster)
    assert found == (nodes, path, db, tls, cluster)


@pytest.mark.parametrize(
    "url",
    [
        "local",
        "http://h:1",
        "redis://",
        "redis://h:port",
        "redis://h:70000",
        "redis://h:1/first",
        "redis://a:1,b:2",
        "redis+cluster://a:1/3",
        "redis://me:secret@h:1",
        "unix://",
    ],
)
def test_impossible_urls_are_refused(url: str) -> None:
    """What cannot be a store is refused in one line that shows no secret."""
    with pytest.raises(SettingsError) as caught:
        address_of(StoreSettings(url=url))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
