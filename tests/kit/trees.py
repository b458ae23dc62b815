"""Random trees: what each node shall do, and a world that plays it and notes every broken law."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import tenacity
import trio
from hypothesis import strategies as st

from spry_py import (
    Backoff,
    Child,
    Ignore,
    Normal,
    RateLimited,
    RestartType,
    Scope,
    Strategy,
    SystemHandle,
    SystemSupervisor,
    cancel_on_settle,
    current_context,
)
from workers import RESTARTS, STRATEGIES, AnyChild, Crash, Refusal


@dataclass(frozen=True)
class Run:
    """What one run of a leaf does when nobody disturbs it; times in seconds."""

    begin: float
    start: Literal["ok", "refuse", "ignore"]
    life: float
    end: Literal["crash", "return"]


@dataclass(frozen=True)
class Leaf:
    """A worker: its first runs, one after another, and how it takes being asked to end."""

    runs: tuple[Run, ...]
    restart: RestartType
    shutdown: float
    listens: bool
    linger: float
    sulks: bool
    at_abort: Literal["obey", "raise", "swallow"]
    cleanup: float
    backoff: float | None
    breaker: int | None
    discard: bool


@dataclass(frozen=True)
class Branch:
    """A supervisor."""

    children: tuple[Node, ...]
    strategy: Strategy
    restarts: int
    restart: RestartType
    shutdown: float
    backoff: float | None
    as_list: bool


Node: TypeAlias = Leaf | Branch

STAY = Run(begin=0.0, start="ok", life=math.inf, end="return")

SECONDS = st.sampled_from([0.0, 0.5, 1.0, 2.5])
RUNS = st.builds(
    Run,
    begin=SECONDS,
    start=st.sampled_from(["ok", "ok", "ok", "refuse", "ignore"]),
    life=SECONDS,
    end=st.sampled_from(["crash", "crash", "return"]),
)
# A tree whose boot fails tells little; most first runs begin well.
FIRST_RUNS = st.builds(
    Run,
    begin=SECONDS,
    start=st.sampled_from(["ok"] * 20 + ["refuse", "ignore"]),
    life=st.sampled_from([0.0, 1.0, 3.0, 5.0, math.inf]),
    end=st.sampled_from(["crash", "crash", "return"]),
)
# Those that are restarted make the longer stories.
TYPES = st.sampled_from((*RESTARTS, "permanent", "permanent"))
WILD = st.builds(
    Leaf,
    runs=st.tuples(FIRST_RUNS, RUNS, RUNS, RUNS) | st.tuples(FIRST_RUNS, RUNS) | st.just(()),
    restart=TYPES,
    shutdown=st.sampled_from([0.0, 1.0, 5.0, math.inf]),
    listens=st.booleans(),
    linger=SECONDS,
    sulks=st.booleans(),
    at_abort=st.sampled_from(["obey", "obey", "raise", "swallow"]),
    cleanup=st.sampled_from([0.0, 0.5]),
    backoff=st.none() | SECONDS,
    breaker=st.none() | st.none() | st.integers(0, 2),
    discard=st.booleans(),
)


# Most are plain ones, or hardly any tree would last until its more distant runs.
PLAIN = st.builds(
    Leaf,
    runs=st.tuples(FIRST_RUNS, RUNS, RUNS) | st.just(()),
    restart=st.just("permanent"),
    shutdown=st.just(5.0),
    listens=st.booleans(),
    linger=st.just(0.0),
    sulks=st.just(False),
    at_abort=st.just("obey"),
    cleanup=st.just(0.0),
    backoff=st.none() | SECONDS,
    breaker=st.none(),
    discard=st.just(False),
)


LEAVES: st.SearchStrategy[Node] = PLAIN | WILD


def branches(depth: int, least: int = 1) -> st.SearchStrategy[Branch]:
    """Supervisors of at most so many levels, their own included, and at least so many children."""
    nodes = LEAVES if depth == 1 else LEAVES | branches(depth - 1)
    return st.builds(
        Branch,
        children=st.lists(nodes, min_size=least, max_size=4).map(tuple),
        strategy=st.sampled_from(STRATEGIES),
        restarts=st.sampled_from([100, 100, 3, 0]),
        restart=TYPES,
        shutdown=st.sampled_from([math.inf, math.inf, 2.0]),
        backoff=st.none() | SECONDS,
        as_list=st.booleans(),
    )


def walk(node: Node, path: str = "tree") -> Iterator[tuple[str, Node]]:
    """A node and everything below it, depth first, in declared order, each with its path."""
    yield path, node
    if isinstance(node, Branch):
        for number, child in enumerate(node.children):
            yield from walk(child, f"{path}/{number}")


def ancestors(path: str) -> list[str]:
    """The supervisors above a path, innermost first."""
    keys = path.split("/")
    return ["/".join(keys[:length]) for length in range(len(keys) - 1, 0, -1)]


@dataclass
class World:
    """Everything that the leaves of one tree do, and the laws they are held against."""

    root: Branch
    nodes: dict[str, Node] = field(init=False)
    leaves: list[str] = field(init=False)
    """All leaves, depth first, in declared order."""
    faults: list[str] = field(default_factory=list)
    alive: list[str] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    """Every begin of a start, in order."""
    ended: list[str] = field(default_factory=list)
    """Every end, in order."""
    raised: dict[int, tuple[BaseException, float]] = field(default_factory=dict)
    incarnations: dict[str, int] = field(default_factory=dict)
    last_words: dict[str, str] = field(default_factory=dict)
    births: dict[str, int] = field(default_factory=dict)
    deaths: dict[str, int] = field(default_factory=dict)
    """When each began and ended last, in begins and ends so far."""
    handle: SystemHandle | None = None
    values: dict[str, str] = field(default_factory=dict)
    """The started values of those that have started and live."""
    left_out: set[str] = field(default_factory=set)
    """Those whose start said ignore, and has not gone well since."""
    unordered: set[str] = field(default_factory=set)
    """Supervisors that have been aborted as a whole: those below need not end in order."""

    def __post_init__(self) -> None:
        self.nodes = dict(walk(self.root))
        self.leaves = [path for path, node in self.nodes.items() if isinstance(node, Leaf)]

    # How the tree is built.

    def supervisor(self, path: str = "tree") -> SystemSupervisor:
        branch = self.branch(path)
        below = [f"{path}/{number}" for number in range(len(branch.children))]

        async def system(scope: Scope) -> None:
            values: list[object] = []
            for child in below:
                values.append(await scope.start(self.child(child, tuple(values))))

        return SystemSupervisor(
            [self.child(child) for child in below] if branch.as_list else system,
            name="tree" if path == "tree" else None,
            strategy=branch.strategy,
            breaker=RateLimited(branch.restarts, 10.0),
        )

    def branch(self, path: str) -> Branch:
        node = self.nodes[path]
        assert isinstance(node, Branch)
        return node

    def child(self, path: str, given: tuple[object, ...] = ()) -> AnyChild:
        key, node = path.rpartition("/")[2], self.nodes[path]
        options: dict[str, Any] = {"restart": node.restart, "shutdown": node.shutdown}
        if node.backoff is not None:
            options["backoff"] = Backoff(tenacity.wait_fixed(node.backoff))
        if isinstance(node, Branch):
            return Child(key, self.supervisor(path), **options)
        if node.breaker is not None:
            options["breaker"] = RateLimited(node.breaker, 10.0)
            options["on_unrecoverable"] = "discard" if node.discard else "escalate"
        return Child(key, self.play, node, given, **options)

    # What a leaf does.

    async def play(
        self, leaf: Leaf, given: tuple[object, ...], *, task_status: trio.TaskStatus[str]
    ) -> None:
        context = current_context()
        path = context.path
        number = self.begun.count(path)
        run = leaf.runs[number] if number < len(leaf.runs) else STAY
        self.note_begin(path, context.incarnation, given)
        try:
            await self.come_up(path, run)
            self.values[path] = f"{path}, run {number}"
            task_status.started(self.values[path])
            if not leaf.listens:
                return await self.live(path, run)
            with cancel_on_settle():
                return await self.live(path, run)
            await self.settle(path, leaf)
        except trio.Cancelled:
            await self.obey(path, leaf)
        finally:
            self.note_end(path)

    async def come_up(self, path: str, run: Run) -> None:
        await trio.sleep(run.begin)
        if run.start == "ignore":
            self.last_words[path] = "ignored"
            self.left_out.add(path)
            raise Ignore
        if run.start == "refuse":
            self.last_words[path] = "refused"
            raise self.keep(Refusal(path))
        self.last_words[path] = "lives"
        self.left_out.discard(path)

    async def live(self, path: str, run: Run) -> None:
        await trio.sleep(run.life)
        if run.end == "crash":
            self.last_words[path] = "crashed"
            raise self.keep(Crash(path))
        self.last_words[path] = "returned"

    async def settle(self, path: str, leaf: Leaf) -> None:
        self.note_asked(path)
        await trio.sleep(leaf.linger)
        if leaf.sulks:
            raise self.keep(Crash(f"{path} sulks"))

    async def obey(self, path: str, leaf: Leaf) -> None:
        """Take an abort the way this leaf does."""
        self.note_asked(path)
        if leaf.cleanup:
            with trio.CancelScope(shield=True):
                await trio.sleep(leaf.cleanup)
        if leaf.at_abort == "raise":
            raise self.keep(Crash(f"{path} protests")) from None
        if leaf.at_abort == "obey":
            await trio.lowlevel.checkpoint()

    def keep(self, error: Exception) -> Exception:
        self.raised[id(error)] = (error, trio.current_time())
        return error

    # The laws.

    def note_begin(self, path: str, incarnation: int, given: tuple[object, ...]) -> None:
        """No overlaps, incarnations count up by one; a replay starts in order, with new values."""
        if path in self.alive:
            self.faults.append(f"{path} overlaps itself")
        self.expect_next_incarnation(path, incarnation)
        strategy = self.branch(ancestors(path)[0]).strategy
        if strategy != "one_for_one":
            # A replay tries those left out again, be it for the sake of later ones only.
            if path not in self.left_out:
                self.expect_nobody_later(path, "begins")
            self.expect_present_values(path, given)
        if strategy == "one_for_all":
            self.expect_new_siblings(path)
        self.alive.append(path)
        self.births[path] = len(self.begun) + len(self.ended)
        self.begun.append(path)

    def note_asked(self, path: str) -> None:
        """Whoever is asked to end is the last of those alive under its supervisor."""
        self.last_words[path] = "asked"
        in_order = not any(above in self.unordered for above in ancestors(path))
        if in_order and not any(self.may_expire(above) for above in ancestors(path)):
            self.expect_nobody_later(path, "is asked to end")

    def note_end(self, path: str) -> None:
        self.alive.remove(path)
        self.values.pop(path, None)
        self.deaths[path] = len(self.begun) + len(self.ended)
        self.ended.append(path)

    def expect_next_incarnation(self, path: str, incarnation: int) -> None:
        """One more than the last; 1 again if the supervisor is a new one."""
        before = self.incarnations.get(path, 0)
        if incarnation != before + 1 and (incarnation != 1 or path.count("/") == 1):
            self.faults.append(f"{path} was incarnation {before}, and now is {incarnation}")
        self.incarnations[path] = incarnation
        if incarnation > 1 and self.is_over(path):
            self.faults.append(f"{path} was over, and begins again")

    def is_over(self, path: str) -> bool:
        """Whether the last end in this incarnation of the supervisor was one for good."""
        restart = self.nodes[path].restart
        if self.handle is None or restart != "transient":
            return restart == "temporary"
        report = self.handle.find(path.removeprefix("tree/")).last_report
        assert report is not None
        return isinstance(report.reason, Normal) and report.burden == "none"

    def may_expire(self, path: str) -> bool:
        return path != "tree" and self.branch(path).shutdown < math.inf

    def expect_nobody_later(self, path: str, does: str) -> None:
        parent, _, key = path.rpartition("/")
        for other in self.alive:
            above, slash, below = other.partition(f"{parent}/")
            if not above and slash and int(below.partition("/")[0]) > int(key):
                self.faults.append(f"{path} {does} while {other} is alive")

    def expect_present_values(self, path: str, given: tuple[object, ...]) -> None:
        parent = ancestors(path)[0]
        for number, value in enumerate(given):
            present = self.values.get(f"{parent}/{number}", value)
            if value != present:
                self.faults.append(f"{path} was given {value}, but there is {present}")

    def expect_new_siblings(self, path: str) -> None:
        """Whoever is alive when one of all begins again has begun again, too."""
        parent = ancestors(path)[0]
        for other in self.alive:
            siblings = other.rpartition("/")[0] == parent
            if siblings and self.births[other] < self.deaths.get(path, -1):
                self.faults.append(f"{path} begins again, and {other} has not")
