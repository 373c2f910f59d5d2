"""A part of a bundle that is stored deflated, since names of nodes or unused levels are much of it."""

from __future__ import annotations

import zlib

from .bundle import Bundle
from .errors import BundleError

MAX_BYTES = 1 << 30
"""A hostile manifest cannot make us unpack more."""


def inflated(bundle: Bundle, part: str, n_bytes: object) -> bytes:
    """The content of `part`, of which the manifest says that it has `n_bytes`; never more is made.

    Raises:
        BundleError: it has another size, or is not deflated.
    """
    if type(n_bytes) is not int or not 0 < n_bytes <= MAX_BYTES:
        raise BundleError(f"{bundle.path}: part {part!r} of {n_bytes!r:.40} bytes; export the bundle again")
    try:
        content = zlib.decompressobj().decompress(bundle.part(part).tobytes(), n_bytes + 1)
    except zlib.error as error:
        raise BundleError(
            f"{bundle.path}: part {part!r} cannot be unpacked ({error}); export the bundle again"
        ) from None
    if len(content) != n_bytes:
        raise BundleError(
            f"{bundle.path}: part {part!r} does not have the {n_bytes} bytes that the manifest says; export the bundle again"
        )
    return content
