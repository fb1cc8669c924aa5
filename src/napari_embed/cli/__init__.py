"""The command line, ``napari-embed``: the same engine as in the window.

Exit codes: 0 done, 1 error, 2 wrong use, 3 done but some items failed, 130 stopped with
Ctrl-C. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import click

from napari_embed import __version__
from napari_embed.cli import (
    compute,
    curate,
    exporting,
    look,
    objects,
    problems,
    source,
    whole,
)
from napari_embed.cli.console import showable
from napari_embed.errors import EmbedError, JobCancelled

__all__ = ["main"]

EXIT_ERROR = 1
EXIT_STOPPED = 130

EPILOG = """\b
A first map:
  napari-embed demo                      the bundled sample, in napari
  napari-embed map photos/               a folder of images, all steps in one

\b
Step by step:
  napari-embed new photos/               makes photos.embed
  napari-embed embed photos.embed        images to vectors; can be interrupted
  napari-embed project photos.embed      vectors to a 3D map
  napari-embed view photos.embed         opens napari

Every step keeps what is finished. Run it again and it goes on from there.
"""


class _InOrder(click.Group):
    """Lists its commands in the order they are used in."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names as they were added."""
        return list(self.commands)


@click.group(
    cls=_InOrder,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--debug", is_flag=True, help="Show tracebacks and the engine's log.")
@click.version_option(__version__, prog_name="napari-embed")
def command_line(debug: bool) -> None:
    """Turn an image collection into a 2D or 3D map, and look at it in napari."""
    level = logging.DEBUG if debug else logging.ERROR
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("napari_embed").setLevel(level)


_STEPS = (*whole.COMMANDS, *compute.COMMANDS, *source.COMMANDS)
_CURATION = (*curate.COMMANDS, *problems.COMMANDS, *exporting.COMMANDS)
for _command in (*_STEPS, *objects.COMMANDS, *look.COMMANDS, *_CURATION):
    command_line.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        result = command_line.main(
            args=None if arguments is None else list(arguments),
            prog_name="napari-embed",
            standalone_mode=False,
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt, JobCancelled):
        sys.stderr.write("Stopped. Finished work is kept; run it again to go on.\n")
        return EXIT_STOPPED
    except BrokenPipeError:
        # Whoever read our output (head, less) has enough.
        sys.stderr.close()
        return EXIT_ERROR
    except Exception as error:  # BLE001: last resort, a sentence for the user
        if logging.getLogger("napari_embed").isEnabledFor(logging.DEBUG):
            logging.getLogger("napari_embed").exception("The command failed")
        text = showable(_sentence(error), sys.stderr)
        sys.stderr.write(f"Error: {text}\n")
        return EXIT_ERROR
    return result if isinstance(result, int) else 0


def _sentence(error: Exception) -> str:
    if isinstance(error, EmbedError | OSError):
        return str(error)
    return (
        f"Unexpected {type(error).__name__}: {error}. This should not happen; "
        "`napari-embed --debug ...` shows where."
    )
