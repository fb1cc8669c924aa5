"""README and docs: links, pictures and anchors lead somewhere, examples parse."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def _slugs(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as the usual renderers make them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", t).strip().lower().replace(" ", "-") for t in titles
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        found = place.exists() and place.is_relative_to(ROOT)
        if found and anchor and place.suffix == ".md":
            found = anchor in _slugs(place)
        if not found:
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_in_the_docs_parses(page: Path) -> None:
    for language, code in FENCE.findall(page.read_text(encoding="utf-8")):
        if language in ("python", "py"):
            ast.parse(code)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_and_their_options_exist(page: Path) -> None:
    import click

    from napari_embed.cli import command_line

    text = page.read_text(encoding="utf-8")
    lines = re.findall(r"^napari-embed (.+)$", text, re.MULTILINE)
    lines += re.findall(r"`napari-embed ([^`]+)`", text)
    unknown = []
    for line in lines:
        words, command = shlex.split(line, comments=True), command_line
        while isinstance(command, click.Group) and words:
            if words[0].startswith("-"):
                break
            found = command.commands.get(words.pop(0).rstrip(","))
            if found is None:
                if not line.split()[0].islower():  # "COMMAND --help", "..."
                    break
                unknown.append(line)
                break
            command = found
        known = {"--help", "--version", "--debug"}
        known |= {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        names = {w.partition("=")[0] for w in words if w.startswith("--")}
        unknown += [f"{line}: {name}" for name in sorted(names - known)]
    assert not unknown


def test_every_picture_is_used() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    unused = [
        picture.name
        for picture in sorted((ROOT / "docs/images").iterdir())
        if f"images/{picture.name}" not in text
    ]
    assert not unused


def test_every_page_is_reached_from_the_readme() -> None:
    pages = {p.resolve() for p in PAGES}
    seen, open_pages = set(), [ROOT / "README.md"]
    while open_pages:
        page = open_pages.pop().resolve()
        if page in seen:
            continue
        seen.add(page)
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            place = (page.parent / target.partition("#")[0]).resolve()
            if place in pages:
                open_pages.append(place)
    assert not {str(p.relative_to(ROOT)) for p in pages - seen}


def test_the_page_of_keys_is_what_is_bound() -> None:
    script = ROOT / "scripts/make_keys_page.py"
    spec = importlib.util.spec_from_file_location("make_keys_page", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / "docs/keys.md").read_text(encoding="utf-8")
    assert module.table() in text, "run scripts/make_keys_page.py"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"))
    assert config.strict
    build(config)  # ends with Abort at a warning
    assert (tmp_path / "site/index.html").is_file()
