"""ListOperators: the whole catalogue, in order, in pages."""

from __future__ import annotations

from gradwire.v1 import autograd_pb2 as pb
from gradwire.v1.autograd_pb2_grpc import AutogradServiceStub
from gradwire_engine.registry import operators

KINDS = {"elementwise", "linear", "bilinear", "general", "composite", "nondiff"}


def test_pages_together_are_the_catalogue_in_order_of_name(stub: AutogradServiceStub) -> None:
    found: list[pb.Operator] = []
    token = ""
    while True:
        page = stub.ListOperators(pb.ListOperatorsRequest(page_size=30, page_token=token))
        assert len(page.operators) <= 30
        found += page.operators
        token = page.next_page_token
        if not token:
            break
    names = [op.name for op in found]
    callable_ones = [op for op in operators.values() if not op.mutates and not op.inner]
    assert names == sorted(op.name for op in callable_ones)
    whole = stub.ListOperators(pb.ListOperatorsRequest())
    assert [op.name for op in whole.operators] == names


def test_an_operator_is_told_with_its_schema(stub: AutogradServiceStub) -> None:
    found = {op.name: op for op in stub.ListOperators(pb.ListOperatorsRequest()).operators}
    assert {op.kind for op in found.values()} <= KINDS
    assert all(op.schema.startswith(f"{name}(") for name, op in found.items())
    assert found["add"].in_place
    assert found["exp"].grad_fn == "ExpBackward0"
    assert not found["eq"].grad_fn
    assert list(found["cat"].aliases) == ["concat", "concatenate"]
    assert list(found["lgamma"].aliases) == ["special.gammaln"]
    assert found["mm"].schema == "mm(Tensor self, Tensor mat2) -> Tensor"
