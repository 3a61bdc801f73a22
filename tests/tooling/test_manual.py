"""What the manual and the README say holds: options, endpoints, commands, figures.

``PYTHONPATH=. python docs/mkdocs/option_tables.py`` writes the tables of options anew, and
``python benchmarks/report.py`` the figures.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
import trustme
from rasa.utils.endpoints import read_endpoint_config

import rasa_trackers
from rasa_api import InMemoryTrackerStore, SQLTrackerStore, TrackerStore, unwrapped
from rasa_trackers.backend import backend_of
from rasa_trackers.rasa_versions import ConnectionException
from rasa_trackers.store_options import COMMON

CHECKOUT = Path(__file__).parents[2]
README = CHECKOUT / "README.md"
PAGES = [README, *sorted((CHECKOUT / "docs").glob("*.md"))]
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in PAGES}


def program(path: str) -> Any:
    """One that stands in no package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, CHECKOUT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


option_tables = program("docs/mkdocs/option_tables.py")
report = program("benchmarks/report.py")

# Options


@pytest.mark.parametrize("store", rasa_trackers.__all__)
def test_the_page_of_a_store_has_each_of_its_options(store: str) -> None:
    page = TEXTS[option_tables.STORES[store]]
    for option in (*backend_of(store).options, *COMMON):
        assert re.search(rf"^\| `{option.name}` \| .* \| .+ \|$", page, re.MULTILINE)
        assert option.meaning.endswith("."), option.name
        assert "|" not in option.meaning, option.name


def test_the_tables_are_those_of_the_code() -> None:
    assert option_tables.stale() == []


# endpoints.yml


def endpoints() -> Iterator[Tuple[str, str]]:
    for name, text in TEXTS.items():
        blocks = re.findall(
            r"^( *)```yaml\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE
        )
        for indent, block in blocks:
            if "tracker_store:" in block:
                yield name, re.sub(rf"^{indent}", "", block, flags=re.MULTILINE)


ENDPOINTS = list(endpoints())


def test_each_page_of_a_store_has_endpoints() -> None:
    pages = {name for name, _ in ENDPOINTS}
    assert {*option_tables.STORES.values(), "README.md"} <= pages


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def closed_port(unused_tcp_port: int) -> int:
    return unused_tcp_port


@pytest.mark.parametrize(
    ("page", "text"), ENDPOINTS, ids=[page for page, _ in ENDPOINTS]
)
def test_rasa_loads_the_endpoints(
    load: Any,
    page: str,
    text: str,
    authority: Path,
    closed_port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As far as that goes without a server: nothing else is wrong."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DB_PASSWORD", "secret1")
    monkeypatch.setenv("REDIS_PASSWORD", "secret1")
    monkeypatch.syspath_prepend(str(CHECKOUT / "docs" / "examples"))
    text = re.sub(r"/etc/ssl/[\w-]+\.pem", str(authority), text)
    text = re.sub(r"/(app|var/lib)/", f"{tmp_path}/", text)
    # All servers are away.
    text = re.sub(
        r"(url: |- )(\w+://)?[\w.-]+(:\d+)?(?=[/\s])",
        rf"\g<1>\g<2>127.0.0.1:{closed_port}",
        text,
    )
    text = re.sub(r"\bport: \d+", f"port: {closed_port}", text)
    (tmp_path / "spool").mkdir()
    file = tmp_path / "endpoints.yml"
    file.write_text(text, encoding="utf-8")
    config = read_endpoint_config(str(file), "tracker_store")
    assert config is not None
    endpoint: Dict[str, Any] = {**config.kwargs, "type": config.type}
    if config.url is not None:
        endpoint["url"] = config.url
    if "Memory" not in config.type:
        endpoint.update(timeout=2, startup_timeout=0.5)
    if "Oracle" in config.type or endpoint.get("dialect") == "oracle":
        # cx_Oracle needs Oracle's client.
        endpoint["dialect"] = "oracle+oracledb"
    # A store that has no server, and one with a spool in a file, are loaded.
    without_server = ("sqlite", "InMemory", "JsonLines", "spool: /")
    if any(word in text for word in without_server):
        load(endpoint)
        return
    with pytest.raises(ConnectionException):
        load(endpoint)


