"""All pages of the site, as Markdown for MkDocs, from the files of the repository.

    README.md, docs/*.md                 as they are             `prose.py`, `links.py`
    notebooks/**/*.ipynb                 pages and pictures      `notebooks.py`
    semmim_mini/**/*.py, tests/**/*.py   annotated source        `annotate.py`, with what `references.py` knows
    semmim_mini/**/*.py                  api/*.md                signatures and docstrings, a page for each package
    every folder                         index.md                a list of its pages

Whatever is there is taken: a new notebook or module is on the site without being listed anywhere.
"""

import posixpath
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from semmim_mini.site import references
from semmim_mini.site.annotate import annotate, as_markdown
from semmim_mini.site.links import Linker, page_of, repository_links
from semmim_mini.site.notebooks import Section, anchor_of, read_notebook
from semmim_mini.site.prose import github, inline
from semmim_mini.site.references import Mention, part_anchor

LIBRARY, FIDELITY = "semmim_mini", "docs/fidelity.md"
# Two columns and wide tables need the whole window; tests are found from what they test.
WIDE = "---\nhide:\n  - navigation\n  - toc\n---\n\n"
UNSEARCHED = WIDE.replace("---\n", "---\nsearch:\n  exclude: true\n", 1)


@dataclass
class Site:
    """What is where on the site."""

    pages: dict[str, str]  # Markdown
    pictures: dict[str, bytes]
    files: set[str]  # of the repository, that pages show or link to without being pages


