"""What several commands read from the command line; measuring, which runs without this package, reads the same."""

from ..benchmarks.option_types import byte_size, count, milliseconds, seconds, share

__all__ = ["byte_size", "count", "milliseconds", "seconds", "share"]
