"""Every error Keywatch raises on purpose.

KeywatchError              exit 2, unless said otherwise
├── UsageError             the command's words are wrong
├── SettingsError          keywatch.toml or an environment variable is wrong
│   └── SecretError          a secret is not where the settings say
├── InputError             a log or an inventory can't be taken
│   ├── UnknownFormatError   no log format is known to have such lines
│   └── TooManyRejectsError  more lines are bad than the settings allow
├── ContentError           a content file (data/, detectors/, vendors/) is missing or wrong
│   ├── DetectorError      a detector's folder
│   └── VendorError        a vendor's folder
│       └── CatalogueError   its API catalogue
├── ChannelError           exit 3: a test message did not arrive
├── GeoIPError             a GeoIP database is missing or damaged
├── EngineError            exit 3: the cluster of a review or a load can't be reached, or was lost
└── LakeError              exit 3
    ├── LakeBusyError      another process is writing
    ├── LakeDamagedError   the lake's files don't agree
    ├── LakeReadOnlyError  the lake can't be written
    ├── LakeSpaceError     the disk is full
    ├── LakeUnreachableError  the catalogue's server or the object store
    └── LakeMemoryError    memory ran out
"""

from __future__ import annotations


class KeywatchError(Exception):
    """Base of all; its text says what is wrong, where, and the mend."""

    exit_code = 2


class UsageError(KeywatchError):
    """The command's words are wrong."""


class SettingsError(KeywatchError):
    """The settings file or an environment variable is wrong."""


class SecretError(SettingsError):
    """A secret is not where the settings say; names the place, never the secret."""


class InputError(KeywatchError):
    """A log or an inventory can't be taken; names the file and, where known, the line."""


class UnknownFormatError(InputError):
    """No log format is known to have such lines; has the command that may read them."""


class TooManyRejectsError(InputError):
    """A load has a larger share of bad lines than the settings allow; nothing was kept."""


class ContentError(KeywatchError):
    """A content file (data/, detectors/, vendors/) is missing or wrong."""


class DetectorError(ContentError):
    """A detector's folder is wrong."""


class VendorError(ContentError):
    """A vendor's folder is wrong."""


class CatalogueError(VendorError):
    """A vendor's API catalogue is wrong."""


class ChannelError(KeywatchError):
    """A channel's receiver did not accept a test message; has the reason and the fix."""

    exit_code = 3


class GeoIPError(KeywatchError):
    """A GeoIP database is missing or damaged."""


class EngineError(KeywatchError):
    """The cluster of a review or a load can't be reached, or was lost; nothing was stored."""

    exit_code = 3


class LakeError(KeywatchError):
    """The lake can't be used."""

    exit_code = 3


class LakeBusyError(LakeError):
    """Another process kept writing for longer than the settings allow to wait."""


class LakeDamagedError(LakeError):
    """The lake's files don't agree with its catalogue, or are not a lake."""


class LakeReadOnlyError(LakeError):
    """The lake's folder can't be written by this user, or its disk is read-only."""


class LakeSpaceError(LakeError):
    """The disk is full; nothing was kept."""


class LakeUnreachableError(LakeError):
    """The server of the catalogue or the object store does not answer, or refuses."""


class LakeMemoryError(LakeError):
    """Memory ran out; nothing was kept."""
