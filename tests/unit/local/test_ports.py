"""Ports of local services."""

from __future__ import annotations

import pytest

from headrace.streams.local import service


def test_spare_ports_are_none_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that was chosen but is not bound yet is found free again; it is never given twice."""
    monkeypatch.setattr(service, "free_ports", lambda count: [5001, 5002, 5003][:count])
    assert service.spare_ports(2, besides=5001) == [5002, 5003]
    assert service.spare_ports(2, besides=5003) == [5001, 5002]
    assert service.spare_ports(2, besides=9) == [5001, 5002]
