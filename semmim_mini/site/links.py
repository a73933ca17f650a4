"""From links as they are in the repository to links of the site.

The site has the repository's folders, so that a page is as far from another as the files are:

    notebooks/05_text_guided_masking.ipynb     notebooks/05_text_guided_masking.md
    semmim_mini/objectives/masking.py          semmim_mini/objectives/masking.md
    semmim_mini/tasks/                         semmim_mini/tasks/index.md
    docs/fidelity.md, environment.yml          the same

Two things become links that are none in the repository: a path that stands as code in a text, and each of the names that a link's
text promises (`[file.py: one, other](path/file.py)`).
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from semmim_mini.site.notebooks import anchor_of
from semmim_mini.site.prose import FENCED, outside

LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:\[[^\]]*\]|[^\[\]])*)\]\((?P<target>[^)\s]+)\)|(?<!`)`(?P<code>[^`\n]+)`(?!`)")
PATH = re.compile(r"(?:\.\./)*[\w.-]+(?:/[\w.-]+)*(?:\.(?:py|md|ipynb)|/)")
ELSEWHERE = re.compile(r"[a-z]+:")


def page_of(root: Path, path: str) -> str:
    """Where on the site a file or folder of the repository is."""
    if (root / path).is_dir() or path.endswith("/__init__.py"):
        return posixpath.join(path.removesuffix("/__init__.py").rstrip("/"), "index.md")
    return re.sub(r"\.(py|ipynb)$", ".md", path)


def repository_links(text: str, home: str) -> Iterator[str]:
    """The files and folders that a page links to, as paths of the repository; `home` is the page's folder."""
    for found in LINK.finditer(FENCED.sub("", text)):
        if found["target"] and not re.match(r"[a-z]+:|#", found["target"]):
            yield posixpath.normpath(posixpath.join(home, found["target"].partition("#")[0]))


class Linker:
    """Rewrites the links of pages.

    Args:
        root: the repository.
        pages: every page that will be on the site.
        anchor: the anchor of a name in a module, both as they are in the repository.
    """

    def __init__(self, root: Path, pages: set[str], anchor: Callable[[str, str], str]):
        self.root, self.pages, self.anchor = root, pages, anchor

    def rewrite(self, text: str, page: str) -> str:
        """The text of `page`, a path of the repository, with links of the site."""
        return outside(FENCED, text, lambda part: LINK.sub(lambda found: self._one(found, page), part))

    def to(self, page: str, path: str) -> str:
        """From a page to a file or folder of the repository, on the site."""
        return posixpath.relpath(page_of(self.root, path), posixpath.dirname(page) or ".")

    def _one(self, found: re.Match, page: str) -> str:
        home = posixpath.dirname(page)
        if found["code"]:
            return self._path(found, home)
        if ELSEWHERE.match(found["target"]):
            return found[0]
        file, _, anchor = found["target"].partition("#")
        path = posixpath.normpath(posixpath.join(home, file)) if file else page
        url = self.to(page, path) if file else ""
        if path.endswith(".ipynb"):
            anchor = anchor_of(anchor.replace("-", " "))  # Jupyter's keeps capitals and signs
        shown, colon, names = found["text"].partition(": ")
        if colon and file.endswith(".py"):
            return f"[{shown}]({url}): " + ", ".join(f"[{name}]({url}#{self.anchor(path, name)})" for name in names.split(", "))
        return f"{found['image']}[{found['text']}]({url}{'#' + anchor if anchor else ''})"

    def _path(self, found: re.Match, home: str) -> str:
        """A path in code as a link, if there is a page about it: from the page's folder, the library's or the repository's."""
        if PATH.fullmatch(found["code"]):
            for base in (home, "semmim_mini", "."):
                page = page_of(self.root, posixpath.normpath(posixpath.join(base, found["code"])))
                if page in self.pages:
                    return f"[{found[0]}]({posixpath.relpath(page, home or '.')})"
        return found[0]
