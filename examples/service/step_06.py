"""Step 6: a program as a child. It serves the backups."""

import re
import sys
from functools import partial

from spry_py import Child, DynamicSupervisor, Scope, SystemSupervisor
from spry_py.periodic import periodic
from spry_py.processes import Process, command, line

from .step_03 import PORT, answer
from .step_04 import back_up
from .step_05 import TALK_PORT, door
from .store import BACKUPS, DATABASE, Store, keep_store
from .web import Reply, Request, keep_listening, serve, text

FILES = command(
    *(sys.executable, "-um", "http.server", "0"),
    *("--bind", "127.0.0.1", "--directory", str(BACKUPS)),
    ready=line(r"port (?P<port>\d+)"),
)


async def answer_all(store: Store, files: Process[re.Match[str]], request: Request) -> Reply:
    """As `answer`, and where the latest backup is, and which process serves it."""
    match request.path:
        case "/backup":
            return text(f"http://127.0.0.1:{files.value['port']}/visits.db")
        case "/files":
            return text(str(files.pid))
    return await answer(store, request)


async def system(scope: Scope) -> None:
    socket = await scope.start(Child("socket", keep_listening, PORT))
    entrance = await scope.start(Child("entrance", keep_listening, TALK_PORT))
    store = await scope.start(Child("store", keep_store, DATABASE))
    await scope.start(Child("backup", periodic(back_up, store, every=3600, timeout=60)))
    sessions = await scope.start(Child("sessions", DynamicSupervisor(max_children=100)))
    await scope.start(Child("door", door, entrance, sessions, store))
    files = await scope.start(Child("files", FILES, start_timeout=30))
    api = partial(answer_all, store, files)
    await scope.start(Child("api", serve, socket, api, shutdown=10))


greeter = SystemSupervisor(system, name="greeter", strategy="rest_for_one")
