"""What MkDocs calls while it builds the site; `hooks` in mkdocs.yml names this file.

    on_files           the pages of `pages.py` take the place of the files of docs/
    on_page_content    formulas become drawings

In between, MkDocs turns Markdown into HTML and checks every link.
"""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from semmim_mini.errors import UserError
from semmim_mini.site.formulas import typeset
from semmim_mini.site.pages import Repository, navigation

STYLE = "docs/site.css"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    root = Path(config.config_file_path).parent
    repository = Repository(root)
    site = repository.site()
    config.nav = navigation(repository)
    made = [File.generated(config, uri, content=content) for uri, content in (site.pages | site.pictures).items()]
    made += [File.generated(config, path, abs_src_path=str(root / path)) for path in sorted(site.files | {STYLE})]
    return Files([*(file for file in files if file.src_dir != config.docs_dir), *made])  # what stays is the theme's


def on_page_content(html: str, page: Page, **_: object) -> str:
    try:
        return typeset(html)
    except UserError as error:
        raise PluginError(f"{page.file.src_uri}: {error}") from None
