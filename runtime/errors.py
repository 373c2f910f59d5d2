"""The errors that a caller of pocketrec would catch, and nothing else.

Whatever a user got wrong is an `InputError`, told in one line: what, got, expected, what to do. The
command line turns each of these into an exit code in one place (`pocketrec.cli.main`):

    InputError, BundleError, StateError, MissingExtraError -> 2      GateError -> 1

Every other exception is a bug of ours and keeps its traceback.
"""

from __future__ import annotations


class InputError(ValueError):
    """A user's mistake: a bad file, a bad option, data that do not belong to the model."""


class BundleError(InputError):
    """A bundle that cannot be trusted: truncated, edited, or written by a newer pocketrec."""


class StateError(InputError):
    """A user's state that cannot be trusted: truncated, edited, or written by a newer pocketrec."""


class GateError(RuntimeError):
    """A budget or a check failed (`--max-drop`, `--max-size`, parity); nothing was written."""


class MissingExtraError(ImportError):
    """Something asked for needs an extra of pocketrec that is not installed.

    Args:
        what: What was asked for, as the user would name it.
        extra: The extra that brings it.

    >>> error = MissingExtraError("pocketrec compress", "compress")
    >>> error.extra
    'compress'
    >>> print(error)
    pocketrec compress needs the extra `compress`: pip install 'pocketrec[compress]'
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra `{extra}`: pip install 'pocketrec[{extra}]'")
        self.what = what
        self.extra = extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return (type(self), (self.what, self.extra))  # crosses process borders whole
