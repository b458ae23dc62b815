"""A visitor of the greeter: python3 -m examples.service.visitor NAME... [--stay]

Sends one name after another, and prints what it gets for each. With ``--stay`` it waits for what
else may come, until the greeter hangs up.
"""

import os
import socket
import sys

PORT = int(os.environ.get("TALK_PORT", "8090"))


def main(*names: str) -> None:
    with socket.create_connection(("127.0.0.1", PORT), 30) as connection:
        lines = connection.makefile(encoding="utf-8")
        for name in names:
            if name == "--stay":
                print(lines.read(), end="", flush=True)
                return
            connection.sendall(os.fsencode(name) + b"\n")
            print(lines.readline(), end="", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
