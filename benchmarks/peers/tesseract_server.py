"""The server of `tesseract`: its runtime, with the component that it is asked for."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from benchmarks.peers.ports import announce, free_port

OUTPUT = Path(__file__).resolve().parents[2] / "build" / "bench" / "tesseract"


def main(component: str) -> None:
    os.environ["TESSERACT_API_PATH"] = str(Path(__file__).with_name(f"tesseract_{component}.py"))
    # It leaves a folder there for each request.
    shutil.rmtree(OUTPUT, ignore_errors=True)
    os.environ["TESSERACT_OUTPUT_PATH"] = str(OUTPUT)
    from tesseract_core.runtime.serve import serve

    port = free_port()
    announce(port)
    serve("127.0.0.1", port, 1)


if __name__ == "__main__":
    main(sys.argv[1])
