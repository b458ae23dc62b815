"""What an error of Ray means for the process behind an actor."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class End:
    """Nothing is heard of a process any more; ``is_dead`` if no code of it runs for certain."""

    why: str
    is_dead: bool


def end_of(error: BaseException, name: str) -> End | None:
    """What has come of a process; ``None`` if it is out of reach for the moment.

    Ray calls an actor dead when it has decided to have it so: when its machine is not heard of any
    more, or as soon as it is to be killed. Its process may live on. It is known to be dead if its
    raylet, beside it, has seen its connection end unexpectedly. Of Ray this is known by its words
    alone; other words than these do no harm, for then leases have to run out.
    """
    errors: Any = import_module("ray.exceptions")
    text = str(error)
    if isinstance(error, errors.ActorUnavailableError):
        return None
    if isinstance(error, errors.ActorUnschedulableError):
        return End("its machine has left the cluster before it began", is_dead=True)
    if not isinstance(error, errors.ActorDiedError):
        return End(f"{name} cannot be reached: {first_line(text)}", is_dead=False)
    return end_of_actor(error, text, name)


def end_of_actor(error: Any, text: str, name: str) -> End:
    """What has come of the process of an actor that Ray calls dead."""
    if error.actor_init_failed:
        return End(f"its process could not be set up there:\n{text}", is_dead=True)
    if "never ran" in text:
        return End("it never began: Ray has taken its process back", is_dead=True)
    if "its worker process has died" in text and "SYSTEM_ERROR" in text:
        return End(f"{name} has died", is_dead=True)
    if "its node has died" in text:
        return End(f"the machine of {name} is not heard of any more", is_dead=False)
    return End(f"{name} has ended, by Ray's word: {last_line(text)}", is_dead=False)


def first_line(text: str) -> str:
    """The first line with anything in it."""
    return next((line for line in text.splitlines() if line.strip()), "")


def last_line(text: str) -> str:
    """The last line with anything in it."""
    return first_line("\n".join(reversed(text.splitlines())))
