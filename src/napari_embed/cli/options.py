"""Arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = ["PROJECT", "device", "dims", "encoder", "project_argument", "seed"]

Command = TypeVar("Command", bound=Callable[..., Any])

PROJECT = click.Path(path_type=Path)


def project_argument(command: Command) -> Command:
    """Add the argument PROJECT, a folder made by ``napari-embed new``."""
    return click.argument("project", type=PROJECT)(command)


def device(command: Command) -> Command:
    """Add ``--device``."""
    return click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        show_default=True,
        help="Where to compute; auto takes a usable NVIDIA GPU.",
    )(command)


def encoder(command: Command) -> Command:
    """Add ``--encoder``."""
    return click.option(
        "--encoder",
        default="descriptor",
        show_default=True,
        help="What turns images into vectors; see `napari-embed encoders`.",
    )(command)


def dims(command: Command) -> Command:
    """Add ``--dims``."""
    return click.option(
        "--dims",
        type=click.Choice(["2", "3"]),
        default="3",
        show_default=True,
        help="Dimensions of the map.",
    )(command)


def seed(command: Command) -> Command:
    """Add ``--seed``."""
    return click.option(
        "--seed",
        type=int,
        default=0,
        show_default=True,
        help="Seed of everything random; the same seed gives the same result.",
    )(command)
