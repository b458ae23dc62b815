"""A process that is the other side, for tests of what only a process can do: `python farside.py`.

Letters are pickles, each on a line of its own in base64, on stdin and stdout.
"""

from __future__ import annotations

import base64
import pickle
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from spry_py.remote import Far


def post(far: Far) -> None:
    while True:
        for report in far.collect(60):
            sys.stdout.write(base64.b64encode(pickle.dumps(report)).decode() + "\n")
            sys.stdout.flush()


def main() -> None:
    far = Far("far side")
    threading.Thread(target=post, args=(far,), daemon=True).start()
    for line in sys.stdin:
        far.deliver([pickle.loads(base64.b64decode(line))])


if __name__ == "__main__":
    main()
