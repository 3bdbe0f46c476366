"""The Kubernetes manifests fit Kubernetes' own schemas, and name settings, ports, paths and series that exist."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import kubernetes_validate
import promql_parser
import pytest
import yaml

from app.routers.http.hosts import PROBES
from app.server.server import GRACE_SECONDS
from app.services.runs.engine.opening import STOP_GRACE_SECONDS
from app.settings import Settings
from app.telemetry.metrics import LABELS

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "deploy" / "kubernetes"
GUIDE = ROOT / "docs" / "how-to" / "deploy-on-kubernetes.md"
VERSIONS = ("1.31", "1.37")
"""The oldest and the newest release of Kubernetes that the manifests are checked against."""
RESERVE_SECONDS = 10
"""The time to spare between an orderly stop and the kill."""
PROCESSES = ("api", "worker")
CUSTOM_KINDS = ("ServiceMonitor",)
"""Kinds of operators, whose schemas are not part of Kubernetes."""
BUILDS = ("Kustomization", "Component")
SUFFIXES = ("_bucket", "_count", "_sum", "_total")
Manifest = dict[str, Any]


def documents(pattern: str = "*/*.yaml") -> Iterator[tuple[str, Manifest]]:
    """The documents of the files that match a pattern, each with its file."""
    for path in sorted(MANIFESTS.glob(pattern)):
        for document in yaml.safe_load_all(path.read_text()):
            yield str(path.relative_to(MANIFESTS)), document


RESOURCES = [
    (name, one) for name, one in [*documents("*.yaml"), *documents()] if one.get("kind") not in (*BUILDS, None)
]


def resource(kind: str, name: str) -> Manifest:
    """The only resource of a kind and name."""
    (found,) = [one for _, one in RESOURCES if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def pod_of(process: str) -> Manifest:
    """The pod's specification of a deployment."""
    return resource("Deployment", f"dynamic-agents-{process}")["spec"]["template"]["spec"]


def container_of(process: str) -> Manifest:
    """The only container of a deployment."""
    (container,) = pod_of(process)["containers"]
    return container


def environment_of(process: str) -> dict[str, str]:
    """The variables that a container itself sets."""
    return {entry["name"]: entry["value"] for entry in container_of(process)["env"]}


def labels_of(process: str) -> Mapping[str, str]:
    """The labels of a deployment's pods."""
    return resource("Deployment", f"dynamic-agents-{process}")["spec"]["template"]["metadata"]["labels"]


def mebibytes(quantity: str) -> int:
    """A quantity of memory in MiB."""
    number, unit = int(quantity[:-2]), quantity[-2:]
    return number * {"Mi": 1, "Gi": 1024}[unit]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_resource_fits_the_schemas_of_kubernetes(version: str) -> None:
    for name, one in RESOURCES:
        if one["kind"] not in CUSTOM_KINDS:
            try:
                kubernetes_validate.validate(one, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                pytest.fail(f"{name}: {one['kind']}: {error.message} at {list(error.path)}")


def test_a_misspelled_field_is_found() -> None:
    service = resource("Service", "dynamic-agents")
    wrong = service | {"spec": service["spec"] | {"selectors": {}}}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_each_file_belongs_to_a_build_except_those_that_a_person_completes() -> None:
    builds = {Path(name).parent: one for name, one in documents() if one.get("kind") in BUILDS}
    listed = {str(folder / name) for folder, one in builds.items() for name in one["resources"] if name[0] != "."}
    files = {name for name, _ in documents() if not name.endswith("kustomization.yaml")}

    assert files - listed == {"autoscaling/prometheus-adapter.yaml"}
    assert listed <= files
    example = builds[Path("example")]
    assert all((MANIFESTS / "example" / name).is_dir() for name in example["resources"] + example["components"])


def test_the_example_patches_resources_and_fields_that_exist() -> None:
    example = dict(documents("example/*.yaml"))["example/kustomization.yaml"]
    (image,) = example["images"]

    assert {container_of(process)["image"].partition(":")[0] for process in PROCESSES} == {image["name"]}
    for patch in example["patches"]:
        for step in yaml.safe_load(patch["patch"]):
            *parents, last = step["path"].strip("/").split("/")
            target: Any = resource(patch["target"]["kind"], patch["target"]["name"])
            for parent in parents:
                target = target[parent]
            assert step["op"] == "add" or last in target
            if parents == ["data"]:
                assert last.lower() in Settings.model_fields


def test_variables_are_settings_and_the_template_of_the_secret_has_no_values() -> None:
    config = resource("ConfigMap", "dynamic-agents")["data"]
    secret = resource("Secret", "dynamic-agents")["stringData"]

    for names in (config, secret, *map(environment_of, PROCESSES)):
        assert {name for name in names if name.lower() not in Settings.model_fields} == set()
    assert set(secret.values()) == {""}
    assert all("SecretStr" in str(Settings.model_fields[name.lower()].annotation) for name in secret)
    assert not any("SecretStr" in str(Settings.model_fields[name.lower()].annotation) for name in config)


@pytest.mark.parametrize("process", PROCESSES)
def test_the_values_of_settings_are_valid(process: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (resource("ConfigMap", "dynamic-agents")["data"] | environment_of(process)).items():
        monkeypatch.setenv(name, value)

    settings = Settings(_env_file=None)  # pyright: ignore[reportCallIssue] - pydantic-settings' own

    assert settings.log_format == "json"
    assert settings.serve_runs is (process == "worker")


@pytest.mark.parametrize("process", PROCESSES)
def test_containers_take_their_settings_from_the_config_map_and_the_secret(process: str) -> None:
    sources = [next(iter(source.items())) for source in container_of(process)["envFrom"]]

    assert sources == [("configMapRef", {"name": "dynamic-agents"}), ("secretRef", {"name": "dynamic-agents"})]


@pytest.mark.parametrize("process", PROCESSES)
def test_probes_use_paths_that_need_no_key_on_the_process_port(process: str) -> None:
    container = container_of(process)
    (port,) = container["ports"]
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}

    listening = environment_of("api")["PORT"] if process == "api" else container["args"][-1]
    assert (port["name"], str(port["containerPort"])) == ("http", listening)
    assert all(container[name]["httpGet"]["port"] == "http" for name in paths)
    assert {path.partition("?")[0] for path in paths.values()} < set(PROBES)
    assert (paths["startupProbe"], paths["livenessProbe"]) == ("/readyz", "/healthz")
    assert paths["readinessProbe"] == ("/readyz?exclude=queue" if process == "api" else "/readyz")


@pytest.mark.parametrize("process", PROCESSES)
def test_a_pod_has_time_for_the_orderly_stop(process: str) -> None:
    drain = float(environment_of(process).get("DRAIN_SECONDS", 0))

    needed = drain + GRACE_SECONDS + STOP_GRACE_SECONDS + RESERVE_SECONDS
    assert pod_of(process)["terminationGracePeriodSeconds"] >= needed


@pytest.mark.parametrize("process", PROCESSES)
def test_a_pod_has_no_privilege_and_is_bounded(process: str) -> None:
    pod, container = pod_of(process), container_of(process)
    image_user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert image_user

    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": int(image_user[1]),
        "runAsGroup": int(image_user[2]),
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]  # noqa: S108 - the container's own
    assert resource("ConfigMap", "dynamic-agents")["data"]["DATA_DIR"].startswith("/tmp/")  # noqa: S108
    requests, limits = (container["resources"][kind] for kind in ("requests", "limits"))
    assert mebibytes(requests["memory"]) <= mebibytes(limits["memory"])


