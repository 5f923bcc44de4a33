"""`python -m interp.cli`: the command, where no script of that name is on the path."""

from interp.cli.main import main

main()
