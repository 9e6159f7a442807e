"""Packages that only some users want: the extras of the package."""

from importlib.util import find_spec


def missing_package(package: str, *, extra: str, needed_by: str) -> str:
    """Return the fault that a package is missing, with the extra that installs it; "" if it is there.

    Args:
        package: name by which it is imported; it is looked for, not imported.
        extra: name of the extra.
        needed_by: what needs it, for the message.
    """
    if find_spec(package):
        return ""
    return f"{needed_by} needs the package {package}, which is not installed: pip install 'wsi_mil[{extra}]'"


def tensorboard_fault() -> str:
    """Return the fault that TensorBoard is missing, or ""."""
    return missing_package("tensorboard", extra="tensorboard", needed_by="train.log: tensorboard")
