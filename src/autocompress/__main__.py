"""`python -m autocompress`: the command line."""

from .cli import main

main()
