"""`headrace kafka`: a durable Kafka on this machine, in the foreground."""

from __future__ import annotations

import asyncio
import json

import click

from headrace.schemas.errors import LocalServiceError
from headrace.streams.cli.context import load
from headrace.streams.cli.running import run
from headrace.streams.local.kafka_install import install_kafka
from headrace.streams.local.local_kafka import LocalKafka
from headrace.streams.local.services import base_folder


@click.command()
@click.option("--install", is_flag=True, help="Fetch it if it is not there, and end.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port; 0: as the last time.")
@click.option("--json", "as_json", is_flag=True, help="Say where it is as a JSON object.")
def kafka(install: bool, port: int, as_json: bool) -> None:
    """Run a durable Kafka on this machine until it is told to stop; its data is kept."""
    if install:
        asyncio.run(install_kafka(lambda line: click.echo(line, err=True)))
        if as_json:
            click.echo(json.dumps({"installed": LocalKafka.installed()}))
        return
    broker = LocalKafka(base_folder(load()) / "kafka", port=port)
    run(_serve(broker, port, as_json=as_json))


async def _serve(broker: LocalKafka, port: int, *, as_json: bool) -> None:
    url = await broker.start()
    try:
        if port not in (0, broker.port):
            found = f"it runs already, at {url}" if broker.shared else "the port is taken"
            raise LocalServiceError(
                f"starting Kafka on port {port} failed: {found}; take another --port, or leave it"
            )
        if as_json:
            click.echo(json.dumps({"url": url, "shared": broker.shared}))
        else:
            click.echo(f"Kafka is at {url}; use it with: export HEADRACE_BUS={url}")
        while not broker.shared:
            broker.check()
            await asyncio.sleep(0.5)
    finally:
        await broker.stop()
