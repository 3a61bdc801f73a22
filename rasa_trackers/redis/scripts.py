"""The Lua scripts that run in the server, each as one atomic step."""

from __future__ import annotations

import hashlib
import pkgutil


class Script:
    """A script that the server knows by its SHA-1."""

    def __init__(
        self, name: str, *, common: str = "", second_key_optional: bool = False
    ) -> None:
        """Read a script.

        Args:
            name: Its file in ``lua/``, without the ending.
            common: The file that goes before it.
            second_key_optional: Whether the script works without ``KEYS[2]``.
        """
        files = [common, name] if common else [name]
        self.text = b"\n".join(
            pkgutil.get_data(__package__, f"lua/{file}.lua") or b"" for file in files
        )
        self.sha1 = sha1_of(self.text)
        self.second_key_optional = second_key_optional

    @classmethod
    def of_text(cls, text: bytes) -> Script:
        """A script that stands in no file."""
        script = cls.__new__(cls)
        script.text, script.sha1 = text, sha1_of(text)
        script.second_key_optional = False
        return script


def sha1_of(text: bytes) -> str:
    """The name that Redis gives to a text."""
    return hashlib.sha1(text).hexdigest()  # noqa: S324 - chosen by Redis


READ_BACK = Script("read_back", common="common", second_key_optional=True)
WRITE = Script("write", common="common", second_key_optional=True)
DELETE = Script("delete", common="common")
MIGRATE_LEGACY = Script("migrate_legacy", common="common")
FIND_RASA_1 = Script("find_rasa_1")
INDEX_ADD = Script("index_add", common="index_common", second_key_optional=True)
INDEX_LOOK_UP = Script("index_look_up", common="index_common", second_key_optional=True)
INDEX_REMOVE = Script("index_remove", common="index_common")
