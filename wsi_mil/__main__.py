"""The program: `python -m wsi_mil` is `wsi-mil`."""

from wsi_mil.cli import main
from wsi_mil.supervision import allow


def program() -> None:
    """As `main`, in a process of its own, where `tile` and `extract` may work in a child."""
    allow()
    main()


if __name__ == "__main__":
    program()