class Repository:
    """What becomes pages. All paths are relative to `root`, the top of a checkout."""

    def __init__(self, root: Path):
        self.root = root
        self.markdown = {path: self._text(path) for path in self._find("README.md", "docs/*.md", "data_samples/README.md")}
        notebooks = self._find("notebooks/*.ipynb", "notebooks/solutions/*.ipynb")
        self.notebooks = {path: read_notebook(self._text(path), Path(path).stem) for path in notebooks}
        self.modules = {path: annotate(self._text(path)) for path in self._find(f"{LIBRARY}/**/*.py")}
        self.sources = self.modules | {path: annotate(self._text(path)) for path in self._find("tests/**/*.py")}
        tests = [path for path in self.sources if posixpath.basename(path).startswith("test_")]
        self.references = references.collect(root, self.modules, tests, self.notebooks, self.markdown.get(FIDELITY, ""))
        own = {page_of(root, path) for path in (*self.markdown, *self.notebooks, *self.sources)}
        self.folders = {posixpath.dirname(path) for path in (*self.notebooks, *self.sources)}
        self.linker = Linker(root, own | {f"{folder}/index.md" for folder in self.folders}, self._anchor)

    def site(self) -> Site:
        """Every page."""
        texts = (
            self.markdown | {path: self._notebook(path) for path in self.notebooks} | {path: self._source(path) for path in self.sources}
        )
        linked = {target for path, text in texts.items() for target in repository_links(text, posixpath.dirname(path))}
        if FIDELITY in texts:
            texts[FIDELITY] = references.with_anchors(texts[FIDELITY])
        pages = {page_of(self.root, path): self._head(path) + github(self.linker.rewrite(text, path)) for path, text in texts.items()}
        for folder in self.folders:
            index = f"{folder}/index.md"
            pages[index] = "\n\n".join((pages.get(index, f"# {folder}"), self._list(folder)))
        pages |= {self.api_page(package): self._api(package) for package in self.packages()} | {"api/index.md": self._api_index()}
        pictures = {
            f"{posixpath.dirname(path)}/{name}": png for path, page in self.notebooks.items() for name, png in page.pictures.items()
        }
        return Site(pages, pictures, {path for path in linked if (self.root / path).is_file() and page_of(self.root, path) not in pages})

    @staticmethod
    def api_page(package: str) -> str:
        return f"api/{package.removeprefix(f'{LIBRARY}/')}.md"

    def packages(self) -> list[str]:
        """The folders of the library, the library itself first."""
        return sorted({posixpath.dirname(path) for path in self.modules})

    def modules_in(self, package: str) -> list[str]:
        """The modules of a package that hold code; of `__init__.py`, often, there is nothing but a docstring."""
        return [path for path, module in self.modules.items() if posixpath.dirname(path) == package and module.rows]

    def summary(self, path: str) -> str:
        """What a notebook, module or package is, in one sentence."""
        if path in self.notebooks:
            return self.notebooks[path].sections[0].title
        file = path if path in self.sources else f"{path}/__init__.py"
        return inline(self.sources[file].summary) if file in self.sources else ""

    # the pages, with links as in the repository ---------------------------------------------------------------------------

    def _notebook(self, path: str) -> str:
        return self.notebooks[path].as_markdown(lambda section: self._below(path, section))

    def _below(self, path: str, section: Section) -> str:
        """What of the library a section of a notebook uses; its exercises' checkers and pictures aside."""
        used = []
        for module, names in sorted(section.uses.items()):
            file = f"{module.replace('.', '/')}.py"
            shown = [name for name in sorted(names) if file in self.modules and self._anchor(file, name)]
            if shown and not file.startswith(f"{LIBRARY}/course/"):
                used.append(f"[{file.removeprefix(f'{LIBRARY}/')}: {', '.join(shown)}]({self._relative(path, file)})")
        return f'<div class="seen" markdown="1">\nSource: {"; ".join(used)}\n</div>' if used else ""

    def _source(self, path: str) -> str:
        module, of = self.sources[path], self.references[path]
        title = path.removeprefix(f"{LIBRARY}/").removesuffix("__init__.py") or LIBRARY
        tested = [file for file in self.modules if path in self.references[file].tests]
        lines = {
            "Tests": ", ".join(f"[{posixpath.basename(test)}]({self._relative(path, test)})" for test in of.tests),
            "Tests of": ", ".join(f"[{file.removeprefix(f'{LIBRARY}/')}]({self._relative(path, file)})" for file in tested),
            "Course": self._sections(path, of.mentions),
            "Fidelity": ", ".join(f"[{part}]({self._relative(path, FIDELITY)}#{part_anchor(part)})" for part in of.parts),
            "API": self._api_link(path),
        }
        seen = "\n".join(f"- {kind}: {links}" for kind, links in lines.items() if links)
        return "\n\n".join((
            f"# {title}", f"{inline(module.summary)}\n{{: .summary }}", f'<div class="seen" markdown="1">\n\n{seen}\n\n</div>',
            f'<div class="about" markdown="1">\n\n{module.about}\n\n</div>',
            as_markdown(module.rows, lambda name: self._beside(path, name)),
        ))  # fmt: skip

    def _beside(self, path: str, name: str) -> str:
        links = self._sections(path, [mention for mention in self.references[path].mentions if mention.name == name])
        return f'<div class="seen" markdown="1">\nCourse: {links}\n</div>' if links else ""

    def _sections(self, path: str, mentions: Iterable[Mention]) -> str:
        """Links to sections of notebooks, by notebook. Solutions give no explanations, and are left out."""
        places = dict.fromkeys((m.notebook, m.section) for m in mentions if "/solutions/" not in m.notebook)
        lines = []
        for notebook, found in groupby(sorted(places, key=lambda place: place[0]), key=lambda place: place[0]):
            url = self._relative(path, notebook)
            links = [f"[{section}]({url}#{anchor_of(section)})" for _, section in found if section != self.summary(notebook)]
            lines.append(f"[{self.summary(notebook)}]({url})" + (f" ({', '.join(links)})" if links else ""))
        return "; ".join(lines)

    def _api_link(self, path: str) -> str:
        if path not in self.modules or not self.modules[path].rows:
            return ""
        package = posixpath.dirname(path)
        return f"[{package.replace('/', '.')}]({self._relative(path, self.api_page(package))}#{self._stem(path)})"

    def _head(self, path: str) -> str:
        if path in self.sources:
            return WIDE if path in self.modules else UNSEARCHED
        return WIDE if path == FIDELITY else ""

    # pages that are nothing in the repository -----------------------------------------------------------------------------

    def _list(self, folder: str) -> str:
        """The pages of a folder and the folders in it, each in one sentence."""
        paths = [
            path for path in (*self.notebooks, *self.sources) if posixpath.dirname(path) == folder and not path.endswith("/__init__.py")
        ]
        inside = sorted(other for other in self.folders if posixpath.dirname(other) == folder)
        rows = (
            f"| [{posixpath.basename(path)}]({self.linker.to(f'{folder}/index.md', path)}) | {self.summary(path)} |"
            for path in (*inside, *paths)
        )
        return "\n".join(("| | |", "|---|---|", *rows))

    def _stem(self, path: str) -> str:
        return Path(path).stem.replace("__", "")  # which would be bold in Markdown

    def _api(self, package: str) -> str:
        """What others may call: signature, docstring, and the way to the source."""
        entries = [f"# {package.replace('/', '.')}", self.summary(package)]
        for path in self.modules_in(package):
            module, source = self.modules[path], self.linker.to(self.api_page(package), path)
            entries += [f"## [{posixpath.basename(path)}]({source}) {{: #{self._stem(path)} }}", self.summary(path)]
            for row in module.rows:
                if row.name and not re.search(r"(^|\.)_(?!_)", row.name):
                    code = "\n".join(textwrap.dedent("\n".join(row.code)).splitlines()[: row.header or None])
                    title = f"### [`{row.name}`]({source}#{row.anchor}) {{: #{self._stem(path)}.{row.anchor} }}"
                    entries += [title, f"~~~~~~python\n{code}\n~~~~~~", row.prose]
        return github("\n\n".join(entries))

    def _api_index(self) -> str:
        rows = (
            f"| [{package.replace('/', '.')}]({posixpath.basename(self.api_page(package))}) | {self.summary(package)} |"
            for package in self.packages()
        )
        return "\n".join(("# API", "", "| | |", "|---|---|", *rows))

    def _find(self, *patterns: str) -> list[str]:
        return [path.relative_to(self.root).as_posix() for pattern in patterns for path in sorted(self.root.glob(pattern))]

    def _text(self, path: str) -> str:
        return (self.root / path).read_text(encoding="utf-8")

    def _anchor(self, path: str, name: str) -> str:
        return self.sources[path].anchor(name) if path in self.sources else ""

    def _relative(self, path: str, other: str) -> str:
        return posixpath.relpath(other, posixpath.dirname(path) or ".")


