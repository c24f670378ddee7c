"""``python -m keywatch``."""

from keywatch.cli import main

if __name__ == "__main__":
    main()
