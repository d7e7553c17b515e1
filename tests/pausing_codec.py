"""The command line on the fake codec, which stops where an output is half written.

It leaves a file in the folder PAUSED when it has come there, and stays until it is ended.
"""

import os
import signal
import sys
import time
from pathlib import Path

import fake_codec


def pause(fd: object) -> None:
    Path(os.environ["PAUSED"], str(os.getpid())).touch()
    time.sleep(60)


os.fsync = pause
sys.modules.update(fake_codec.modules())

if __name__ == "__main__":
    from vqzip.cli import main

    # It may be ignored, where the tests run in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
