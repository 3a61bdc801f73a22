"""The Dockerfiles, compose files and endpoints files, as far as they can be read."""

import re
from pathlib import Path
from typing import Any, Dict, List

import pytest
import yaml

from engine import CHECKOUT, compose_services, run

DOCKER = CHECKOUT / "docker"
PROFILES = ["postgres", "redis", "redis-cluster", "mongo", "oracle"]
VARIANTS = ["mounted", "baked"]


@pytest.fixture(params=PROFILES)
def profile(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def dockerfiles() -> List[Path]:
    return [DOCKER / "Dockerfile", DOCKER / "oracle" / "Dockerfile"]


@pytest.mark.parametrize("dockerfile", dockerfiles(), ids=lambda path: path.parent.name)
def test_hadolint_has_nothing_to_say(dockerfile: Path) -> None:
    assert run("hadolint", dockerfile) == ""


@pytest.mark.parametrize("dockerfile", dockerfiles(), ids=lambda path: path.parent.name)
def test_the_last_user_is_rasas(dockerfile: Path) -> None:
    users = re.findall(r"^USER (\S+)$", dockerfile.read_text("utf-8"), re.MULTILINE)
    assert users[-1] == "1001"


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


@pytest.mark.parametrize("profile", PROFILES[:-1], indirect=True)
def test_the_mounted_variant_is_a_stock_image(profile: str) -> None:
    service = compose_services(profile, RASA_VARIANT="mounted")[f"rasa-{profile}"]
    assert service["image"] == "rasa/rasa:3.6.21-full"
    assert "build" not in service
    assert f"{CHECKOUT}/rasa_trackers:/app/rasa_trackers:ro" in service["volumes"]


def test_the_baked_variant_holds_the_package_itself(profile: str) -> None:
    service = compose_services(profile, RASA_VARIANT="baked")[f"rasa-{profile}"]
    assert service["build"]["context"] == str(CHECKOUT)
    assert not [path for path in service["volumes"] if "rasa_trackers:" in path]


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
    assert "change4me" not in str(services)
    assert "secret1" in str(services[profile]["environment"])
    endpoints = (DOCKER / "endpoints" / f"{profile}.yml").read_text("utf-8")
    assert "password: ${DB_PASSWORD}" in endpoints
