"""A small file system in memory that only this process and its children see, to be filled."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

CLONE_NEWNS = 0x0002_0000
MS_REC, MS_PRIVATE = 0x4000, 0x4_0000
MNT_DETACH = 2
BALLAST = ".ballast"
PIECE_BYTES = 1 << 20


class SmallDisk:
    """A tmpfs over a folder, so that "no space left" is true for root, too.

    Args:
        folder: Where it is mounted; made if need be.
        size_mb: Its size, MiB. It takes memory only as far as it is filled.
    """

    def __init__(self, folder: Path, size_mb: int) -> None:
        self.folder, self._size_mb = folder, size_mb

    def mount(self) -> None:
        """Mount it.

        To be called by the main thread, after `own_mounts`: services inherit from the thread that
        starts them.

        Raises:
            OSError: the system does not permit it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        options = f"size={self._size_mb}m,mode=700"
        _libc("mount", b"headrace-drill", os.fsencode(self.folder), b"tmpfs", 0, options.encode())

    def unmount(self) -> None:
        """Take it away, with what is on it."""
        _libc("umount2", os.fsencode(self.folder), MNT_DETACH)

    def fill(self) -> None:
        """Write until there is no space left."""
        with (self.folder / BALLAST).open("wb", buffering=0) as file:
            size = PIECE_BYTES
            while size:
                try:
                    file.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2

    def free(self) -> None:
        """Give the space back."""
        (self.folder / BALLAST).unlink(missing_ok=True)


def own_mounts() -> None:
    """Let what the calling thread mounts from now on be seen by it and its children only.

    Raises:
        OSError: the system does not permit it.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    _libc("unshare", CLONE_NEWNS)
    _libc("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)


def _libc(name: str, *arguments: bytes | int | None) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
