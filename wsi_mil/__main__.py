"""The program: `python -m wsi_mil` is `wsi-mil`."""

from wsi_mil.cli import main
from wsi_mil.runtime.crash_guard import enable_fork


def program() -> None:
    """As `main`, in a process of its own, where `tile` and `extract` may work in a child."""
    enable_fork()
    main()


if __name__ == "__main__":
    program()
