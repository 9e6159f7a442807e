"""The version of the package, below all modules that write it into files."""

__version__ = "0.2.0"
