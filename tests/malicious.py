"""A pickle that would run code if it were loaded."""

from pathlib import Path


class Malicious:
    """Object that creates a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))