def navigation(repository: Repository) -> list:
    """The site's contents, for `nav` of mkdocs.yml. Notebooks, modules and pages of docs/ come as they are found."""
    first, solutions = ([path for path in repository.notebooks if ("/solutions/" in path) == inside] for inside in (False, True))
    docs = [path for path in repository.markdown if path.startswith("docs/")]
    placed = ["docs/teaching.md", "docs/glossary.md", "docs/reading.md", FIDELITY]

    def titled(paths: Iterable[str]) -> list[dict[str, str]]:
        return [{repository.summary(path): page_of(repository.root, path)} for path in paths]

    def files(package: str) -> list:
        modules = [path for path in repository.modules_in(package) if not path.endswith("/__init__.py")]
        return [f"{package}/index.md", *({posixpath.basename(path): page_of(repository.root, path)} for path in modules)]

    packages = repository.packages()
    return [
        {"Start": "README.md"},
        {"Course": [*titled(first), {"Solutions": titled(solutions)}, *(path for path in placed[:2] if path in docs)]},
        {"Source": [*(path for path in placed[2:3] if path in docs), *({Path(package).name: files(package)} for package in packages)]},
        {"API": ["api/index.md", *({package.replace("/", "."): repository.api_page(package)} for package in packages)]},
        {"Fidelity": FIDELITY},
        {"Evidence": [path for path in docs if path not in placed]},
    ]
