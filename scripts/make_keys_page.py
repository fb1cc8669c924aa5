"""Write the keys of the map into docs/keys.md, from the list that the window shows."""

from __future__ import annotations

from pathlib import Path

from napari_embed.gui.keys import key_list

PAGE = Path(__file__).resolve().parent.parent / "docs/keys.md"
BEGIN, END = "<!-- keys: begin -->", "<!-- keys: end -->"


def table() -> str:
    """Return the keys of the map as a Markdown table."""
    rows = [f"| {key} | {words} |" for key, words in key_list()]
    return "\n".join(["| key or mouse | what it does |", "| --- | --- |", *rows])


def main() -> None:
    """Write the table between the marks."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    text = f"{before}{BEGIN}\n{table()}\n{END}{after}"
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
