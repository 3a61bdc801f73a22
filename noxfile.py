"""What is checked, and against which Rasa: `nox -s lint types demo tests docker`."""

import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv"
# Rasa takes gigabytes, so its environments are kept and brought up to date.
nox.options.reuse_venv = "yes"
nox.options.error_on_external_run = True
nox.options.error_on_missing_interpreters = True

# The installed wheel is what runs, never a source folder of the caller's.
os.environ.pop("PYTHONPATH", None)
# From bytecode Rasa starts in a third of the time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# The one place that says which Rasa is tested on which Python; .python-version has to
# name each of these. Of Rasa Pro, the oldest and the newest that it allows.
PYTHON, RASA, PRO = "3.10", "rasa==3.6.21", "rasa-pro==3.21.0"
MATRIX = [
    nox.param(python, rasa, id=f"{rasa.replace('==', '-')}-python{python}")
    for rasa, pythons in {RASA: ("3.8", "3.9", PYTHON), PRO: ("3.11", "3.14")}.items()
    for python in pythons
]

# What is tested each time: the oldest and the newest. Each takes 8 to 11 minutes.
EXTREMES = [MATRIX[0], MATRIX[-1]]

# Processes that share the tests. Much of their time is spent waiting.
WORKERS = ("--numprocesses=2", "--dist=worksteal")

# Servers and conversations are those of the tests.
BENCHMARK = {"PYTHONPATH": "tests"}


@nox.session
def lint(session: nox.Session) -> None:
    session.install("--group", "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python=PYTHON)
def types(session: nox.Session) -> None:
    # Beside Rasa, so that what is taken from it is checked against its own types.
    session.install(RASA, "--group", "types")
    session.run("mypy")


@nox.session(python=PYTHON)
def demo(session: nox.Session) -> None:
    """Shows a conversation that outlives the server it began on."""
    session.install(RASA, ".", "--group", "servers")
    # On Ctrl-C the demo stops its server, which Nox's own 0.3 s leave no time for.
    session.run("python", "tests/demo.py", interrupt_timeout=10)


@nox.session
@nox.parametrize("python,rasa", EXTREMES)
def tests(session: nox.Session, rasa: str) -> None:
    """Tests on the oldest Rasa and Python and on the newest."""
    _tests(session, rasa)


@nox.session(default=False)
@nox.parametrize("python,rasa", MATRIX)
def matrix(session: nox.Session, rasa: str) -> None:
    """Tests on every Rasa and Python; takes 50 minutes."""
    _tests(session, rasa)


def _tests(session: nox.Session, rasa: str) -> None:
    session.install(rasa, ".", "--group", "tests")
    # `pytest`, not `python -m pytest`, which would put the sources on sys.path.
    session.run(
        "pytest",
        # Each would have containers of its own, and Oracle's alone takes 2 GB.
        *(() if "--docker" in session.posargs else WORKERS),
        *session.posargs,
        # What SQLAlchemy 2.0 drops warns on 1.4, and our own warnings are failures.
        env={"SQLALCHEMY_WARN_20": "1"},
        interrupt_timeout=30,
    )


# Of the environment in which Rasa Pro is measured beside it.
PRO_PYTHON = "3.11"


@nox.session(python=PYTHON, default=False)
def bench(session: nox.Session) -> None:
    """Measures all stores; writes benchmarks/ and its part of the README."""
    session.install(RASA, ".", "--group", "bench")
    pro = Path(session.virtualenv.location, "rasa-pro")
    python = pro / session.virtualenv.bin_paths[0].rpartition(os.sep)[2] / "python"
    session.run("uv", "venv", "--allow-existing", "--python", PRO_PYTHON, str(pro))
    session.run("uv", "pip", "install", "--python", str(python), PRO, ".")
    measured = ["benchmarks/run.py", "--pro", str(python), *session.posargs]
    session.run("python", *measured, env=BENCHMARK, interrupt_timeout=30)
    session.run("python", "benchmarks/report.py", "--only", "benchmark")


@nox.session(name="bench-check", python=PYTHON, default=False)
def bench_check(session: nox.Session) -> None:
    """Fails if a turn is slow beside Rasa's own stores, or grows with age."""
    session.install(RASA, ".", "--group", "bench")
    # The README has the figures of the data files.
    session.run("python", "benchmarks/report.py", "--check", silent=True)
    checked = ["benchmarks/ratios.py", *session.posargs]
    session.run("python", *checked, env=BENCHMARK, interrupt_timeout=30)


@nox.session(python=PYTHON, default=False)
def torture(session: nox.Session) -> None:
    """Lets all go wrong at once and counts what survives; takes seconds and a seed."""
    session.install(RASA, ".", "--group", "bench")
    tortured = ["benchmarks/torture.py", *session.posargs]
    session.run("python", *tortured, env=BENCHMARK, interrupt_timeout=30)
    session.run("python", "benchmarks/report.py", "--only", "torture")


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
    session.install(RASA, ".", "--group", "docker")
    missing = [tool for tool in DOCKER_TOOLS if not shutil.which(tool)]
    if missing:
        packages = " ".join(DOCKER_TOOLS[tool] for tool in missing).split()
        if not shutil.which("apt-get") or os.geteuid():
            session.error(f"This needs Debian 12 and root, to install: {packages}")
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        install = ("apt-get", "install", "--yes", "--no-install-recommends")
        session.run("apt-get", "update", "-qq", external=True)
        session.run(*install, "-qq", *packages, env=environment, external=True)
    session.run(
        # The first test's limit in seconds is the base image's too.
        *(
            "pytest",
            "docker/tests",
            "--timeout=800",
            "--session-timeout=900",
            "--durations=10",
        ),
        *session.posargs,
        env={"RASA": RASA, "RASA_PRO": PRO},
        interrupt_timeout=60,
    )
