"""The error tree: every error this package raises on purpose.

::

    EmbedError
      InputError (ValueError)            what the user gave cannot be used
        ManifestError                      a table or list of items is malformed
        UnsafePathError (PermissionError)  a path leaves the folder it belongs to
        ImageDecodeError (OSError)         one image cannot be read
      ModelError (RuntimeError)          an encoder cannot be used
        UntrustedModelError                weights do not match their checksum
      MissingDependencyError (ImportError)  an optional package is not installed
      StoreError (OSError)               the project on disk
        StoreLockedError                   another process is writing
        StoreReadOnlyError (PermissionError)  opened for reading only
        CorruptChunkError                  bytes on disk do not match the ledger
        IncompleteStageError               a stage was asked for before it is done
        StoreVersionError                  written by an unknown, newer version
      ComputeError (RuntimeError)        a computation failed
        DeviceMemoryError (MemoryError)    not enough memory on the device
        NumericalError (ArithmeticError)   NaN, Inf or overflow in a result
        DeviceLostError                    the device or the engine process died
      JobCancelled                       the user asked to stop; nothing is wrong

Each class also inherits the builtin a caller would expect. A message says what was
found, what was expected and what to do next.
"""

from __future__ import annotations

__all__ = [
    "ComputeError",
    "CorruptChunkError",
    "DeviceLostError",
    "DeviceMemoryError",
    "EmbedError",
    "ImageDecodeError",
    "IncompleteStageError",
    "InputError",
    "JobCancelled",
    "ManifestError",
    "MissingDependencyError",
    "ModelError",
    "NumericalError",
    "StoreError",
    "StoreLockedError",
    "StoreReadOnlyError",
    "StoreVersionError",
    "UnsafePathError",
    "UntrustedModelError",
]


class EmbedError(Exception):
    """Base of every error raised on purpose by this package."""


class InputError(EmbedError, ValueError):
    """What the user gave cannot be used."""


class ManifestError(InputError):
    """A table or list of items is malformed."""


class UnsafePathError(InputError, PermissionError):
    """A path leaves the folder it belongs to, or is not a regular file."""


class ImageDecodeError(InputError, OSError):
    """One image cannot be read; a run goes on without it."""


class ModelError(EmbedError, RuntimeError):
    """An encoder cannot be used."""


class UntrustedModelError(ModelError):
    """Weights do not match their pinned checksum, or hold more than tensors."""


class MissingDependencyError(EmbedError, ImportError):
    """An optional package is not installed; the message says which extra has it."""


class StoreError(EmbedError, OSError):
    """The project on disk cannot be read or written."""


class StoreLockedError(StoreError):
    """Another process is writing to the project."""


class StoreReadOnlyError(StoreError, PermissionError):
    """The project was opened for reading only."""


class CorruptChunkError(StoreError):
    """Bytes on disk do not match the ledger."""


class IncompleteStageError(StoreError):
    """A stage was asked for before it is done."""


class StoreVersionError(StoreError):
    """The project was written by an unknown, newer version."""


class ComputeError(EmbedError, RuntimeError):
    """A computation failed."""


class DeviceMemoryError(ComputeError, MemoryError):
    """The device has not enough memory."""


class NumericalError(ComputeError, ArithmeticError):
    """A result holds NaN or Inf, or a count overflowed."""


class DeviceLostError(ComputeError):
    """The device or the engine process died."""


class JobCancelled(EmbedError):  # noqa: N818  (not an error: the user asked for it)
    """The user asked to stop; finished work is kept."""
