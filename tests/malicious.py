"""What must never be loaded."""

from pathlib import Path


class Malicious:
    """Makes a file where it is loaded by pickle."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))
