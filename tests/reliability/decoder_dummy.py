"""A decoder process whose decoder does what the name of a file says."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from napari_embed.engine import decoder_process
from napari_embed.sources import DecodedItem, images

real = images.try_decode_file


def decode(
    root: Path, name: str | None, *, shrink_to: int | None = None
) -> DecodedItem:
    """Crash, loop, sleep or eat memory for files of such names."""
    text = str(name)
    if "segv" in text:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "exit" in text:
        os._exit(3)
    if "abort" in text:
        os.abort()
    while "loop" in text:
        pass
    while "sleep" in text:
        time.sleep(1)
    eaten = []
    while "eats" in text:
        eaten.append(bytearray(64 << 20))
    return real(root, name, shrink_to=shrink_to)


def guarded(
    root: Path, name: str | None, *, shrink_to: int | None = None
) -> DecodedItem:
    """Answer a lack of memory as the real one does."""
    try:
        return decode(root, name, shrink_to=shrink_to)
    except MemoryError:
        return DecodedItem(None, "not enough memory to decode it")


if __name__ == "__main__":
    images.try_decode_file = guarded
    decoder_process.main()
