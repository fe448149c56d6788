"""Pages that mkdocs makes at build time: components, texts outside of ``docs/``, notebooks, and links between pages."""

import json
import posixpath
import re
from pathlib import Path

from component_pages import component_navigation, component_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
README, DOCS = ROOT / "README.md", ROOT / "docs"
OUTSIDE = {
    "experiments/README.md": "experiments.md",
    "ds_configs/README.md": "deepspeed_files.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Texts that stay where they are, and their pages on the site."""

NAMED_PAGE = re.compile(r"(?<!\[)`((?:docs|experiments|ds_configs)/[\w/]+\.md|CONTRIBUTING\.md|CHANGELOG\.md)`(?!\])")
FENCE = re.compile(r"(^ *```.*?^ *```$)", flags=re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^# (.+)$", flags=re.MULTILINE)
README_SECTION = re.compile(r'^<!-- section "(.+)" of README.md -->$', flags=re.MULTILINE)
COMPONENTS = "COMPONENTS"
"""The entry of ``nav`` that the pages of the components replace."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of the components into the navigation, and new guides and notes at the ends of theirs."""
    config.nav = [{title: component_navigation()} if value == COMPONENTS else {title: value}
                  for entry in config.nav or [] for title, value in entry.items()]  # fmt: skip
    listed = set(re.findall(r"'([^']+\.md)'", str(config.nav)))
    for section, pattern in (("Guides", "*.md"), ("Notes", "notes/*.md")):
        found = {str(file.relative_to(DOCS)) for file in DOCS.glob(pattern)}
        next(entry[section] for entry in config.nav if section in entry).extend(sorted(found - listed))
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are not files of ``docs/``."""
    made = component_pages()
    for file, page in OUTSIDE.items():
        made[page] = (ROOT / file).read_text(encoding="utf-8")
    for notebook in sorted((DOCS / "notebooks").glob("*.ipynb")):
        made[f"notebooks/{notebook.stem}.md"] = notebook_page(notebook)
    for page, content in made.items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Insert sections of README.md, and turn names of pages, such as ``docs/data.md``, into links with their titles."""
    markdown = README_SECTION.sub(lambda match: readme_section(match[1]), markdown)
    parts = FENCE.split(markdown)
    return "".join(part if FENCE.match(part) else linked(part, page.file.src_uri) for part in parts)


def linked(text: str, source: str) -> str:
    def link(match: re.Match) -> str:
        name = match[1]
        target = OUTSIDE.get(name, name.removeprefix("docs/"))
        title = HEADING.search((ROOT / name).read_text(encoding="utf-8"))
        if title is None or target == source:
            return match[0]
        return f"[{title[1]}]({posixpath.relpath(target, posixpath.dirname(source) or '.')})"

    return NAMED_PAGE.sub(link, text)


def readme_section(title: str) -> str:
    """The text below a heading of README.md, without the heading."""
    (text,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## )", README.read_text(encoding="utf-8"), re.M | re.S)
    return text.strip()


def notebook_page(file: Path) -> str:
    """A notebook as Markdown: its text, its code, and a link to the file."""
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    texts = []
    for cell in cells:
        source = "".join(cell["source"])
        texts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    title, *rest = texts
    return "\n\n".join([title, f"[Download the notebook]({file.name})", *rest])
