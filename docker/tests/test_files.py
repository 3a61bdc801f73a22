"""The Dockerfiles, compose files and endpoints files, as far as they can be read."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest
import yaml

from engine import CHECKOUT, SECRETS, compose_services, recipes, run

DOCKER = CHECKOUT / "docker"
#: Whose drivers stock images have, and the others.
STOCK = ["postgres", "redis", "redis-cluster", "mongo"]
PROFILES = [*STOCK, "mariadb", "oracle"]
VARIANTS = ["mounted", "baked"]
SUITE_SERVICES = ["postgres", "mariadb", "redis", "valkey", "mongo", "oracle"]


@pytest.fixture(params=PROFILES)
def profile(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


RASA_IMAGE = "rasa/rasa:3.6.21-full"


def dockerfiles() -> List[Path]:
    return [
        DOCKER / "Dockerfile",
        DOCKER / "mysql" / "Dockerfile",
        DOCKER / "oracle" / "Dockerfile",
    ]


@pytest.mark.parametrize("dockerfile", dockerfiles(), ids=lambda path: path.parent.name)
def test_hadolint_has_nothing_to_say(dockerfile: Path) -> None:
    assert run("hadolint", dockerfile) == ""


@pytest.mark.parametrize("dockerfile", dockerfiles(), ids=lambda path: path.parent.name)
def test_the_last_user_is_rasas(dockerfile: Path) -> None:
    users = re.findall(r"^USER (\S+)$", dockerfile.read_text("utf-8"), re.MULTILINE)
    assert users[-1] == "1001"


@pytest.mark.parametrize("variant", VARIANTS)
def test_compose_has_nothing_to_say(
    profile: str, variant: str, compose_2: Dict[str, str]
) -> None:
    """Of either version: Debian's 1.29, and what `docker compose` is today."""
    folder = DOCKER / "docker-compose.yml", DOCKER / ".env.example"
    options = ("--file", folder[0], "--env-file", folder[1], "--profile", profile)
    for command in (["docker-compose"], ["docker", "compose"]):
        environment = {**os.environ, **compose_2, **SECRETS, "RASA_VARIANT": variant}
        done = subprocess.run(
            [*command, *options, "config", "-q"],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            env=environment,
        )
        assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("variant", VARIANTS)
def test_rasa_waits_for_its_store_and_its_model(profile: str, variant: str) -> None:
    services = compose_services(profile, RASA_VARIANT=variant)
    waited_for = services[f"rasa-{profile}"]["depends_on"]
    assert waited_for[profile] == {"condition": "service_healthy"}
    assert {"condition": "service_completed_successfully"} in waited_for.values()


def test_every_service_has_a_health_check(profile: str) -> None:
    for name, service in compose_services(profile).items():
        assert service["healthcheck"]["test"], name


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_tag_is_pinned(profile: str, variant: str) -> None:
    for service in compose_services(profile, RASA_VARIANT=variant).values():
        assert re.search(r":\d+\.\d+[.\w-]*$", service["image"]), service["image"]


@pytest.mark.parametrize("profile", STOCK, indirect=True)
def test_the_mounted_variant_is_a_stock_image(profile: str) -> None:
    service = compose_services(profile, RASA_VARIANT="mounted")[f"rasa-{profile}"]
    assert service["image"] == RASA_IMAGE
    assert "build" not in service
    assert f"{CHECKOUT}/rasa_trackers:/app/rasa_trackers:ro" in service["volumes"]


def test_the_baked_variant_holds_the_package_itself(profile: str) -> None:
    service = compose_services(profile, RASA_VARIANT="baked")[f"rasa-{profile}"]
    assert service["build"]["context"] == str(CHECKOUT)
    assert not [path for path in service["volumes"] if "rasa_trackers:" in path]


def test_an_image_of_rasa_pro_gets_its_licence_and_a_name_of_its_own() -> None:
    pro = {"RASA_IMAGE": "rasa-pro:3.21.0", "RASA_LICENSE": "x", "BAKED_TAG": "pro"}
    for variant, image in (
        ("mounted", "rasa-pro:3.21.0"),
        ("baked", "rasa_trackers:pro"),
    ):
        services = compose_services("postgres", RASA_VARIANT=variant, **pro)
        for name in ("train", "rasa-postgres"):
            assert services[name]["image"] == image
            assert services[name]["environment"]["RASA_LICENSE"] == "x"
    oracle = compose_services("oracle", **pro)["rasa-oracle"]
    assert oracle["image"] == "rasa_trackers:pro-oracle"
    assert oracle["build"]["args"]["RASA_IMAGE"] == "rasa-pro:3.21.0"


def test_the_endpoints_file_names_the_service(profile: str) -> None:
    path = DOCKER / "endpoints" / f"{profile}.yml"
    services = compose_services(profile)
    assert f"{path}:/app/endpoints.yml:ro" in services[f"rasa-{profile}"]["volumes"]
    store: Dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))["tracker_store"]
    urls = [store["url"]] if "url" in store else store["endpoints"]
    for url in urls:
        assert re.search(rf"(^|//){profile}(:\d+)?$", url), url


def test_credentials_come_from_outside(profile: str) -> None:
    services = compose_services(profile, DB_USERNAME="somebody", DB_PASSWORD="secret1")
    assert "secret1" in str(services[profile]["environment"])
    endpoints = (DOCKER / "endpoints" / f"{profile}.yml").read_text("utf-8")
    assert "password: ${DB_PASSWORD}" in endpoints