@pytest.mark.parametrize(
    "mistake",
    [
        "tracker_store: {type: rasa_tracker.SQLTrackerStore, db: rasa.db}",
        "tracker_store: {typ: rasa_trackers.SQLTrackerStore, db: rasa.db}",
        "tracker_stor: {type: rasa_trackers.SQLTrackerStore, db: rasa.db}",
    ],
)
@pytest.mark.filterwarnings("ignore:Tracker store with type")
def test_what_this_package_never_sees_is_answered_by_rasa_in_memory(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pages say so, beside the promise that a mistake is an error."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "endpoints.yml"
    file.write_text(mistake, encoding="utf-8")
    store: Any = TrackerStore.create(read_endpoint_config(str(file), "tracker_store"))
    assert type(unwrapped(store)) is InMemoryTrackerStore


def test_the_older_name_of_type_goes_before_it(tmp_path: Path) -> None:
    file = tmp_path / "endpoints.yml"
    store = {"store_type": "SQL", "type": "rasa_trackers.SQLTrackerStore"}
    section = {**store, "db": str(tmp_path / "rasa.db")}
    file.write_text(json.dumps({"tracker_store": section}), encoding="utf-8")
    own: Any = TrackerStore.create(read_endpoint_config(str(file), "tracker_store"))
    own = unwrapped(own)
    assert type(own) is SQLTrackerStore
    own.engine.dispose()


# Commands


def commands() -> Iterator[Tuple[str, str]]:
    """The commands of the command line in the pages."""
    for name, text in TEXTS.items():
        for line in re.findall(r"rasa-trackers ([a-z][^]`\n|#]*)", text):
            yield name, line


def test_the_command_line_knows_each_command_and_option() -> None:
    from rasa_trackers.cli.main import cli

    context: Any = None
    known: Dict[str, List[str]] = {}
    for name in cli.list_commands(context):
        command: Any = cli.get_command(context, name)
        parts = [command, *getattr(command, "commands", {}).values()]
        known[name] = [
            option for part in parts for each in part.params for option in each.opts
        ]
    found = list(commands())
    assert len(found) > 40
    for page, line in found:
        name, *words = line.split()
        assert name in known, (page, line)
        for option in (word for word in words if word.startswith("-")):
            assert option in known[name] or option == "-", (page, line)


def test_the_command_line_has_a_row_for_each_command() -> None:
    from rasa_trackers.cli.main import cli

    context: Any = None
    for page in ("README.md", "operations.md"):
        rows = "".join(
            line
            for line in TEXTS[page].splitlines()
            if line.startswith("| `rasa-trackers")
        )
        for name in cli.list_commands(context):
            assert re.search(rf"`(rasa-trackers )?{name}\b", rows), (page, name)


def test_nox_has_each_session() -> None:
    noxfile = (CHECKOUT / "noxfile.py").read_text(encoding="utf-8")
    known = set(re.findall(r"^def (\w+)\(session", noxfile, re.MULTILINE))
    known |= set(re.findall(r"@nox\.session\(name=\"([\w-]+)\"", noxfile))
    found = {
        (page, name)
        for page, text in TEXTS.items()
        for name in re.findall(r"nox -s ([\w-]+)", text)
    }
    assert {name for _, name in found} <= known


# Errors

#: What others say: PostgreSQL, Redis and Rasa.
OF_OTHERS = (
    "password authentication failed",
    'database "x" does not exist',
    "WRONGPASS",
    "NOAUTH",
    "NOPERM",
    "permission denied",
    "Tracker store with type '...' not found. Using InMemoryTrackerStore instead",
)


def texts_of_the_package() -> str:
    """All that its functions may say, with `_` for what is filled in."""
    said = []
    for path in (CHECKOUT / "rasa_trackers").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.append(node.value)
            if isinstance(node, ast.JoinedStr):
                parts = [getattr(part, "value", "_") for part in node.values]
                said.append(
                    "".join(part if isinstance(part, str) else "_" for part in parts)
                )
    return "\n".join(said)


def test_errors_that_the_page_explains_are_those_of_the_code() -> None:
    said = texts_of_the_package()
    rows = re.findall(r"^\| (`.*?) \|", TEXTS["troubleshooting.md"], re.MULTILINE)
    errors = [each for row in rows for each in re.findall("`([^`]+)`", row)]
    assert len(errors) > 10
    for error in errors:
        if error not in OF_OTHERS:
            # Without what is filled in.
            for part in re.split(r"'\w*'|[0-9]+|\bX\b", error):
                assert part.strip(" ()?") in said, error


# Figures


@pytest.mark.parametrize("mark", list(report.PAGES))
def test_the_figures_are_those_of_the_data_files(mark: str) -> None:
    makers = {
        "benchmark": (report.RESULTS, lambda data: report.section(report.Report(data))),
        "speed": (
            report.RESULTS,
            lambda data: report.speed_section(report.Report(data)),
        ),
        "torture": (report.TORTURE, report.torture_section),
        "outage": (report.OUTAGE, report.outage_section),
    }
    path, make = makers[mark]
    text = make(json.loads(path.read_text(encoding="utf-8")))
    page = (CHECKOUT / report.PAGES[mark]).read_text(encoding="utf-8")
    assert f"<!-- {mark} -->\n\n{text}\n\n<!-- /{mark} -->" in page


# The README


def test_the_readme_is_short() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 150


def test_the_readme_has_the_two_commands_each_alone_on_its_line() -> None:
    lines = TEXTS["README.md"].splitlines()
    for session in ("demo", "tests"):
        assert len([line for line in lines if line.endswith(f" nox -s {session}")]) == 1


@pytest.mark.parametrize(
    "path",
    ["README.md", "CHANGELOG.md", ".github/CONTRIBUTING.md", ".github/SECURITY.md"],
)
def test_links_lead_to_files_that_are_there(path: str) -> None:
    """MkDocs looks at those of the manual."""
    file = CHECKOUT / path
    for link in re.findall(r"\]\(([^)]+)\)", file.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        target, _, anchor = link.partition("#")
        found = file.parent / target if target else file
        assert found.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text("utf-8"), re.MULTILINE)
            assert anchor in {_anchor(each) for each in headings}, link


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
