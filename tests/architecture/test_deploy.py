"""What lies in `deploy/`: valid by its own schemas, with settings, commands, metrics and files that there are."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from prefect_intelligent.cli.parsing import application
from prefect_intelligent.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
PREFIX = "PREFECT_INTELLIGENT_"
OTHERS = ("CONFIG", "SCALE_TOKEN")
OF_PREFECT_REDIS = "PREFECT_REDIS_MESSAGING_"
RUNBOOKS = re.compile(r"docs/how-to/\S+\.md")


def kubernetes():
    return [
        pytest.param(resource, id=f"{path.name}-{resource['kind']}")
        for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
        for resource in yaml.safe_load_all(path.read_text())
    ]


def containers():
    found = {name: (service.get("command"), service.get("environment", {})) for name, service in services().items()}
    for parameter in kubernetes():
        [resource] = parameter.values
        if resource["kind"] == "Deployment":
            for container in resource["spec"]["template"]["spec"]["containers"]:
                found[container["name"]] = container["args"], {item["name"]: item for item in container["env"]}
    image = (DEPLOY / "Dockerfile").read_text()
    found["image"] = (
        yaml.safe_load(re.search(r"^CMD (.+)$", image, re.MULTILINE)[1]),
        dict.fromkeys(re.findall(r"(\w+)=\S+ ?\\?$", image.partition("ENV ")[2].partition("VOLUME")[0], re.MULTILINE)),
    )
    return found


def services():
    return COMPOSE["services"]


@pytest.mark.parametrize("name", containers())
def test_every_setting_that_is_given_exists(name):
    from prefect.settings import get_current_settings

    known = get_current_settings().to_environment_variables(exclude_unset=False)
    for variable in containers()[name][1]:
        if variable.startswith(PREFIX):
            field = variable.removeprefix(PREFIX)
            assert field.lower() in Settings.model_fields or field in OTHERS, variable
        elif variable.startswith("PREFECT_") and not variable.startswith(OF_PREFECT_REDIS):
            assert variable in known or variable in ("PREFECT_HOME", "PREFECT_API_KEY", "PREFECT_API_URL"), variable


@pytest.mark.parametrize("name", [name for name, (words, _) in containers().items() if words])
def test_every_command_can_be_parsed(name):
    program, *words = containers()[name][0]
    if program == "prefect-intelligent":
        application().parse_args(words, print_error=False, exit_on_error=False)
    elif program == "prefect":
        from prefect.cli._app import _app

        _app.parse_args(words, print_error=False, exit_on_error=False)
    else:
        assert program in ("redis-server", "mlflow")


def test_services_wait_for_services_that_can_tell_how_they_are():
    for name, service in services().items():
        needed = service.get("depends_on", {})
        for other in needed:
            assert other in services(), (name, other)
            if isinstance(needed, dict) and needed[other]["condition"] == "service_healthy":
                assert "healthcheck" in services()[other], (name, other)
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (DEPLOY / source).exists(), (name, volume)


def test_no_password_is_written_down():
    text = (DEPLOY / "compose.yaml").read_text()
    assert [line for line in text.splitlines() if "PASSWORD:" in line and "${" not in line] == []


@pytest.mark.skipif(shutil.which("docker") is None, reason="docker is not installed")
def test_compose_finds_nothing_wrong():
    command = ["docker", "compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("docker has no compose here")
    env = {"PATH": "/usr/bin:/bin:/usr/local/bin", "POSTGRES_PASSWORD": "x", "GRAFANA_PASSWORD": "x"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("resource", kubernetes())
def test_kubernetes_would_take_it(resource):
    validate = pytest.importorskip("kubernetes_validate", reason="is in the group dev")
    if resource["apiVersion"].startswith("keda.sh/"):
        assert set(resource["spec"]) >= {"scaleTargetRef", "triggers", "minReplicaCount", "maxReplicaCount"}
        return
    validate.validate(resource, desired_version="1.33", strict=True)


def test_a_mistake_would_be_found():
    validate = pytest.importorskip("kubernetes_validate", reason="is in the group dev")
    [resource] = next(p for p in kubernetes() if p.values[0]["kind"] == "Deployment").values
    resource["spec"]["replica"] = 2
    with pytest.raises(validate.ValidationError):
        validate.validate(resource, desired_version="1.33", strict=True)


def test_the_controller_has_no_rights_in_the_cluster():
    kinds = {parameter.values[0]["kind"] for parameter in kubernetes()}
    assert kinds.isdisjoint({"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"})
    [account] = [p.values[0] for p in kubernetes() if p.values[0]["kind"] == "ServiceAccount"]
    assert account["automountServiceAccountToken"] is False


def test_every_metric_that_is_asked_for_exists():
    pytest.importorskip("prometheus_client", reason="needs the extra tracking")
    from prometheus_client import generate_latest

    from prefect_intelligent.steering.adapters.prometheus import ControllerMetrics

    known = set(re.findall(r"^# TYPE (\S+) ", generate_latest(ControllerMetrics().registry).decode(), re.MULTILINE))
    for path in (DEPLOY / "prometheus" / "alerts.yml", *(DEPLOY / "kubernetes").glob("*.yaml")):
        asked = set(re.findall(r"\bprefect_intelligent_[a-z_]+", path.read_text()))
        assert asked <= known, path.name


def test_alerts_have_a_page_that_says_what_to_do():
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
    for rule in rules:
        assert (ROOT / rule["annotations"]["runbook"]).is_file(), rule["alert"]


def test_the_image_is_built_of_files_that_there_are():
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    for line in (DEPLOY / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in ignored, source