@pytest.mark.parametrize("process", PROCESSES)
def test_selectors_find_the_pods_of_one_process_alone(process: str) -> None:
    labels = labels_of(process)
    selectors: list[Manifest] = [
        resource("Deployment", f"dynamic-agents-{process}")["spec"]["selector"],
        resource("PodDisruptionBudget", f"dynamic-agents-{process}")["spec"]["selector"],
        *(one["labelSelector"] for one in pod_of(process)["topologySpreadConstraints"]),
    ]

    assert [one["matchLabels"] for one in selectors] == [labels] * len(selectors)
    assert labels["app.kubernetes.io/component"] == process
    assert resource("NetworkPolicy", "dynamic-agents")["spec"]["podSelector"]["matchLabels"].items() < labels.items()


def test_the_service_leads_to_the_api_and_prometheus_to_every_process() -> None:
    service = resource("Service", "dynamic-agents")
    metrics = resource("Service", "dynamic-agents-metrics")
    monitor = resource("ServiceMonitor", "dynamic-agents")
    (endpoint,) = monitor["spec"]["endpoints"]

    assert service["spec"]["selector"] == labels_of("api")
    assert all(metrics["spec"]["selector"].items() < labels_of(process).items() for process in PROCESSES)
    assert monitor["spec"]["selector"]["matchLabels"] == metrics["metadata"]["labels"]
    assert endpoint["port"] in [port["name"] for port in metrics["spec"]["ports"]]
    assert endpoint["path"] in PROBES
    assert service["metadata"]["labels"] != metrics["metadata"]["labels"]


def adapter_rules() -> list[Manifest]:
    """The rules of the Prometheus adapter."""
    ((_, content),) = documents("autoscaling/prometheus-adapter.yaml")
    return [rule for kind in ("external", "custom") for rule in content["rules"][kind]]


def test_the_autoscaler_uses_metrics_that_the_adapter_makes_of_existing_series() -> None:
    metrics = resource("HorizontalPodAutoscaler", "dynamic-agents-worker")["spec"]["metrics"]
    used = {cast(Manifest, one["pods" if one["type"] == "Pods" else "external"])["metric"]["name"] for one in metrics}
    made = {rule["name"]["as"]: rule for rule in adapter_rules()}

    assert made.keys() == used
    for rule in made.values():
        query = rule["metricsQuery"].replace("<<.LabelMatchers>>", 'namespace="a"').replace("<<.GroupBy>>", "pod")
        promql_parser.parse(query)
        series = {*re.findall(r"dynamic_agents_\w+", query), *re.findall(r"dynamic_agents_\w+", rule["seriesQuery"])}
        known = {name + suffix for name in LABELS for suffix in ("", *SUFFIXES)}
        assert series <= known


@pytest.mark.parametrize("process", PROCESSES)
def test_an_autoscaler_names_its_deployment(process: str) -> None:
    spec = resource("HorizontalPodAutoscaler", f"dynamic-agents-{process}")["spec"]

    assert spec["scaleTargetRef"]["name"] == f"dynamic-agents-{process}"
    assert 2 <= spec["minReplicas"] < spec["maxReplicas"]


def test_the_guide_names_every_file_and_secret() -> None:
    guide = GUIDE.read_text()
    folders = {path.name for path in MANIFESTS.iterdir() if path.is_dir()}

    assert {name for name in folders if f"`{name}/" not in guide and f"/{name}`" not in guide} == set()
    assert "secret-template.yaml" in guide


def test_nothing_is_archived_into_a_directory_that_is_lost_with_the_pod() -> None:
    assert "EXECUTION_RETENTION_DAYS" not in resource("ConfigMap", "dynamic-agents")["data"]
    assert "EXECUTION_RETENTION_DAYS" in GUIDE.read_text()
