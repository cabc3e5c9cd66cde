"""The RPCs of `AutogradService`.

Every method takes bytes and gives bytes: parsing here, not in gRPC, lets a message that does not
parse be refused with a reason, and lets payloads be split off without a copy.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter
from typing import Any, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message

from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import SERVICE, WireError, split_message, split_piece
from gradwire_engine.context import use
from gradwire_server import __version__
from gradwire_server.calls import explain
from gradwire_server.encode import Answer
from gradwire_server.errors import (
    ServiceError,
    abort,
    failure_of,
    malformed,
    session_not_found,
    shutting_down,
    stream_unread,
)
from gradwire_server.graph import read_graph
from gradwire_server.hooks import Line
from gradwire_server.inbox import Inbox
from gradwire_server.jobs import Work
from gradwire_server.limits import limits_message, message_too_large
from gradwire_server.operators import list_operators
from gradwire_server.outbox import Outbox, Outcome, answer_of
from gradwire_server.pages import bad_token, make_numbers, page_size, read_numbers
from gradwire_server.peers import ElsewhereError
from gradwire_server.requests import read_request, read_usual
from gradwire_server.sequences import StepSequence
from gradwire_server.session import Host, Session
from gradwire_server.sessions import Sessions
from gradwire_server.transfers import Upload
from gradwire_server.workspace import Workspace

_LIST = b"ListSessions"

FEATURES: tuple[str, ...] = ("gradcheck", "profile", "programs", "transfers")
"""Optional abilities of this server, as `CreateSessionResponse.features`."""

_MAX_DISPLAY_NAME = 200
_PROGRAM_INLINE = 100
"""Programs of fewer steps are checked on the event loop."""
_HANDLES_INLINE = 1000
"""Sessions of together up to this many handles are described on the event loop."""
Context = grpc.aio.ServicerContext[bytes, bytes]
Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


class AutogradService:
    """The methods, over the sessions of one server."""

    def __init__(self, host: Host, sessions: Sessions) -> None:
        self._host = host
        self._settings = host.settings
        self._sessions = sessions
        self._peers = host.peers
        self._streams: set[asyncio.Task[Any]] = set()
        self._reading: set[asyncio.Task[Any]] = set()
        self._ending = False

    def handler(self) -> grpc.GenericRpcHandler:
        """What a gRPC server is to be given."""
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: grpc.unary_unary_rpc_method_handler(method)
            for name, method in (
                self._unary("CreateSession", pb.CreateSessionRequest, self.create_session),
                self._unary("GetSession", pb.GetSessionRequest, self.get_session),
                self._unary("ListSessions", pb.ListSessionsRequest, self.list_sessions),
                self._unary("DeleteSession", pb.DeleteSessionRequest, self.delete_session),
                self._unary("KeepAlive", pb.KeepAliveRequest, self.keep_alive),
                self._unary("CreateProgram", pb.CreateProgramRequest, self.create_program),
                self._unary("ListPrograms", pb.ListProgramsRequest, self.list_programs),
                self._unary("DeleteProgram", pb.DeleteProgramRequest, self.delete_program),
                self._unary("ExplainProgram", pb.ExplainProgramRequest, self.explain_program),
                self._unary("GetGraph", pb.GetGraphRequest, self.get_graph),
                self._unary("ListOperators", pb.ListOperatorsRequest, self.list_operators),
                ("Run", self.run),
            )
        }
        handlers["RunStream"] = grpc.stream_stream_rpc_method_handler(self.run_stream)
        handlers["Upload"] = grpc.stream_unary_rpc_method_handler(self.upload)
        handlers["Download"] = grpc.unary_stream_rpc_method_handler(self.download)
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _unary(
        self,
        name: str,
        message_class: type[Request],
        method: Callable[[Request], Awaitable[Message]],
    ) -> tuple[str, Callable[[bytes, Context], Awaitable[bytes]]]:
        async def handle(data: bytes, context: Context) -> bytes:
            try:
                self._require_size(data)
                response = await method(_parse(message_class, data))
                return response.SerializeToString()
            except ElsewhereError as error:
                ending = self._peers.unary(error.worker, name, data, context)
            except Exception as error:
                ending = abort(context, self._failure(error))
            return await ending

        return name, handle

    async def create_session(self, request: pb.CreateSessionRequest) -> pb.CreateSessionResponse:
        """Open a session.

        Raises:
            ServiceError: BAD_VALUE, TOO_MANY_SESSIONS, SHUTTING_DOWN.
        """
        ttl = None
        if request.HasField("ttl"):
            ttl = request.ttl.seconds + request.ttl.nanos / 1e9
            if ttl <= 0:
                raise ServiceError(
                    "BAD_VALUE",
                    f"a ttl of {ttl} s is not positive; leave it out for the server's default",
                    field="ttl",
                    metadata={"ttl": ttl},
                )
        if len(request.display_name) > _MAX_DISPLAY_NAME:
            raise ServiceError(
                "BAD_VALUE",
                f"the display name has {len(request.display_name)} characters; at most "
                f"{_MAX_DISPLAY_NAME} are admitted",
                field="display_name",
                metadata={"length": len(request.display_name), "maximum": _MAX_DISPLAY_NAME},
            )
        seed = request.seed if request.HasField("seed") else None
        session = self._sessions.open(ttl=ttl, display_name=request.display_name, seed=seed)
        return pb.CreateSessionResponse(
            session=session.describe(),
            limits=limits_message(self._settings),
            server_version=__version__,
            features=FEATURES,
        )

    async def get_session(self, request: pb.GetSessionRequest) -> pb.GetSessionResponse:
        """Describe a session.

        Raises:
            ServiceError: SESSION_NOT_FOUND.
        """
        session = self._sessions.find(request.session_id)
        (described,) = await self._describe([session])
        return pb.GetSessionResponse(session=described)

    async def list_sessions(self, request: pb.ListSessionsRequest) -> pb.ListSessionsResponse:
        """One page of the sessions.

        Raises:
            ServiceError: BAD_VALUE, BAD_PAGE_TOKEN.
        """
        size = page_size(request.page_size, 50, 1000)
        worker, after = read_numbers(_LIST, request.page_token, 2) or (0, 0)
        peers = self._peers
        if worker >= peers.count:
            raise bad_token(request.page_token)
        if worker != peers.mine:
            raise ElsewhereError(worker)
        sessions = [each for each in self._sessions.list() if each.ordinal > after]
        response = pb.ListSessionsResponse(sessions=await self._describe(sessions[:size]))
        if len(sessions) > size:
            response.next_page_token = make_numbers(_LIST, worker, sessions[size - 1].ordinal)
        elif worker + 1 < peers.count:
            response.next_page_token = make_numbers(_LIST, worker + 1, 0)
            if len(sessions) < size:
                request.page_size = size - len(sessions)
                request.page_token = response.next_page_token
                answer = await peers.ask(worker + 1, "ListSessions", request.SerializeToString())
                rest = pb.ListSessionsResponse.FromString(answer)
                response.sessions.extend(rest.sessions)
                response.next_page_token = rest.next_page_token
        return response

    async def _describe(self, sessions: list[Session]) -> list[pb.Session]:
        def describe() -> list[pb.Session]:
            return [each.describe() for each in sessions]

        if sum(len(each.workspace) for each in sessions) < _HANDLES_INLINE:
            return describe()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._host.threads, describe)

    async def delete_session(self, request: pb.DeleteSessionRequest) -> pb.DeleteSessionResponse:
        """End a session.

        Raises:
            ServiceError: SESSION_NOT_FOUND.
        """
        self._sessions.close(self._sessions.find(request.session_id))
        return pb.DeleteSessionResponse()

    async def keep_alive(self, request: pb.KeepAliveRequest) -> pb.KeepAliveResponse:
        """Renew a lease.

        Raises:
            ServiceError: SESSION_NOT_FOUND.
        """
        session = self._sessions.find(request.session_id)
        session.renew()
        response = pb.KeepAliveResponse()
        response.expire_time.FromNanoseconds(int(session.expire_time * 1e9))
        return response

    async def get_graph(self, request: pb.GetGraphRequest) -> pb.GetGraphResponse:
        """Read a session's graph, between its sequences.

        Raises:
            ServiceError: SESSION_NOT_FOUND, and what `read_graph` raises.
        """

        def read(workspace: Workspace) -> pb.GetGraphResponse:
            return read_graph(workspace, request)

        return await self._between(request.session_id, read, lambda found: found.is_small)

    async def create_program(self, request: pb.CreateProgramRequest) -> pb.CreateProgramResponse:
        """Keep a program in a session.

        Raises:
            ServiceError: SESSION_NOT_FOUND, and what `Programs.create` raises.
        """
        session_id = request.session_id
        request.ClearField("session_id")

        def create(workspace: Workspace) -> pb.CreateProgramResponse:
            stored = workspace.programs.create(workspace, request)
            return pb.CreateProgramResponse(program=stored.describe())

        is_short = len(request.program.steps) < _PROGRAM_INLINE
        return await self._between(session_id, create, lambda _: is_short)

    async def list_programs(self, request: pb.ListProgramsRequest) -> pb.ListProgramsResponse:
        """One page of a session's programs.

        Raises:
            ServiceError: SESSION_NOT_FOUND, BAD_VALUE, BAD_PAGE_TOKEN.
        """
        session = self._sessions.find(request.session_id)
        return session.workspace.programs.page(request)

    async def delete_program(self, request: pb.DeleteProgramRequest) -> pb.DeleteProgramResponse:
        """Drop a program, between sequences.

        Raises:
            ServiceError: SESSION_NOT_FOUND, PROGRAM_NOT_FOUND.
        """

        def delete(workspace: Workspace) -> pb.DeleteProgramResponse:
            programs = workspace.programs
            programs.drop((programs.find(request.program, "program").id,))
            return pb.DeleteProgramResponse()

        return await self._between(request.session_id, delete, lambda _: True)

    async def explain_program(self, request: pb.ExplainProgramRequest) -> pb.ExplainProgramResponse:
        """Tell how a program is run.

        Raises:
            ServiceError: SESSION_NOT_FOUND, PROGRAM_NOT_FOUND, and what `explain` raises.
        """

        def tell(workspace: Workspace) -> pb.ExplainProgramResponse:
            return pb.ExplainProgramResponse(text=explain(workspace, request))

        return await self._between(request.session_id, tell, lambda _: False)

    async def _between(
        self,
        session_id: str,
        function: Callable[[Workspace], Response],
        light: Callable[[Workspace], bool],
    ) -> Response:
        """Call a function between the sequences of a session, within its context."""
        session = self._sessions.find(session_id)
        session.renew()
        workspace = session.workspace

        def call() -> Response:
            with use(workspace.context):
                return function(workspace)

        return await session.call(call, lambda: light(workspace))

    async def list_operators(self, request: pb.ListOperatorsRequest) -> pb.ListOperatorsResponse:
        """One page of the operators.

        Raises:
            ServiceError: BAD_VALUE, BAD_PAGE_TOKEN.
        """
        return list_operators(request)

    async def run(self, data: bytes, context: Context) -> bytes:
        """Run one sequence; with no session, in one of its own."""
        ephemeral: Session | None = None
        outcome: Outcome | None = None
        try:
            self._require_size(data)
            session_id, sequence, payloads = read_request(data)
            if session_id:
                session = self._find_for_work(session_id)
            else:
                repeats = sequence.repeats
                if repeats is not None and not self._sessions.draining:
                    known = repeats.answer(None, payloads, self._settings)
                    if known is not None:
                        return known.data
                session = ephemeral = self._sessions.open_ephemeral()
            # None where the call has no deadline, whatever the stubs say.
            left = cast("float | None", context.time_remaining())
            deadline = math.inf if left is None else perf_counter() + left
            outcome = session.submit(sequence, payloads, data, deadline)
            # Mostly it is there, and there is nothing to wait for.
            answer = outcome if isinstance(outcome, Answer) else await answer_of(outcome)
            if answer.failure is None:
                return answer.data
            ending = abort(context, answer.failure)
        except asyncio.CancelledError:
            if isinstance(outcome, Work):
                outcome.abandon()
            raise
        except ElsewhereError as error:
            ending = self._peers.unary(error.worker, "Run", data, context)
        except Exception as error:
            ending = abort(context, self._failure(error))
        finally:
            if ephemeral is not None:
                self._sessions.close_ephemeral(ephemeral)
        return await ending

    async def run_stream(self, _: object, context: Context) -> None:
        """Run sequences of one session as they come; answer in order."""
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        inbox = Inbox(context.read)
        outbox = Outbox(context.write, self._settings.max_queued_sequences, task.cancel)
        loop = asyncio.get_running_loop()
        line = Line(lambda data: loop.call_soon_threadsafe(outbox.interject, data))
        ending: Awaitable[object]
        try:
            try:
                elsewhere = await self._serve_stream(task, inbox, outbox, line)
                line.hang_up("it will send no more answers on this stream")
                await outbox.drained()
                if elsewhere is None:
                    return
                worker, first = elsewhere
                ending = self._peers.run_stream(worker, first, context)
            except asyncio.CancelledError:
                # Either the client is gone, or does not read, or the server is leaving.
                if not outbox.is_given_up and not self._sessions.draining:
                    raise
                await outbox.drained()
                ending = abort(
                    context,
                    stream_unread(self._settings.transfer_seconds)
                    if outbox.is_given_up
                    else shutting_down(),
                )
            except Exception as error:
                failure = self._failure(error)
                await outbox.drained()
                ending = abort(context, failure)
        finally:
            self._streams.discard(task)
            self._reading.discard(task)
            line.hang_up("its stream has ended")
            inbox.close()
            outbox.close()
        await ending

    async def _serve_stream(
        self, task: asyncio.Task[Any], inbox: Inbox, outbox: Outbox, line: Line
    ) -> tuple[int, bytes] | None:
        """Serve a stream until the client ends it.

        Returns:
            The worker that owns the session, and the message that named it; None if that is this.
        """
        session: Session | None = None
        while not self._ending:
            self._reading.add(task)
            data: Any = await inbox.get()
            self._reading.discard(task)
            if data is grpc.aio.EOF:
                return None
            try:
                self._require_size(data)
                too_large = None
            except ServiceError as error:
                too_large = error
            found = read_usual(data)
            if found is not None:
                session_id, sequence, payloads = found
            else:
                request, payloads = split_message(pb.RunStreamRequest, data)
                session_id = request.session_id
            try:
                session = self._session_of(session, session_id)
            except ElsewhereError as error:
                return error.worker, data
            if found is None:
                kind = request.WhichOneof("kind")
                if kind == "cancel":
                    session.cancel(request.cancel.number)
                    continue
                if kind == "hook_answer":
                    line.answer(request.hook_answer, payloads, too_large)
                    continue
                if kind != "sequence":
                    raise malformed(
                        "the request has neither a sequence, nor a cancel, nor a hook_answer",
                        "kind",
                    )
                sequence = StepSequence.read(request.sequence)
                del request
            try:
                if too_large is not None:
                    raise too_large
                if self._sessions.draining:
                    raise shutting_down()
                if sequence.number > sequence.acknowledged + 1:
                    # Its client does not wait for each answer, so there may be more.
                    await inbox.read_ahead()
                outcome = session.submit(sequence, payloads, data, line=line, outlet=outbox)
            except ServiceError as failure:
                if failure.reason == "SESSION_NOT_FOUND":
                    raise
                outcome = Answer.refusal(sequence.number, failure)
            # Large messages are not to be kept alive until the next one is here.
            del payloads, data, sequence, found
            await outbox.put(outcome, at_once=not inbox.is_ahead)
        raise shutting_down()

    async def upload(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        """Take in the pieces of a tensor; how much of it is there when they end."""
        messages = aiter(requests)
        first = b""
        try:
            first = await anext(messages, b"")
            return await self._take_in(first, messages)
        except ElsewhereError as error:
            ending = self._peers.upload(error.worker, first, messages, context)
        except Exception as error:
            ending = abort(context, self._failure(error))
        return await ending

    async def _take_in(self, data: bytes, following: AsyncIterator[bytes]) -> bytes:
        session: Session | None = None
        upload: Upload | None = None
        while data:
            self._require_size(data)
            request, piece = split_piece(pb.UploadRequest, data)
            if session is None or upload is None:
                session = self._find_for_work(request.session_id)
                upload = await session.begin_upload(request.upload, request.total_bytes)
            elif self._ending:
                raise shutting_down()
            session.renew()
            if piece:
                upload.add(request.offset, piece, request.checksum)
            # A message of no bytes would be one that says nothing.
            data = await anext(following, b"")
        if upload is None:
            raise malformed("the call ended without a request that names its session", "session_id")
        return pb.UploadResponse(received_bytes=upload.received).SerializeToString()

    async def download(self, data: bytes, context: Context) -> None:
        """Give out a value in pieces."""
        ending: Awaitable[object]
        try:
            self._require_size(data)
            request = _parse(pb.DownloadRequest, data)
            session = self._sessions.find(request.session_id)
            transfers = session.workspace.transfers
            download = transfers.download(request.download)
            at, end = request.offset, len(download.data)
            if at > end:
                raise ServiceError(
                    "BAD_VALUE",
                    f"offset {at:,} is behind the end of a value of {end:,} bytes",
                    field="offset",
                    metadata={"offset": at, "total_bytes": end},
                )
            while at < end:
                session.renew()
                message, at = transfers.piece(download, at)
                await context.write(message)
            return
        except ElsewhereError as error:
            ending = self._peers.download(error.worker, data, context)
        except Exception as error:
            ending = abort(context, self._failure(error))
        await ending

    def _session_of(self, session: Session | None, session_id: str) -> Session:
        """The session of a stream: named in the first request, at most repeated later."""
        if session is None:
            if not session_id:
                raise malformed("the first request of a stream must name its session", "session_id")
            return self._find_for_work(session_id)
        if session_id and session_id != session.id:
            raise malformed("a stream serves one session; open another stream", "session_id")
        if session.closed:
            raise session_not_found(session.id)
        return session

    def _find_for_work(self, session_id: str) -> Session:
        session = self._sessions.find(session_id)
        if self._sessions.draining:
            raise shutting_down()
        return session

    def end_streams(self) -> None:
        """Tell the clients of all open streams that the server is leaving."""
        self._ending = True
        # One that writes is left to notice by itself: gRPC cannot end a call whose write was
        # broken off.
        for task in self._reading:
            task.cancel()

    async def streams_ended(self, seconds: float) -> None:
        """Wait until all streams have ended."""
        if self._streams:
            await asyncio.wait(list(self._streams), timeout=seconds)

    def _require_size(self, data: bytes) -> None:
        maximum = self._settings.max_message_bytes
        if len(data) > maximum:
            raise message_too_large(len(data), maximum, "the request")

    def _failure(self, error: Exception) -> ServiceError:
        failure = failure_of(error)
        if failure.reason == "INTERNAL" and failure.__cause__ is not None:
            self._host.log.error(
                "internal error",
                error_id=failure.metadata["error_id"],
                exc_info=failure.__cause__,
            )
            failure.__cause__ = None
        return failure


def _parse(message_class: type[Request], data: bytes) -> Request:
    try:
        return message_class.FromString(data)
    except DecodeError:
        raise WireError(
            "MALFORMED_REQUEST",
            f"the bytes are not a valid {message_class.__name__}",
            {"message": message_class.__name__},
        ) from None
