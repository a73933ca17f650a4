"""Processes that a pool has started, and whose first process was killed: it could not say goodbye, and they would wait for ever."""

import os
import signal
import threading
from multiprocessing import parent_process


def end_with_parent() -> None:
    """Send this process SIGTERM as soon as the one that started it is gone; end it where that is ignored. Called once, when it begins."""

    def watch() -> None:
        parent_process().join()
        if signal.getsignal(signal.SIGTERM) == signal.SIG_IGN:
            os._exit(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def orphaned() -> bool:
    """Whether nobody is left to whom a result could be given."""
    return not parent_process().is_alive()
