"""gradwire and its peers."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.rows import Contender

REUSE = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1073741824"}
"""Settings of glibc's allocator that let large blocks be used again."""

ENGINE = Contender("gradwire", "benchmarks.ours.engine")
COMPILED = replace(ENGINE, name="gradwire, compiled", arguments={"compiled": True})
TORCH = Contender("torch eager", "benchmarks.peers.torch_eager", "torch")
HIPS = Contender("HIPS autograd", "benchmarks.peers.hips_autograd", "autograd")
MYGRAD = Contender("MyGrad", "benchmarks.peers.mygrad_engine", "mygrad")

CLIENT = Contender("gradwire", "benchmarks.ours.client")
PROGRAM = replace(CLIENT, name="gradwire, compiled", arguments={"program": True})
ECHO = Contender(
    "gRPC echo",
    "benchmarks.peers.echo",
    workload="echo",
    drops=("elements", "ops"),
    takes_traffic=True,
)
REUSING_ECHO = replace(ECHO, name="gRPC echo, blocks reused", variables=REUSE)

TORCH_RPC = Contender("torch RPC", "benchmarks.peers.torch_rpc", "torch")
FEDERATED = Contender(
    "pytensor-federated", "benchmarks.peers.pytensor_federated", "pytensor-federated"
)
UM_BRIDGE = Contender("UM-Bridge", "benchmarks.peers.um_bridge", "umbridge")
TESSERACT = Contender("Tesseract", "benchmarks.peers.tesseract", "tesseract")
