"""A hook of MkDocs: links to files of the repository, which are no pages.

In a page they are relative, so that they work where the page is read as a file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

CHECKOUT = Path(__file__).parents[2]
_LINK = re.compile(r"\]\((\.\./|examples/)([^)#\s]*)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Let them lead to the files on the forge."""

    def on_the_forge(link: re.Match[str]) -> str:
        path = link[2] if link[1] == "../" else f"docs/{link[1]}{link[2]}"
        if not (CHECKOUT / path).exists():
            raise PluginError(
                f"{page.file.src_uri} links to {path}, which is not there"
            )
        kind = "tree" if (CHECKOUT / path).is_dir() else "blob"
        return f"]({config['repo_url']}/{kind}/main/{path}"

    return _LINK.sub(on_the_forge, markdown)
