"""`python -m shoppable.cli`, for where the program is not on the path."""

from shoppable.cli.app import main

if __name__ == "__main__":
    main()
