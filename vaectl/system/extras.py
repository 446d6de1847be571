"""Packages that not every installation has, imported when they are used."""

from __future__ import annotations

import importlib

from vaectl.errors import VaectlError


def require(package: str, purpose: str) -> None:
    """Import a package that some commands need.

    Args:
        package: Its name.
        purpose: What needs it, for the message: ``a .parquet file``.

    Raises:
        VaectlError: It is not installed, or does not work with the other packages that are installed.
    """
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise _unusable(package, purpose, error) from None
        raise VaectlError(
            f"{purpose} needs the package {package}", hint=f"install it with: pip install {package}"
        ) from None
    except ImportError as error:
        raise _unusable(package, purpose, error) from None


def _unusable(package: str, purpose: str, error: ImportError) -> VaectlError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return VaectlError(
        f"{purpose} needs the package {package}, which cannot be imported: {reason:.200}",
        hint=f"install versions that work together: pip install --upgrade numpy {package}",
    )
