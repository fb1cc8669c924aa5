"""Names from a data set never open anything outside its folder."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_embed.errors import EmbedError, UnsafePathError
from napari_embed.sources import SourceSpec, open_source, paths
from napari_embed.sources.paths import open_confined, read_confined

SECRET = b"outside the folder"
LIMIT = 1 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Folder ``data`` with one file, a secret beside it and links of all kinds."""
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "good.bin").write_bytes(b"inside")
    (folder / "sub/deep.bin").write_bytes(b"deep")
    (tmp_path / "secret.bin").write_bytes(SECRET)
    (tmp_path / "data-evil").mkdir()
    (tmp_path / "data-evil/x.bin").write_bytes(SECRET)
    (folder / "link-out").symlink_to(tmp_path / "secret.bin")
    (folder / "link-relative").symlink_to("../secret.bin")
    (folder / "link-chain").symlink_to("link-out")
    (folder / "link-folder").symlink_to(tmp_path)
    (folder / "link-up").symlink_to("..")
    (folder / "link-loop").symlink_to("link-loop")
    (folder / "link-dangling").symlink_to("nowhere")
    (folder / "link-device").symlink_to("/dev/zero")
    (folder / "link-proc").symlink_to("/proc/self/environ")
    (folder / "link-in").symlink_to("sub/deep.bin")
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    return folder


NASTY = [
    "", "..", "../secret.bin", "../data/../secret.bin", "sub/../../secret.bin",
    "./../secret.bin", "sub/../../data-evil/x.bin", "/etc/passwd", "//etc/passwd",
    "///etc/passwd", "/dev/zero", "/dev/stdin", "/proc/self/environ", "/proc/self/fd/0",
    "../../../../../../../../../../etc/passwd", "....//....//secret.bin/..",
    "..\\secret.bin", "sub\\..\\..\\secret.bin", "C:\\Windows\\win.ini", "C:secret.bin",
    "c:/windows/win.ini", "\\\\server\\share\\x.png", "//server/share/x.png",
    "\\\\?\\C:\\x", "\\\\.\\PhysicalDrive0", "http://example.org/x.png",
    "https://example.org/x.png", "ftp://example.org/x", "file:///etc/passwd",
    "file:/etc/passwd", "s3://bucket/x.png", "gs://bucket/x",
    "data:image/png;base64,AA",
    "javascript:alert(1)", "zip://x.zip!a", "smb://host/x", "good.bin\0.png", "\0",
    "a\0/../../secret.bin", "~/x.png", "~root/x", "$HOME/x.png", "%2e%2e/secret.bin",
    "..%2fsecret.bin", "link-out", "link-relative", "link-chain", "link-folder",
    "link-folder/secret.bin", "link-up/secret.bin", "link-loop", "link-dangling",
    "link-device", "link-proc", "fifo", "socket", "sub", ".", "sub/.", "sub/..",
    "a" * 5000, "a/" * 2000 + "x", "good.bin/../../secret.bin", "good.bin/x",
    "CON", "NUL", "aux.png", "|id", "-", "*", "?.bin", "good.bin ", " good.bin",
    "\u202egnp.x", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("name", NASTY, ids=lambda n: ascii(n)[:40])
def test_nasty_names_open_nothing(root: Path, name: str):
    descriptors = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc") else set()
    with pytest.raises(EmbedError):
        read_confined(root, name, max_bytes=LIMIT)
    if descriptors:
        assert len(os.listdir("/proc/self/fd")) == len(descriptors)


def test_good_names_are_read(root: Path):
    for name, content in {
        "good.bin": b"inside",
        "./good.bin": b"inside",
        "sub/deep.bin": b"deep",
        "sub/../good.bin": b"inside",
        "link-in": b"deep",
        str(root / "good.bin"): b"inside",
    }.items():
        assert read_confined(root, name, max_bytes=LIMIT) == content
    with pytest.raises(EmbedError, match="MiB"):
        read_confined(root, "good.bin", max_bytes=3)


def test_a_root_reached_through_a_link_works(root: Path):
    alias = root.parent / "alias"
    alias.symlink_to(root)
    assert read_confined(alias, "sub/deep.bin", max_bytes=LIMIT) == b"deep"
    with pytest.raises(UnsafePathError):
        read_confined(alias, "link-out", max_bytes=LIMIT)


@pytest.mark.parametrize(
    "name", ["link-out", "link-folder/secret.bin", "link-device", "fifo"]
)
def test_a_swap_between_check_and_use_is_noticed(root: Path, name: str, monkeypatch):
    # The early look is deceived, as if the file had been exchanged just after it.
    monkeypatch.setattr(paths, "_looks_harmless", lambda path, real_root: True)
    with pytest.raises(UnsafePathError):
        open_confined(root, name)


def test_without_proc_the_files_are_compared(root: Path, monkeypatch):
    monkeypatch.setattr(paths, "_looks_harmless", lambda path, real_root: True)
    monkeypatch.setattr("sys.platform", "other")
    assert read_confined(root, "link-in", max_bytes=LIMIT) == b"deep"
    for name in ("link-out", "link-folder/secret.bin"):
        with pytest.raises(UnsafePathError):
            open_confined(root, name)


def test_a_folder_with_hostile_links_lists_and_reads_on(root: Path, rng):
    pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root.parent / "outside.png")
    Image.fromarray(pixels).save(root / "a.png")
    (root / "b.png").symlink_to(root.parent / "outside.png")
    (root / "c.png").symlink_to("a.png")
    (root / "d.png").symlink_to("/dev/zero")
    os.mkfifo(root / "e.png")
    source = open_source(SourceSpec("folder", str(root)))
    items = source.list_items()
    assert items["source"].to_pylist() == ["a.png", "b.png", "c.png", "d.png", "e.png"]
    decoded = list(source.read(items))
    assert [d.error is None for d in decoded] == [True, False, True, False, False]
    with pytest.raises(UnsafePathError):
        source.full_resolution("b.png")
