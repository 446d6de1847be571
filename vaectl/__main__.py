"""The entry point of ``vaectl``, and of ``python -m vaectl``, which torchrun starts, too."""

import contextlib
import os
import signal
import sys
from types import FrameType

from vaectl.system.signals import OUTCOMES, heeded


def main() -> None:
    """Run the command line and exit, without a traceback whenever a signal comes."""
    signals = heeded()
    for signum in signals:
        signal.signal(signum, leave)
    from vaectl.system.streams import open_closed

    open_closed()
    from vaectl.cli import app

    try:
        app()  # handles signals itself
    finally:
        # only the interpreter's own cleanup is left
        for signum in signals:
            signal.signal(signum, signal.SIG_IGN)


def leave(signum: int, frame: FrameType | None) -> None:
    """Handle a signal while the modules are imported: there is nothing to clean up, and no module to print with yet."""
    if "LOCAL_RANK" in os.environ and os.environ.get("RANK", "0") != "0":  # only the first of several processes prints
        os._exit(128 + signum)
    message = OUTCOMES[signal.Signals(signum)]
    with contextlib.suppress(OSError):  # the terminal may be gone
        os.write(2, f"error: {message}\n".encode())
    if "--json" in sys.argv:
        document = f'{{"error": {{"code": "interrupted", "message": "{message}", "hint": null}}}}\n'
        with contextlib.suppress(OSError):
            os.write(1, document.encode())
    os._exit(128 + signum)


if __name__ == "__main__":
    main()
