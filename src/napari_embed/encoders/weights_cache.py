"""Downloaded weights: where they are kept, how they are fetched and pinned.

torchvision publishes no full checksums: a file name carries the first 8 hex digits of
the SHA-256 (the naming rule of ``torch.hub.load_state_dict_from_url``). So a download
is checked against these 8 digits, and against the full checksum where the catalogue
has one; on first use the full checksum is written to ``pins.json`` beside the files
and required from then on. Eight digits catch a damaged or exchanged file, not a forger
with a great deal of computing power; weights are read as plain tensors in any case.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import urllib.error
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any

from napari_embed.encoders.protocol import Progress
from napari_embed.errors import ModelError, UntrustedModelError

__all__ = ["cache_folder", "cached_file", "check_sha256", "fetch", "pin_or_check"]

BLOCK = 1 << 20
MAX_BYTES = 8 << 30
TIMEOUT_S = 60.0


def cache_folder() -> Path:
    """Return the folder of downloaded weights (``NAPARI_EMBED_CACHE`` moves it)."""
    if moved := os.environ.get("NAPARI_EMBED_CACHE"):
        return Path(moved) / "weights"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library/Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "napari-embed" / "weights"


def cached_file(file_name: str) -> Path:
    """Return where a downloaded file is or would be."""
    return cache_folder() / file_name


def check_sha256(found: str, expected: str, source: str) -> None:
    """Compare a checksum with a full one or with its first digits.

    Raises
    ------
    UntrustedModelError
        If they differ.
    """
    if not found.startswith(expected):
        raise UntrustedModelError(
            f"The weights {source} are not the published ones: their SHA-256 is "
            f"{found}, expected {expected}{'...' if len(expected) < 64 else ''}. The "
            "file was not opened. Delete it and fetch it again."
        )


def fetch(
    url: str, file_name: str, *, sha256_prefix: str, progress: Progress | None = None
) -> Path:
    """Download a file into the cache, unless it is there, and return its path.

    The file takes its name only after its checksum was compared; a broken download
    leaves nothing behind.

    Raises
    ------
    ModelError
        If the file cannot be fetched or written.
    UntrustedModelError
        If its checksum does not begin with ``sha256_prefix``.
    """
    target = cached_file(file_name)
    if target.is_file():
        return target
    partial = ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=target.parent, prefix=f"{file_name}.", suffix=".part", delete=False
        ) as stream:
            partial = stream.name
            digest = _download(url, stream, progress)
            stream.flush()
            os.fsync(stream.fileno())
        check_sha256(digest, sha256_prefix, f"from {url}")
        os.replace(partial, target)
        partial = ""
    except (OSError, HTTPException, urllib.error.URLError) as error:
        raise ModelError(
            f"The weights {url} could not be downloaded to {target.parent}: {error}. "
            "Check the connection and the free space, or fetch the file elsewhere and "
            "give its path as weights."
        ) from error
    finally:
        if partial:
            with suppress(OSError):
                os.unlink(partial)
    return target


def _open_url(url: str) -> Any:
    """Open a URL for reading; over https only, redirections included."""
    if not url.startswith("https://"):
        raise ModelError(f"Weights are fetched over https only, not from {url}.")
    response = urllib.request.urlopen(url, timeout=TIMEOUT_S)  # noqa: S310 (checked)
    if not response.geturl().startswith("https://"):
        response.close()
        raise ModelError(f"{url} redirects to an address without https; refused.")
    return response


def _download(url: str, stream: IO[bytes], progress: Progress | None) -> str:
    """Copy a URL into a stream and return the SHA-256 of its bytes."""
    digest, done = hashlib.sha256(), 0
    with _open_url(url) as response:
        total = int(response.headers.get("Content-Length") or 0)
        if total > MAX_BYTES:
            raise ModelError(f"{url} is {total} bytes; more than 8 GiB is refused.")
        while block := response.read(BLOCK):
            done += len(block)
            if done > MAX_BYTES:
                raise ModelError(f"{url} sends more than 8 GiB; refused.")
            digest.update(block)
            stream.write(block)
            if progress is not None:
                progress(done, max(done, total))
    if total and done != total:
        raise ModelError(
            f"The download of {url} broke off after {done} of {total} bytes. Try again."
        )
    return digest.hexdigest()


def pin_or_check(file_name: str, sha256: str) -> None:
    """Require the checksum seen at first use, or write it down if this is the first.

    Raises
    ------
    UntrustedModelError
        If the file differs from the one first used.
    ModelError
        If the list of checksums cannot be read or written.
    """
    path = cache_folder() / "pins.json"
    pins = _read_pins(path)
    if file_name in pins:
        check_sha256(sha256, pins[file_name], f"{file_name} (pinned in {path})")
        return
    pins[file_name] = sha256
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, suffix=".part", delete=False, encoding="utf-8"
        ) as stream:
            json.dump(pins, stream, indent=1, sort_keys=True)
        os.replace(stream.name, path)
    except OSError as error:
        raise ModelError(
            f"The checksum of {file_name} cannot be written to {path}: {error}."
        ) from error


def _read_pins(path: Path) -> dict[str, str]:
    try:
        pins = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {error}. Delete it.") from error
    digits = set("0123456789abcdef")
    if not isinstance(pins, dict) or not all(
        isinstance(v, str) and len(v) == 64 and set(v) <= digits for v in pins.values()
    ):
        raise ModelError(f"{path} does not hold SHA-256 checksums. Delete it.")
    return pins
