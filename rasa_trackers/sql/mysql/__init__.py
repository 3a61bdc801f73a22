"""MySQL, and MariaDB, which speaks its language."""
