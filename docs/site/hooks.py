"""The site is of docs/ alone; what its pages link to elsewhere in the repository comes along, below repository/.

Called by MkDocs. With it every link of the site leads somewhere, and one that does not fails the build.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS, ELSEWHERE = "docs/", "repository/"
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")
"""The file of a link or picture, as Markdown has it."""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Take in what is linked to, and what those pages link to."""
    from mkdocs.structure.files import File

    waiting = [DOCS + file.src_uri for file in files if file.is_documentation_page()]
    seen = set(waiting)
    while waiting:
        source = waiting.pop()
        for target in LINK.findall((ROOT / source).read_text()):
            path = _from_root(source, target)
            if path in seen or path.startswith(DOCS) or not (ROOT / path).is_file():
                continue
            seen.add(path)
            files.append(File.generated(config, ELSEWHERE + path, abs_src_path=str(ROOT / path)))
            if path.endswith(".md"):
                waiting.append(path)
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Links from where the files lie in the repository become links from where they lie in the site."""
    place = page.file.src_uri
    source = place.removeprefix(ELSEWHERE) if place.startswith(ELSEWHERE) else DOCS + place

    def moved(link: re.Match[str]) -> str:
        path = _from_root(source, link[1])
        there = path.removeprefix(DOCS) if path.startswith(DOCS) else ELSEWHERE + path
        return posixpath.relpath(there, posixpath.dirname(place) or ".")

    return LINK.sub(moved, markdown)


def _from_root(source: str, target: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
