"""`headrace top`: a running `up` in the terminal."""

from __future__ import annotations

import json
import time
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from typing import Any

import click

from headrace.schemas.errors import MissingExtraError, RetryableError, SettingsError
from headrace.streams.cli.context import load

EVERY_S = 1.0
ANSWER_S = 5.0


@click.command()
@click.argument("address", required=False, metavar="[HOST:PORT]")
@click.option("--once", is_flag=True, help="Draw once and end.")
@click.option("--json", "as_json", is_flag=True, help="Print what is known once, as JSON.")
def top(address: str | None, once: bool, as_json: bool) -> None:
    """Watch a running `up`: rates, lag, latency, error budgets, drift.

    It asks the health endpoints of `up` (HEADRACE_HEALTH, or HOST:PORT) once a second.
    """
    place = _place(address)
    if as_json:
        click.echo(json.dumps(ask(place)))
        return
    try:
        from rich.console import Console
        from rich.live import Live

        from headrace.streams.cli.top_view import draw
    except ImportError as error:
        raise MissingExtraError(package="rich", extra="ui", needed_for="headrace top") from error
    console = Console()
    if once:
        console.print(draw(ask(place), place))
        return
    with (
        suppress(KeyboardInterrupt),
        Live(draw(ask(place), place), console=console, auto_refresh=False) as live,
    ):
        while True:
            time.sleep(EVERY_S)
            live.update(draw(ask(place), place), refresh=True)


def ask(place: str) -> dict[str, Any]:
    """Everything that is known there.

    Raises:
        RetryableError: nobody answers, or not with this.
    """
    url = f"http://{place}/observe"
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:
            found: dict[str, Any] = json.load(answer)
    except (OSError, HTTPException, ValueError) as error:
        raise RetryableError(
            f"asking {url} failed: {type(error).__name__}; "
            f"start it with HEADRACE_HEALTH={place}, or name another HOST:PORT"
        ) from error
    return found


def _place(address: str | None) -> str:
    """Where `up` answers."""
    if address is not None:
        return address if not address.startswith(":") else f"127.0.0.1{address}"
    found = load().health.place()
    if found is None:
        raise SettingsError(
            "HEADRACE_HEALTH is not set, so up answers nowhere; "
            "start it with HEADRACE_HEALTH=127.0.0.1:8080 and give top the same"
        )
    host, port = found
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
