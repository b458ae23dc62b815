"""For tests of trees: actors that follow a script, a record of all that happens, and crashes.

After ExUnit's ``start_supervised``, Akka's TestKit and `trio.testing`. Needs nothing but spry_py; a
plugin for pytest comes along with it: the fixture ``spry`` and the marker ``@pytest.mark.spry``.
"""

from .blows import ChildCrashed, ChildRestarted
from .chaos import ChaosCrash, ChaosFailure, chaos
from .crashes import crash
from .fake_engine import FakeEngine
from .fixture import Spry
from .live_record import LiveRecord
from .opened import started
from .record import Landmark, Record
from .script import Deed, Script, Step

__all__ = [
    "ChaosCrash",
    "ChaosFailure",
    "ChildCrashed",
    "ChildRestarted",
    "Deed",
    "FakeEngine",
    "Landmark",
    "LiveRecord",
    "Record",
    "Script",
    "Spry",
    "Step",
    "chaos",
    "crash",
    "started",
]

for _public in (
    ChaosCrash,
    ChaosFailure,
    ChildCrashed,
    ChildRestarted,
    Deed,
    FakeEngine,
    LiveRecord,
    Record,
    Script,
    Spry,
    chaos,
    crash,
    started,
):
    # tracebacks and spans name where users import it from
    _public.__module__ = __name__
del _public
