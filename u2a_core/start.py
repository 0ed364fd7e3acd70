"""`u2a` from its first moment: Ctrl-C ends it without a traceback while it is loaded."""

import signal


def main() -> int:
    """The command line; returns the exit code."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from u2a_core import cli

    signal.signal(signal.SIGINT, before)
    return cli.main()
