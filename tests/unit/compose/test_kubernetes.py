"""The manifests agree with the code, the pipeline that they run, and each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.schemas.pipeline import Delivery, load_pipeline
from headrace.schemas.settings import load_settings
from headrace.schemas.topics import topics_of
from headrace.streams.monitoring.alerts import WORKER_LIMIT_BYTES
from headrace.streams.workers.jobs import stages_of
from headrace.streams.workers.supervisor import KILL_AFTER_S, KILLED_S

FOLDER = Path(__file__).parents[3] / "compose" / "kubernetes"
ROOT = FOLDER.parents[1]
FILES = {file.name: list(yaml.safe_load_all(file.read_text("utf-8"))) for file in FOLDER.iterdir()}
[KUSTOMIZATION] = FILES["kustomization.yaml"]
[PATCH] = FILES["worker.yaml"]
POD = PATCH["spec"]["template"]["spec"]
[WORKER] = POD["containers"]
GENERATED = {one["name"]: one for one in KUSTOMIZATION["configMapGenerator"]}
ENVIRON = dict(one.split("=", 1) for one in GENERATED["headrace-settings"]["literals"])
SETTINGS = load_settings(None, ENVIRON | {entry["name"]: "user" for entry in WORKER["env"]})
PIPELINE = load_pipeline(
    next(FOLDER / f for f in GENERATED["headrace-pipeline"]["files"] if f.endswith(".toml"))
)
KINDS = {"m": 1e-3, "Mi": 1 << 20, "Gi": 1 << 30, "": 1}


def of_kind(kind: str) -> dict[str, Any]:
    """Objects of one kind by name; what is laid over others is none."""
    objects = [one for name, file in FILES.items() if name != "worker.yaml" for one in file]
    return {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == kind}


def amount(text: str) -> float:
    """A quantity of Kubernetes as a number."""
    number, unit = re.fullmatch(r"(\d+)(\D*)", text).groups()
    return int(number) * KINDS[unit]


def of_stage(stage: str) -> tuple[str, str]:
    """The consumer group of a stage, and the topic that it reads."""
    topics = topics_of(PIPELINE)
    read = {"enrich": topics.enriched, "serve": topics.features}[stage]
    return f"{PIPELINE.name}.{stage}", read.name


def hosts(urls: list[str]) -> Iterator[tuple[str, int]]:
    """Namespace and port of what our settings lead to."""
    for url in urls:
        _, _, namespace, port = re.fullmatch(r"(\w+)://(\w+)\.(\w+)\.svc:(\d+).*", url).groups()
        yield namespace, int(port)


def test_each_stage_has_its_objects() -> None:
    """A Deployment, a budget of disruptions and a scaler, each of the worker that it names."""
    stages = set(stages_of(PIPELINE))
    deployments = of_kind("Deployment")

    assert stages == set(deployments) == set(of_kind("ScaledObject"))
    assert stages == set(of_kind("PodDisruptionBudget"))
    for stage, spec in deployments.items():
        labels = {"app.kubernetes.io/name": "headrace", "headrace/stage": stage}
        [worker] = spec["template"]["spec"]["containers"]
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"] == labels
        assert of_kind("PodDisruptionBudget")[stage]["selector"]["matchLabels"] == labels
        assert worker["args"][-2:] == ["--stages", stage]
        assert worker["name"] == WORKER["name"]
        assert "replicas" not in spec, "two would say how many there are"


@pytest.mark.parametrize("stage", stages_of(PIPELINE))
def test_lag_is_that_of_our_groups(stage: str) -> None:
    """Scaling asks our bus for the stage's own group and topic, and stops at its partitions."""
    spec = of_kind("ScaledObject")[stage]
    [trigger] = spec["triggers"]
    asked = trigger["metadata"]

    assert (asked["consumerGroup"], asked["topic"]) == of_stage(stage)
    assert spec["maxReplicaCount"] == PIPELINE.topics.partitions
    assert spec["scaleTargetRef"]["name"] == stage
    assert SETTINGS.bus.url == f"kafkas://{asked['bootstrapServers']}"
    assert asked["sasl"] == SETTINGS.bus.mechanism.lower().replace("-", "_").replace(
        "scram_sha_", "scram_sha"
    )
    assert asked["offsetResetPolicy"] == PIPELINE.delivery.start
    assert trigger["authenticationRef"]["name"] in of_kind("TriggerAuthentication")


def test_the_group_is_named_as_workers_name_theirs() -> None:
    """`PIPELINE.STAGE`, which `of_stage` repeats, is what a running stage joins."""
    code = (ROOT / "streams/workers/running_stage.py").read_text("utf-8")

    assert 'return f"{self.pipeline.name}.{self.stage}"' in code


