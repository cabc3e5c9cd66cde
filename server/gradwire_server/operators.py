"""ListOperators: the catalogue of what this server runs."""

from __future__ import annotations

from gradwire.v1 import autograd_pb2 as pb
from gradwire_engine.registry import aliases, operators
from gradwire_server.pages import make_token, page_size, read_token

_CALL = b"ListOperators"


def list_operators(request: pb.ListOperatorsRequest) -> pb.ListOperatorsResponse:
    """One page of the operators, in order of name. In-place forms are told by a flag.

    Raises:
        ServiceError: BAD_VALUE, BAD_PAGE_TOKEN.
    """
    size = page_size(request.page_size, 1000, 1000)
    after = read_token(_CALL, request.page_token) or ""
    names = sorted(
        name for name, op in operators.items() if not op.mutates and not op.inner and name > after
    )
    response = pb.ListOperatorsResponse()
    for name in names[:size]:
        op = operators[name]
        response.operators.add(
            name=name,
            schema=str(op.schema),
            kind=op.kind,
            grad_fn=op.grad_fn,
            in_place=op.in_place,
            aliases=sorted(each.name for each in aliases.values() if each.op == name),
        )
    if len(names) > size:
        response.next_page_token = make_token(_CALL, names[size - 1])
    return response
