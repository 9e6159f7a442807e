"""`python -m wsi_mil` is `wsi-mil`."""

from wsi_mil.cli import main

if __name__ == "__main__":
    main()