def test_probes_ask_what_there_is() -> None:
    """Paths and port are the health server's, and liveness waits for the watchdog."""
    server = (ROOT / "streams/health/server.py").read_text("utf-8")
    live, ready = WORKER["livenessProbe"], WORKER["readinessProbe"]
    [port] = WORKER["ports"]
    annotated = PATCH["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"]

    assert SETTINGS.health.place() == ("0.0.0.0", port["containerPort"])
    assert annotated == str(port["containerPort"])
    assert live["httpGet"] == {"path": "/livez", "port": port["name"]}
    assert ready["httpGet"] == {"path": "/readyz", "port": port["name"]}
    assert '"livez", "readyz"' in server
    waits_s = live["periodSeconds"] * live["failureThreshold"]
    assert waits_s > Delivery().stuck_restart_s + KILL_AFTER_S + KILLED_S


def test_a_worker_has_time_to_finish() -> None:
    """The platform kills it only after we would have."""
    assert POD["terminationGracePeriodSeconds"] > KILL_AFTER_S + KILLED_S


def test_a_worker_may_do_nothing_that_it_need_not() -> None:
    """No root, no writing but to /tmp, no rights, no token; bounded in memory and CPU."""
    own = WORKER["securityContext"]
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in WORKER["volumeMounts"]}
    bounds = WORKER["resources"]

    assert POD["securityContext"]["runAsNonRoot"]
    assert POD["securityContext"]["runAsUser"] > 0
    assert POD["automountServiceAccountToken"] is False
    assert (own["allowPrivilegeEscalation"], own["readOnlyRootFilesystem"]) == (False, True)
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert [path for path, read_only in mounts.items() if not read_only] == ["/tmp"]
    assert (SETTINGS.worker.data_dir or "").startswith("/tmp/")
    assert amount(bounds["limits"]["memory"]) == WORKER_LIMIT_BYTES
    for what in ("cpu", "memory"):
        assert 0 < amount(bounds["requests"][what]) <= amount(bounds["limits"][what])


def test_secrets_are_read_where_they_are() -> None:
    """What settings read from files is mounted, from the secrets that KEDA reads, too."""
    mounted = {mount["mountPath"]: mount["name"] for mount in WORKER["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    secrets = {n: v["secret"]["secretName"] for n, v in volumes.items() if "secret" in v}
    read = [
        getattr(part, f) for part in (SETTINGS.bus, SETTINGS.store) for f in ("ca", "password_file")
    ]

    assert {str(Path(file).parent) for file in read} == {
        path for path, name in mounted.items() if name in secrets
    }
    [lent] = of_kind("TriggerAuthentication").values()
    files = {Path(file).name for file in read} | {"username"}
    assert {(one["name"], one["key"]) for one in lent["secretTargetRef"]} == {
        ("headrace-bus", key) for key in files
    }
    taken = {entry["valueFrom"]["secretKeyRef"]["name"] for entry in WORKER["env"]}
    assert taken == set(secrets.values())
    assert volumes["pipeline"]["configMap"]["name"] in GENERATED
    assert [source["configMapRef"]["name"] for source in WORKER["envFrom"]] == ["headrace-settings"]


def test_the_network_lets_through_what_settings_name() -> None:
    """Bus, store and collector, each at its port in its namespace; names; and nothing else."""
    [policy] = of_kind("NetworkPolicy").values()
    opened = {
        (to["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], port["port"])
        for rule in policy["egress"]
        for to in rule["to"]
        for port in rule["ports"]
    }
    wanted = set(hosts([SETTINGS.bus.url, SETTINGS.store.url, SETTINGS.otlp.url or ""]))

    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert opened == wanted | {("kube-system", 53)}
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["health"]


def test_the_pipeline_is_whole() -> None:
    """Its file, and every file that it names, is in the ConfigMap at the place that workers ask."""
    files = {Path(name).name for name in GENERATED["headrace-pipeline"]["files"]}
    [mount] = [m["mountPath"] for m in WORKER["volumeMounts"] if m["name"] == "pipeline"]
    asked = {
        spec["template"]["spec"]["containers"][0]["args"][1]
        for spec in of_kind("Deployment").values()
    }

    assert asked == {f"{mount}/pipeline.toml"}
    assert files == {"pipeline.toml", PIPELINE.model.file, PIPELINE.model.golden}


def test_every_file_is_used() -> None:
    """A manifest that nobody applies is none."""
    used = [*KUSTOMIZATION["resources"], *(patch["path"] for patch in KUSTOMIZATION["patches"])]

    assert sorted(used) == sorted(FILES.keys() - {"kustomization.yaml"})
