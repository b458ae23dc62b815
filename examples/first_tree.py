"""The first tree of README.md: spry-py run examples.first_tree:tree --for 1.5"""

import trio

from spry_py import Child, Scope, SystemSupervisor, cancel_on_settle, current_context


async def connect(*, task_status: trio.TaskStatus[str]) -> None:
    task_status.started(f"connection {current_context().incarnation}")
    await trio.sleep(1)
    raise ConnectionResetError("the database went away")


async def serve(connection: str) -> None:
    print(f"serving with {connection}")
    with cancel_on_settle():
        await trio.sleep_forever()
    print(f"hanging up {connection}")


async def shop(scope: Scope) -> None:
    connection = await scope.start(Child("db", connect))
    await scope.start(Child("api", serve, connection))


tree = SystemSupervisor(shop, strategy="rest_for_one")
