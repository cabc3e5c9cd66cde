"""Keeps the leases of idle sessions: one daemon thread for all sessions of the process."""

import os
import threading
import time
from typing import Protocol


class Leased(Protocol):
    """What has a lease: a session."""

    @property
    def ttl(self) -> float:
        """Seconds of idleness after which it would expire."""
        ...

    @property
    def last_used(self) -> float:
        """`time.monotonic()` of the last request."""
        ...

    def keep_alive(self) -> None:
        """Renew the lease; failures are the session's to notice."""
        ...


class Keeper:
    """Renews each lease when a third of its time has passed without a request."""

    def __init__(self) -> None:
        self._held: list[Leased] = []
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, leased: Leased) -> None:
        """Keep this lease too."""
        with self._wake:
            self._held.append(leased)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="gradwire-leases", daemon=True
                )
                self._thread.start()
            self._wake.notify()

    def discard(self, leased: Leased) -> None:
        """Keep this lease no longer."""
        with self._wake:
            if leased in self._held:
                self._held.remove(leased)
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._held:
                    self._thread = None
                    return
                now = time.monotonic()
                due = [each for each in self._held if _due(each) <= now]
                if not due:
                    self._wake.wait(min(_due(each) for each in self._held) - now)
            for each in due:
                each.keep_alive()


def _due(leased: Leased) -> float:
    return leased.last_used + leased.ttl / 3


keeper = Keeper()


def _forget_after_fork() -> None:
    global keeper
    keeper = Keeper()


os.register_at_fork(after_in_child=_forget_after_fork)
