"""Step 9: the rehearsal of an incident. The supervisors are ours, the children are actors."""

import tenacity

from spry_py import Child, RateLimited, SystemSupervisor
from spry_py.testing import Script

WAIT = tenacity.wait_exponential(multiplier=0.1, max=30)


def greeter() -> SystemSupervisor:
    steady = ["start", "wait"]
    dead_line = OSError("the line is dead")
    door = Script(["start", 2, dead_line], ["start", 0.5, dead_line], steady)
    talk = SystemSupervisor(
        [Child("sessions", Script(steady)), Child("door", door)],
        strategy="rest_for_one",
        breaker=RateLimited(1, 60.0),
    )
    children = [
        Child("store", Script(steady)),
        Child("talk", talk, backoff=WAIT),
        Child("api", Script(["start", "wait", 0.3])),
    ]
    return SystemSupervisor(children, name="greeter", strategy="rest_for_one")
