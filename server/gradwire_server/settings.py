"""Every setting of the server: its default, its bounds, its meaning.

Each field is also a flag of `gradwire serve` (`max_sessions` is `--max-sessions`) and an
environment variable (`GRADWIRE_MAX_SESSIONS`). A flag outweighs a variable.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

if TYPE_CHECKING:
    from gradwire_engine.context import Limits

MIB = 1 << 20
GIB = 1 << 30


class Settings(BaseSettings):
    """How a server listens, what it admits, and how it ends."""

    model_config = SettingsConfigDict(env_prefix="GRADWIRE_", extra="forbid", frozen=True)

    address: str = Field(
        "127.0.0.1:50051",
        description="Where to listen: HOST:PORT or unix:PATH; port 0 picks a free one.",
    )
    workers: int = Field(
        1, ge=0, le=256, description="Processes that share the port; 0: one a processor core."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least level that is logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="Form of log lines; auto: console on a terminal, JSON elsewhere."
    )
    profile: bool = Field(
        False, description="Profile every sequence: tell the client, and log where time went."
    )
    drain_seconds: float = Field(
        30.0, ge=0, description="Time for accepted sequences to finish at shutdown."
    )

    retained_bytes: int = Field(
        512 * MIB,
        ge=0,
        description="Freed memory kept for the next large tensors, with glibc; 0: none.",
    )

    threads: int = Field(
        0, ge=0, description="Threads for heavy sequences; 0: one a processor core."
    )
    kernel_threads: int = Field(
        0,
        ge=0,
        description="Threads that one operator may use; 0: what BLAS and OMP_NUM_THREADS say.",
    )
    inline_milliseconds: float = Field(
        4.0, ge=0, description="Longest that one sequence runs on the event loop before a thread."
    )
    inline_flops: int = Field(
        1_000_000, ge=0, description="A step estimated above this goes to a thread at once."
    )
    compile_after: int = Field(
        32,
        ge=0,
        description="Answers after which a short sequence without a number is compiled; 0: never.",
    )
    hook_seconds: float = Field(
        60.0, gt=0, description="Time that a client has to answer a call of its hook."
    )

    default_ttl_seconds: float = Field(
        3600.0, gt=0, description="Idle time after which a session expires, where none is asked."
    )
    max_ttl_seconds: float = Field(
        86400.0, gt=0, description="Longest idle time that a session is granted."
    )
    max_sessions: int = Field(1000, ge=1, description="Sessions at a time.")

    # A client's allocator does not keep larger blocks: each copy of a larger message would cost a
    # page fault for each 4 KiB, and the same bytes are faster in pieces.
    max_message_bytes: int = Field(
        32 * MIB, ge=1024, le=GIB, description="Bytes of one message, in either direction."
    )
    max_steps: int = Field(100_000, ge=1, description="Steps of one sequence.")
    max_tensor_elements: int = Field(1 << 28, ge=1, description="Elements of one tensor.")
    max_rank: int = Field(64, ge=1, le=64, description="Dimensions of one tensor.")
    max_session_bytes: int = Field(
        2 * GIB, ge=1, description="Tensor bytes that one session may hold, its graph included."
    )
    max_session_tensors: int = Field(1_000_000, ge=1, description="Live handles of one session.")
    max_session_nodes: int = Field(2_000_000, ge=1, description="Live graph nodes of one session.")
    max_sequence_flops: int = Field(
        10**13, ge=1, description="Floating-point operations of one sequence, as estimated."
    )
    max_queued_sequences: int = Field(
        1024, ge=1, description="Sequences of one session that wait to run."
    )
    max_queued_bytes: int = Field(
        256 * MIB, ge=1, description="Bytes of requests of one session that wait to run."
    )
    max_pending_bytes: int = Field(
        GIB, ge=1, description="Bytes of requests of all sessions that wait or run."
    )
    max_programs: int = Field(1000, ge=0, description="Programs of one session.")
    max_program_bytes: int = Field(
        64 * MIB, ge=0, description="Bytes of the messages of one session's programs."
    )
    max_transfers: int = Field(
        64, ge=1, description="Uploads and downloads of one session that are open at a time."
    )
    transfer_seconds: float = Field(
        60.0,
        gt=0,
        description="Time after which an upload, a download or an unread stream is dropped.",
    )
    replay_sequences: int = Field(
        1024, ge=1, description="Answers of one session that are kept until acknowledged."
    )
    replay_bytes: int = Field(
        128 * MIB, ge=0, description="Bytes of such answers and their requests. The last is kept."
    )

    @property
    def worker_count(self) -> int:
        """Processes that share the port, 0 resolved."""
        return self.workers or os.cpu_count() or 1

    @property
    def thread_count(self) -> int:
        """Threads for heavy sequences, 0 resolved."""
        return self.threads or os.cpu_count() or 1

    @cached_property
    def tensor_limits(self) -> Limits:
        """What the engine is told: the limits of one operator."""
        # The engine takes a while to load, and not all who read settings run it.
        from gradwire_engine.context import Limits

        return Limits(self.max_tensor_elements, self.max_rank, self.max_session_tensors)

    @property
    def grpc_message_bytes(self) -> int:
        """What gRPC itself lets in.

        Twice the limit, so that a message somewhat too large is refused by the service, with a
        reason and on a stream that lives on, and only one far too large by gRPC, with neither.
        """
        return 2 * self.max_message_bytes
