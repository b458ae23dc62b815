"""A real cluster of Ray on this machine, on 127.0.0.1 alone, with nodes that can be killed."""

from __future__ import annotations

import os
import signal
import socket
import time
from importlib import import_module
from pathlib import Path
from typing import Any

# a raylet that is killed is noticed within two seconds, not fifteen
QUICK = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_USAGE_STATS_ENABLED": "0",
    # or else 127.0.0.1 is taken for another address of this machine
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
STORE = 100 << 20


class Farm:
    """A cluster: a head, and nodes beside it."""

    def __init__(self) -> None:
        os.environ.update(QUICK)
        self._orphans: list[str] = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port: int = free.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"
        self._make: Any = import_module("ray.cluster_utils").Cluster
        self.begin()

    def begin(self) -> None:
        """A head, always at the same address."""
        head = self._options(2) | {"gcs_server_port": self._port, "include_dashboard": False}
        self._cluster: Any = self._make(initialize_head=True, head_node_args=head)

    def _options(self, cpus: int) -> dict[str, Any]:
        return {
            "num_cpus": cpus,
            "object_store_memory": STORE,
            "node_ip_address": "127.0.0.1",
        }

    def add_node(self, **resources: float) -> Any:
        """One more node, with resources of its own."""
        return self._cluster.add_node(**self._options(1), resources=resources)

    def kill_node(self, node: Any) -> None:
        """SIGKILL for its raylet; what runs there is left to itself."""
        (raylet,) = node.all_processes["raylet"]
        pid = raylet.process.pid
        self._orphans += Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(pid, signal.SIGKILL)

    def kill_head(self) -> None:
        """SIGKILL for all of the head, which is then forgotten."""
        head = self._cluster.head_node
        for processes in head.all_processes.values():
            for one in processes:
                one.process.kill()
                one.process.wait()
        self._cluster.head_node = None

    def actors(self) -> list[str]:
        """The names of the actors that are alive, as the cluster itself lists them."""
        table: dict[str, Any] = self._cluster.global_state.actor_table(None)
        return sorted(it["Name"] for it in table.values() if it["State"] != "DEAD")

    def actors_are_gone(self, within: float = 20.0) -> bool:
        """Whether there are none any more, soon."""
        until = time.monotonic() + within
        while self.actors() and time.monotonic() < until:
            time.sleep(0.1)
        return not self.actors()

    def end(self) -> None:
        """Nothing of it is left."""
        self._cluster.shutdown()
        # helpers of a raylet notice its end in their own time
        for orphan in self._orphans:
            cmdline = Path(f"/proc/{orphan}/cmdline")
            if cmdline.exists() and b"ray" in cmdline.read_bytes():
                os.kill(int(orphan), signal.SIGKILL)
