"""Names of data sets, built in or paths, as ``config.datasets`` tells them apart."""

from vaectl.config.datasets import BUILT_IN, SUFFIXES, is_path, located

__all__ = ["BUILT_IN", "SUFFIXES", "is_path", "located"]