@pytest.mark.parametrize("missing", SECRETS)
def test_nothing_starts_without_its_secrets(missing: str) -> None:
    """Nor has .env.example any that would start."""
    with pytest.raises(RuntimeError) as failed:
        compose_services("postgres", **{missing: ""})
    assert missing in str(failed.value)
    example = (DOCKER / ".env.example").read_text("utf-8").splitlines()
    assert [f"{name}=" for name in SECRETS] == [
        line for line in example if re.match(r"[A-Z_]*(PASSWORD|SECRET)", line)
    ]


def test_every_port_is_for_this_machine_alone() -> None:
    files = [DOCKER / "docker-compose.yml", *(CHECKOUT / "docs").glob("*.md")]
    text = "".join(path.read_text("utf-8") for path in files)
    ports = re.findall(r"ports:.*\[(.*)\]", text)
    # The compose file's, and those of three recipes and of mongo-express.
    assert len(ports) > 4
    assert all(port.startswith('"127.0.0.1:') for port in ports)


def test_each_has_a_secret_of_its_own(profile: str) -> None:
    services = compose_services(profile)
    rasa = services.pop(f"rasa-{profile}")
    shown = str(rasa)
    for name, secret in SECRETS.items():
        assert (secret in shown) == (name == "DB_PASSWORD")
    environment = services[profile]["environment"]
    secrets = [value for value in environment.values() if value in SECRETS.values()]
    assert len(secrets) == len(set(secrets))
    assert SECRETS["DB_PASSWORD"] in secrets


def test_rasas_user_of_mongodb_has_rights_on_one_database() -> None:
    services = compose_services("mongo")
    script = (DOCKER / "mongo-user.js").read_text("utf-8")
    assert 'roles: [{role: "readWrite", db: "rasa"}]' in script
    mounted = f"{DOCKER}/mongo-user.js:/docker-entrypoint-initdb.d/user.js:ro"
    assert mounted in services["mongo"]["volumes"]
    endpoints = (DOCKER / "endpoints" / "mongo.yml").read_text("utf-8")
    assert "auth_source: rasa" in endpoints
    # Nobody but the database itself has the password of its root.
    for name, service in services.items():
        assert (SECRETS["MONGO_ROOT_PASSWORD"] in str(service)) == (name == "mongo")


def built_in_the_manual() -> Dict[str, str]:
    """The tags that the manual builds, by Dockerfile."""
    page = (CHECKOUT / "docs" / "docker.md").read_text("utf-8")
    return dict(re.findall(r"^docker build -f (\S+) -t (\S+) \.$", page, re.MULTILINE))


def test_the_images_are_built_by_one_name_everywhere() -> None:
    baked = compose_services("postgres", RASA_VARIANT="baked")["rasa-postgres"]
    oracle = compose_services("oracle")["rasa-oracle"]
    assert built_in_the_manual() == {
        service["build"]["dockerfile"]: service["image"] for service in (baked, oracle)
    }
    for dockerfile, tag in built_in_the_manual().items():
        text = (CHECKOUT / dockerfile).read_text("utf-8")
        assert f"docker build -f {dockerfile} -t {tag} .\n" in text
        assert f"\nARG RASA_IMAGE={RASA_IMAGE}\n" in text


@pytest.mark.parametrize("number", range(3), ids=["mounted", "baked", "oracle"])
def test_the_manuals_recipe_is_complete(number: int, tmp_path: Path) -> None:
    compose, endpoints = recipes()[number]
    (tmp_path / "docker-compose.yml").write_text(compose, "utf-8")
    (tmp_path / ".env").write_text("DB_PASSWORD=secret1\n", "utf-8")
    text = run("docker-compose", "config", cwd=str(tmp_path))
    services = yaml.safe_load(text)["services"]
    rasa = services.pop("rasa")
    (name,) = services
    assert all(re.search(r":\d+\.\d+", services[name]["image"]) for name in services)
    assert rasa["image"] in [RASA_IMAGE, *built_in_the_manual().values()]
    assert rasa["depends_on"] == {name: {"condition": "service_healthy"}}
    assert services[name]["healthcheck"]["test"]

    # The store is as in the endpoints file for docker-compose.yml, but for the user.
    ours = (DOCKER / "endpoints" / f"{name}.yml").read_text("utf-8")
    assert endpoints == ours.replace("${DB_USERNAME}", "rasa")
    # And the image is that of docker-compose.yml.
    assert services[name]["image"] == compose_services(name)[name]["image"]


def test_the_suites_services_have_known_passwords_and_ports() -> None:
    ours = CHECKOUT / "tests" / "servers" / "docker-compose.yml"
    text = run(
        *("docker-compose", "--env-file", DOCKER / ".env.example"),
        *("--file", DOCKER / "docker-compose.yml", "--file", ours, "config"),
        env={**os.environ, **SECRETS},
    )
    services = yaml.safe_load(text)["services"]
    assert all(services[name]["ports"] for name in SUITE_SERVICES)


@pytest.mark.parametrize("tool", ["buildah", "mmdebstrap"])
def test_where_nothing_can_be_built_the_reason_is_given(
    tool: str, tmp_path: Path
) -> None:
    stub = tmp_path / tool
    stub.write_text("#!/bin/sh\necho no user namespaces here >&2; exit 125\n", "ascii")
    stub.chmod(0o755)
    with pytest.raises(RuntimeError) as failed:
        run(
            *(sys.executable, "-m", "pytest", "docker/tests/test_images.py"),
            *("-x", "-k", "holds_the_package_and_nothing"),
            cwd=str(CHECKOUT),
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        )
    assert "no user namespaces here" in str(failed.value)
    assert tool != "buildah" or "buildah cannot build images here" in str(failed.value)
