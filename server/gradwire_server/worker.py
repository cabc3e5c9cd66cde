"""One of several workers of a server, as a process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

READY: Final = b"gradwire worker listens\n"
"""What it writes to standard output once it does."""


def main() -> None:
    """Serve as the arguments say: settings as JSON, its number, how many there are, and where."""
    from gradwire_server.peers import Peers
    from gradwire_server.server import serve
    from gradwire_server.settings import Settings

    settings, number, count, directory = sys.argv[1:]

    def started() -> None:
        sys.stdout.buffer.write(READY)
        sys.stdout.buffer.flush()
        # Nobody reads what else is printed there: it must not fill the pipe.
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    peers = Peers(int(number), int(count), Path(directory))
    serve(Settings.model_validate_json(settings), peers, started)


if __name__ == "__main__":
    main()
