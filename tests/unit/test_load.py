"""The load test tests: it reports what it does, and a wrong answer does not pass."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from gradwire.v1 import autograd_pb2 as pb
from gradwire.v1.autograd_pb2_grpc import AutogradServiceStub
from gradwire_server.embedded import EmbeddedServer
from tests.load import workload
from tests.load.workload import Training, WrongAnswerError

LOAD = Path(workload.__file__).parent

WRONG_POINT = """
import gradwire as gw
import locustfile
from workload import check_scalar_graph

def other_point(user):
    def run():
        x = gw.tensor([4.0], requires_grad=True)
        y = (x + 2) ** 2
        y.backward()
        return y.item(), x.grad.item()
    user.sequence("other point", run, check_scalar_graph)

class OtherPoint(locustfile.GradwireUser):
    tasks = [other_point]  # besides those it inherits
"""

CUT_SHORT = """
from gevent import monkey
monkey.patch_all()
import grpc.experimental.gevent
grpc.experimental.gevent.init_gevent()
import sys
import gevent
import gradwire as gw

session = gw.connect(sys.argv[1])
x = gw.eye(1024)

def work():
    y = x
    for _ in range(50):
        y = y @ x
    y.sum().item()

user = gevent.spawn(work)
gevent.sleep(0.2)
user.kill()
session.close()
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with EmbeddedServer.start(address="127.0.0.1:0") as server:
        yield server.address


@pytest.fixture(scope="module")
def training() -> Training:
    return workload.make_training(0)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(LOAD), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_each_kind_of_work_is_reported_with_its_size_and_all_answers_are_right(
    tmp_path: Path,
) -> None:
    result = run(LOAD / "run.py", "--users", "2", "--run-time", "6s", "--out", tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    stats = {row["Name"]: row for row in rows(tmp_path / "locust_stats.csv")}
    names = {"tutorial scalar", "tutorial vector", "mlp gradients", "mlp step"}
    assert set(stats) == names | {"Aggregated"}
    for name in names:
        row = stats[name]
        assert row["Type"] == "gradwire"
        assert int(row["Request Count"]) > 0
        assert int(row["Failure Count"]) == 0
        assert float(row["Average Response Time"]) > 0
    minibatch = workload.BATCH * workload.PIXELS * 4
    assert float(stats["mlp step"]["Average Content Size"]) > minibatch
    assert float(stats["tutorial scalar"]["Average Content Size"]) < 1000
    assert "tutorial scalar" in (tmp_path / "report.html").read_text()


def test_wrong_answer_is_a_failure_in_the_statistics(tmp_path: Path, address: str) -> None:
    locustfile = tmp_path / "wrong.py"
    locustfile.write_text(WRONG_POINT)
    result = run(
        *("-m", "locust", "--locustfile", locustfile, "--headless", "--host", address),
        *("--users", "1", "--run-time", "6s", "--csv", tmp_path / "locust"),
    )
    assert result.returncode == 1, result.stdout + result.stderr
    (failure,) = rows(tmp_path / "locust_failures.csv")
    assert failure["Name"] == "other point"
    assert "(36.0, 12.0)" in failure["Error"]
    for row in rows(tmp_path / "locust_stats.csv")[:-1]:
        due = int(row["Request Count"]) if row["Name"] == "other point" else 0
        assert int(row["Failure Count"]) == due


def test_user_that_is_cut_short_can_still_close_its_session(address: str) -> None:
    result = run("-c", CUT_SHORT, address)
    assert result.returncode == 0, result.stdout + result.stderr
    with grpc.insecure_channel(address) as channel:
        sessions = AutogradServiceStub(channel).ListSessions(pb.ListSessionsRequest()).sessions
    assert not sessions


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (workload.check_scalar_graph, (25.0, 10.000001)),
        (workload.check_scalar_graph, (25.000002, 10.0)),
        (workload.check_scalar_graph, (25.0, float("nan"))),
        (workload.check_vector_graph, [0.6, 2.8]),
        (workload.check_vector_graph, [float(np.float32(0.6)), float("nan")]),
        (workload.check_vector_graph, [float(np.float32(0.6))]),
    ],
)
def test_tutorial_is_held_to_the_last_bit(check: Callable[[object], None], answer: object) -> None:
    with pytest.raises(WrongAnswerError):
        check(answer)


def test_losses_fall(training: Training) -> None:
    assert all(np.diff(training.losses) < 0)


@pytest.mark.parametrize("seed", range(8))
def test_step_lost_or_done_twice_is_noticed(seed: int) -> None:
    training = workload.make_training(seed)
    for steps in range(1, workload.STEPS):
        training.check_loss(steps, float(np.float32(training.losses[steps])))
        with pytest.raises(WrongAnswerError):
            training.check_loss(steps, training.losses[steps - 1])
        with pytest.raises(WrongAnswerError):
            training.check_loss(steps - 1, training.losses[steps])


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_loss_must_be_finite(training: Training, loss: float) -> None:
    with pytest.raises(WrongAnswerError):
        training.check_loss(0, loss)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda g: g * 1.01, id="scaled"),
        pytest.param(lambda g: np.zeros_like(g), id="zero"),
        pytest.param(lambda g: g * np.nan, id="nan"),
        pytest.param(lambda g: g.T.reshape(g.shape), id="transposed"),
        pytest.param(lambda g: g[:-1], id="shape"),
    ],
)
def test_gradients_must_be_those_of_numpy(
    training: Training, spoil: Callable[[np.ndarray], np.ndarray]
) -> None:
    training.check_gradients(training.gradients)
    wrong = [spoil(training.gradients[0]), *training.gradients[1:]]
    with pytest.raises(WrongAnswerError, match="weight 1"):
        training.check_gradients(wrong)
