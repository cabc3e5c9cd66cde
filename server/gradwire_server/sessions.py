"""All sessions of a server: opening, finding, listing, expiring, closing."""

from __future__ import annotations

import asyncio
import itertools
from typing import Final

from gradwire_server.errors import ServiceError, session_not_found, shutting_down
from gradwire_server.session import Host, Session

_CALL_ENDED: Final = ServiceError("SESSION_NOT_FOUND", "the session has ended with its call")
"""Why a session of one call ends; nobody is told."""


class Sessions:
    """The open sessions, oldest first."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._open: dict[str, Session] = {}
        self._ephemeral: set[Session] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._ordinals = itertools.count(1)
        self._draining = False

    def open(
        self, *, ttl: float | None = None, display_name: str = "", seed: int | None = None
    ) -> Session:
        """Open a session; `ttl` in seconds, at most the maximum is granted.

        Raises:
            ServiceError: TOO_MANY_SESSIONS, SHUTTING_DOWN.
        """
        settings = self._host.settings
        if self._draining:
            raise shutting_down()
        if len(self._open) >= settings.max_sessions:
            raise ServiceError(
                "TOO_MANY_SESSIONS",
                f"the server has {len(self._open):,} sessions and admits no more; delete one that "
                "is no longer needed, or try again when some have expired",
                metadata={
                    "limit": "max_sessions",
                    "value": len(self._open) + 1,
                    "maximum": settings.max_sessions,
                },
                retry_after=1.0,
            )
        wanted = settings.default_ttl_seconds if ttl is None else ttl
        granted = min(wanted, settings.max_ttl_seconds)
        session = Session(
            self._host,
            ordinal=next(self._ordinals),
            ttl=granted,
            display_name=display_name,
            seed=seed,
        )
        self._open[session.id] = session
        self._watch(session)
        self._host.log.info("session opened", session=session.id, name=display_name, ttl=granted)
        return session

    def open_ephemeral(self) -> Session:
        """A session for one call, which nobody else can name.

        Raises:
            ServiceError: SHUTTING_DOWN.
        """
        if self._draining:
            raise shutting_down()
        session = Session(
            self._host,
            ordinal=next(self._ordinals),
            ttl=self._host.settings.max_ttl_seconds,
            ephemeral=True,
        )
        self._ephemeral.add(session)
        return session

    def close_ephemeral(self, session: Session) -> None:
        """End such a session."""
        self._ephemeral.discard(session)
        session.close(_CALL_ENDED if session.idle else session_not_found(session.id))

    def find(self, session_id: str) -> Session:
        """The open session of that id. Does not renew its lease.

        Raises:
            ServiceError: SESSION_NOT_FOUND.
            ElsewhereError: another worker would know.
        """
        session = self._open.get(session_id)
        if session is None:
            self._host.peers.require_mine(session_id)
            raise session_not_found(session_id)
        return session

    def list(self) -> list[Session]:
        """All open sessions, oldest first."""
        return list(self._open.values())

    def close(self, session: Session) -> None:
        """End a session."""
        self._remove(session)
        self._host.log.info("session closed", session=session.id)

    def _remove(self, session: Session) -> None:
        del self._open[session.id]
        self._timers.pop(session.id).cancel()
        session.close(session_not_found(session.id))

    def _watch(self, session: Session) -> None:
        """Look again when the lease would run out, if nothing renewed it."""
        left = session.expires_in
        if left <= 0:
            self._remove(session)
            self._host.log.info("session expired", session=session.id, ttl=session.ttl)
            return
        loop = asyncio.get_running_loop()
        self._timers[session.id] = loop.call_later(left, self._watch, session)

    def stop_all(self) -> None:
        """Stop what runs or waits, with SHUTTING_DOWN as its answer."""
        for session in (*self._open.values(), *self._ephemeral):
            session.stop_all(shutting_down())

    @property
    def draining(self) -> bool:
        """Whether no new work is taken in."""
        return self._draining

    async def drain(self, seconds: float) -> None:
        """Take in nothing new, and wait until what was accepted has ended.

        After `seconds` what is left is stopped, with SHUTTING_DOWN as its answer.
        """
        self._draining = True
        sessions = [*self._open.values(), *self._ephemeral]
        waiting = [asyncio.ensure_future(each.settled()) for each in sessions if not each.idle]
        if not waiting:
            return
        _, late = await asyncio.wait(waiting, timeout=seconds)
        if late:
            self._host.log.warning("drain timed out", sessions=len(late))
            self.stop_all()
            await asyncio.wait(late, timeout=1.0)
            for task in late:
                task.cancel()
