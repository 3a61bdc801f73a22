"""Real servers for the tests, started from wheels: no root and no Docker needed.

Each module has one server, a context manager with the same methods: `start`, `stop`,
`kill` (a crash), `restart`, `suspend` and `resume` (a hang), `remove`. `servers.proxy`
breaks the connection between a store and its server.
"""
