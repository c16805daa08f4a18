"""``python -m hescribe.cli`` runs the command line."""

from hescribe.cli.app import main

main()
