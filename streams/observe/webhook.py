"""Alerts to a webhook: one POST of JSON for each incident that begins, worsens or ends."""

from __future__ import annotations

import asyncio
import logging
import urllib.request
from http.client import HTTPException

import msgspec

from headrace.schemas.observed import Incident

log = logging.getLogger("headrace.alerts")

ANSWER_S = 5.0
TRIES = 3


class Webhook:
    """Posts incidents in order; what cannot be delivered is told in one line and given up.

    Args:
        url: Where to; http or https, checked by the settings.
        pause_s: Before the second try, and twice that before the third, seconds.
    """

    def __init__(self, url: str, *, pause_s: float = 2.0) -> None:
        self._url, self._pause_s = url, pause_s

    async def send(self, incident: Incident) -> bool:
        """Whether the other side took it, tried three times.

        Delivery: at least once where it returns true; the same incident may come again.
        """
        body = msgspec.json.encode({"status": _status(incident), "incident": incident})
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(self._pause_s * attempt)
            if await asyncio.to_thread(self._post, body):
                return True
        log.warning(
            "an alert of objective %s could not be delivered, tried %d times; see HEADRACE_ALERTS",
            incident.objective, TRIES,
        )  # fmt: skip
        return False

    def _post(self, body: bytes) -> bool:
        head = {"Content-Type": "application/json"}
        try:
            # The scheme is http or https: the settings let nothing else through.
            request = urllib.request.Request(self._url, body, head)  # noqa: S310
            with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310
                return bool(200 <= answer.status < 300)
        # ValueError: an address that is none, ours or the one an answer sends us on to.
        except (OSError, HTTPException, ValueError):
            return False


def _status(incident: Incident) -> str:
    return "firing" if incident.end_ms is None else "resolved"
