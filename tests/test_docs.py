"""README and docs: links, pictures and anchors lead somewhere, examples parse."""

from __future__ import annotations

import ast
import re
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
