"""A running `up`, seen by a probe."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable

from integration.setup.command import Setup

START_S = 45.0


class Site:
    """A running `up`, its endpoints and its processes."""

    def __init__(self, setup: Setup, url: str) -> None:
        self.setup = setup
        self._url = url

    def get(self, path: str) -> tuple[int, str]:
        """Status and body."""
        try:
            with urllib.request.urlopen(f"{self._url}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def until(self, path: str, seen: Callable[[int, str], bool], within_s: float) -> str:
        """Probe until an answer is as wanted; its body."""
        give_up = time.monotonic() + within_s
        while not seen(*(answer := self.get(path))):
            assert time.monotonic() < give_up, f"{path} still answers {answer}"
            time.sleep(0.05)
        return answer[1]

    def until_ready(self, name: str = "") -> None:
        """Ready and alive: all pipelines, or that of a name."""
        place = f"/{name}" if name else ""
        self.until(f"/readyz{place}", lambda status, _: status == 200, START_S)
        assert self.get(f"/livez{place}") == (200, "ok\n")

    def worker(self, stage: str, file: str = "") -> int:
        """Process of a stage's worker, of the only pipeline or that of a file."""
        return self.setup.child(f"headrace.streams.workers.worker {stage} {file}".rstrip())
