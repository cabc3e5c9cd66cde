"""A Locust user of gradwire: the tutorial's graphs and the training of a network, answers checked.

    locust -f tests/load/locustfile.py --headless --host localhost:50051 --users 8 --run-time 30s

Users are greenlets in one process. A user waits for each answer before it goes on, and thinks no
time in between, so the requests per second are what the server gives to that many users.
"""

import itertools
import os
import time
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any, TypeVar

import grpc.experimental.gevent
from locust import User, constant, events, task
from locust.env import Environment
from locust.runners import WorkerRunner

# Before any channel: gRPC then waits on gevent's loop, not blocking all users with one.
grpc.experimental.gevent.init_gevent()

from workload import (  # noqa: E402 (Locust finds it: it is beside this file)
    Trainer,
    WrongAnswerError,
    check_scalar_graph,
    check_vector_graph,
    make_training,
    scalar_graph,
    vector_graph,
)

import gradwire as gw  # noqa: E402

Answer = TypeVar("Answer")

_numbers = itertools.count()


@events.init_command_line_parser.add_listener
def finish_before_stopping(parser: ArgumentParser) -> None:
    """Let users finish what they are at when the time is up, as Locust does only if told to."""
    parser.set_defaults(stop_timeout=10.0)


@events.quitting.add_listener
def refuse_an_empty_run(environment: Environment, **_: Any) -> None:
    """Fail a run in which nothing was asked of the server, which Locust takes for a success."""
    # Workers hand their statistics on to the master, which knows.
    is_worker = isinstance(environment.runner, WorkerRunner)
    if not is_worker and environment.stats.total.num_requests == 0:
        environment.process_exit_code = 1


class GradwireUser(User):
    """One session with one training on it, and tutorial graphs in between."""

    wait_time = constant(0)

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        # Each user, of each process, trains on data of its own, so that an answer of another's
        # session would be wrong.
        self.training = make_training([os.getpid(), next(_numbers)])
        self.trainer: Trainer | None = None

    def on_start(self) -> None:
        # On the user's own greenlet, which makes the session the current one there.
        self.session = gw.connect(self.host, name="load test")

    def on_stop(self) -> None:
        self.session.close()

    @task
    def tutorial(self) -> None:
        self.sequence("tutorial scalar", scalar_graph, check_scalar_graph)
        self.sequence("tutorial vector", vector_graph, check_vector_graph)

    @task
    def train(self) -> None:
        trainer = self.trainer
        if trainer is None or trainer.is_done:
            trainer = Trainer(self.training)
            right = self.sequence("mlp gradients", trainer.gradients, self.training.check_gradients)
        else:
            right = self.sequence("mlp step", trainer.step, trainer.check_last_loss)
        # After a failure nothing that follows could be right.
        self.trainer = trainer if right else None

    def sequence(
        self, name: str, run: Callable[[], Answer], check: Callable[[Answer], None]
    ) -> bool:
        """Time some work, check its answer, report both to Locust; whether all was right."""
        before = self.session.traffic
        started_at, started = time.time(), time.perf_counter()
        failure: Exception | None = None
        try:
            answer = run()
        except Exception as error:
            # Also an AttributeError, say, because there is no gradient where one is due.
            failure = error
        milliseconds = (time.perf_counter() - started) * 1e3
        traffic = self.session.traffic - before
        if failure is None:
            try:
                check(answer)
            except WrongAnswerError as error:
                failure = error
        self.environment.events.request.fire(
            request_type="gradwire",
            name=name,
            response_time=milliseconds,
            response_length=traffic.sent + traffic.received,
            exception=failure,
            context={"sequences": traffic.sequences, **self.context()},
            start_time=started_at,
        )
        return failure is None
