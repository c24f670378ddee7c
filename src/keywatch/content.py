"""Where the bundled content lies: `data/` and `detectors/`, in a wheel or in a checkout."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from keywatch.errors import ContentError

__all__ = ["content_path"]

_PACKAGED = Path(__file__).resolve().parent / "_content"
_CHECKOUT = Path(__file__).resolve().parents[2]


def content_path(relative: str) -> Path:
    """Return the path of a bundled file or folder, such as `data/apis/aws.toml`.

    `relative` uses forward slashes and starts at the project's root. An installed wheel
    keeps it under `keywatch/_content/`, a checkout at the root of the repository; the
    wheel's own comes first. Raises ContentError when it's in neither, or when `relative`
    would leave the content.
    """
    parts = PurePosixPath(relative).parts
    if not parts or PurePosixPath(relative).is_absolute() or ".." in parts:
        raise ContentError(f"{relative!r} is not a path inside Keywatch's bundled content")
    for root in (_PACKAGED, _CHECKOUT):
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise ContentError(
        f"{relative} is missing from this installation (looked in {_PACKAGED} and {_CHECKOUT}). "
        "Install Keywatch again, or restore the file from the repository."
    )
