"""A service that greets everyone who calls, as docs/tutorial builds it step by step.

    spry-py run examples.service.step_01:greeter                            ten lines, and a crash
    ...
    spry-py run examples.service:greeter --health 8081 --drain 5 --reload   the whole

`greeter.service` is a unit file for systemd, `kubernetes.yaml` a manifest for Kubernetes; both run
the last line. The configuration is `greeter.toml`, or the file that GREETER_CONFIG names; the
database is in the directory GREETER_DATA. HOST, PORT and TALK_PORT are where to listen.

    greeter           rest_for_one: what comes later uses what comes earlier
    ├─ socket         listens for HTTP, and outlives the servers
    ├─ entrance       listens for those who talk
    ├─ store          the visits, in SQLite
    ├─ backup         copies the database now and then
    ├─ talk           fails alone
    │  ├─ sessions    one child for each visitor
    │  └─ door        hands each visitor over to a session
    ├─ files          a program: serves the backups
    └─ api            finishes the requests that it has begun, in its 10 seconds
"""

from .step_08 import greeter

__all__ = ["greeter"]
