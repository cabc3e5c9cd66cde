"""`python -m gradwire_server` is the `gradwire` command."""

from gradwire_server.cli import app

app()
