"""Options that say which items a command is about."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from napari_embed.cli.options import PROJECT
from napari_embed.errors import InputError

if TYPE_CHECKING:
    from napari_embed.collection import Collection, Selection

__all__ = ["choosing", "chosen"]

_OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--ids", {"metavar": "LIST", "help": 'Items by id, such as "17" or "3-9,12".'}),
    ("--where", {"metavar": "SQL", "help": "An expression over the columns."}),
    ("--find", {"metavar": "TEXT", "help": "Part of a path, a label, a tag or ids."}),
    ("--named", {"metavar": "NAME", "help": "A saved selection."}),
    ("--like", {"metavar": "LIST", "help": "Items like those with these ids."}),
    ("--like-image", {"type": PROJECT, "help": "Items like this image file."}),
    ("--like-text", {"metavar": "TEXT", "help": "Items like these words."}),
    (
        "--like-any",
        {"is_flag": True, "help": "With --like: like any, not like the mean."},
    ),
    (
        "--count",
        {
            "type": click.IntRange(1),
            "default": 100,
            "show_default": True,
            "help": "How many similar items.",
        },
    ),
)


def choosing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options, handed to the command together as ``choice``."""
    names = [name.lstrip("-").replace("-", "_") for name, _ in _OPTIONS]

    @functools.wraps(command)
    def with_choice(*arguments: Any, **values: Any) -> Any:
        choice = {name: values.pop(name) for name in names}
        return command(*arguments, choice=choice, **values)

    for name, settings in reversed(_OPTIONS):
        with_choice = click.option(name, **settings)(with_choice)
    return with_choice


def chosen(
    collection: Collection, choice: dict[str, Any], *, everything: bool = False
) -> Selection | None:
    """Return the items that the options mean, None if there is no option.

    All options must hold. Similar items are looked for among those of the others.
    ``everything`` chooses among excluded items as well.
    """
    found: Selection = collection.everything() if everything else collection
    wish = {k: choice[k] for k in ("like", "like_image", "like_text") if choice[k]}
    if len(wish) > 1:
        raise InputError("Give one of --like, --like-image and --like-text.")
    if choice["named"]:
        named = collection.named(choice["named"])
        found = named if everything else named.where("NOT excluded")
    if choice["ids"]:
        ids = collection.query.find(_listed(choice["ids"])).ids
        keep = set(found.ids.tolist())
        found = collection.items([i for i in ids.tolist() if i in keep])
    if choice["where"]:
        found = found.where(choice["where"])
    if choice["find"]:
        found = found.find(choice["find"])
    if wish:
        return _similar(collection, found, choice)
    given = any(choice[k] for k in ("named", "ids", "where", "find"))
    return found if given else None


def _similar(
    collection: Collection, found: Selection, choice: dict[str, Any]
) -> Selection:
    mode: Literal["mean", "any"] = "any" if choice["like_any"] else "mean"
    like = choice["like"]
    ids = collection.query.find(_listed(like)).ids if like else None
    image: Path | None = choice["like_image"]
    return found.similar(
        ids=ids, image=image, text=choice["like_text"], mode=mode, k=choice["count"]
    )


def _listed(text: str) -> str:
    if not all(c.isdigit() or c in "-,; " for c in text):
        raise InputError(f'Ids are written as "17" or "3-9,12", got {text!r:.60}.')
    return text
