"""The backward pass: a walk over the graph, newest node first, without recursion.

One scheduler serves all: `backward` and `grad`, plain (rules run on arrays) and with
create_graph (rules run on tensors and are recorded).
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from gradwire_engine.context import Context, current, grad_mode
from gradwire_engine.errors import EngineError
from gradwire_engine.failures import graph_freed, saved_modified
from gradwire_engine.hooks import Hooks, run_all, run_tensor_hooks
from gradwire_engine.interpret import RAW, TRACED, Interpreter, fit
from gradwire_engine.node import ONE_BY_ONE, TOGETHER, AccumulateGrad, AnyNode, Edge, Node
from gradwire_engine.rules import Joint
from gradwire_engine.saved_hooks import unpacked
from gradwire_engine.tensor import NO_VERSION, Tensor


def _references(gradient: Any) -> int:
    return sys.getrefcount(gradient)


def _references_of_a_fresh_array() -> int:
    fresh = np.empty(0)
    return _references(fresh)


_UNSHARED = _references_of_a_fresh_array()
"""References to an array that nobody holds but a caller and a callee, of which the interpreter's
version decides how many are counted. So many has a gradient that may become a `.grad` itself."""


def _references_to_base(view: np.ndarray) -> int:
    return sys.getrefcount(view.base)


_UNSHARED_BASE = _references_to_base(np.empty((1, 1)).T)
"""References to an array that only one view holds."""


def run_backward(
    roots: Sequence[tuple[Edge, Any]],
    *,
    keep_graph: bool,
    create_graph: bool,
    captures: Sequence[Edge] | None = None,
) -> list[Any]:
    """Carry gradients from the roots to the leaves, or to `captures`.

    Args:
        roots: edges with their gradients: arrays, or tensors under create_graph.
        keep_graph: leave saved values for another pass.
        create_graph: record the pass itself.
        captures: gradients to collect; `.grad` of leaves is then left alone.

    Returns:
        The gradient of each capture; None for one that nothing reached.

    Raises:
        EngineError: GRAPH_FREED, SAVED_MODIFIED, HOOK_SHAPE, ANOMALY, or what `Context.check` and
            hooks raise.
    """
    context = current.context
    around = context.running
    try:
        made = _Pass(TRACED if create_graph else RAW, context, keep_graph, captures)
        if context.profile is not None:
            context.profile.watch_pass(made)
        context.running = made
        if not create_graph:
            return made.run(roots)
        # In inference mode nothing is recorded, whatever is asked for.
        with grad_mode(not context.inference):
            return made.run(roots)
    finally:
        context.running = around


class _Pass:
    """One backward pass. Holds the gradients that are on their way, by node."""

    def __init__(
        self,
        interpreter: Interpreter,
        context: Context,
        keep_graph: bool,
        captures: Sequence[Edge] | None,
    ) -> None:
        self.F = interpreter
        self.context = context
        self.keep_graph = keep_graph
        self.captures = captures
        # By node: the gradient of its one output, or a list where it has several.
        self.arrived: dict[AnyNode, Any] = {}
        # Nodes (with one output) whose gradient was allocated here, so that adding may reuse it.
        self.owned: set[AnyNode] = set()
        # How many edges each node still waits for, and which nodes lead to a capture.
        self.waiting: dict[AnyNode, int] = {}
        self.useful: set[AnyNode] | None = None

    @property
    def creates_graph(self) -> bool:
        """Whether the pass is recorded: gradients are tensors, not arrays."""
        return self.F is TRACED

    def will_reach(self, place: AnyNode | Tensor | None) -> bool:
        """Whether the pass gets to a node, or to a leaf."""
        if isinstance(place, Tensor):
            edge = place.gradient_edge()
            place = None if edge is None else edge[0]
        return place in self.waiting and (self.useful is None or place in self.useful)

    def run(self, roots: Sequence[tuple[Edge, Any]]) -> list[Any]:
        waiting = self.waiting = _count_dependencies(roots)
        wanted: dict[AnyNode, dict[int, Any]] = {}
        useful: set[AnyNode] | None = None
        accumulates = self.captures is None
        if self.captures is not None:
            for captured, nr in self.captures:
                wanted.setdefault(captured, {})[nr] = None
            # Where all leaves are wanted, and nothing else is, every node leads to one.
            if wanted.keys() != {each for each in waiting if each.__class__ is AccumulateGrad}:
                useful = self.useful = _nodes_that_reach(wanted, waiting)
        ready: list[tuple[int, AnyNode]] = []
        for root, gradient in roots:
            self._arrive(root, gradient)
        if len(roots) == 1:
            ready.append((0, roots[0][0][0]))
        else:
            for first in {root[0]: None for root, _ in roots}:
                if not waiting[first]:
                    heapq.heappush(ready, (first.priority, first))
        check = self.context.check
        arrived = self.arrived
        F = self.F
        keep_graph = self.keep_graph
        # Most nodes are watched by nobody. If such a one has one edge, and makes one other node
        # ready, that takes what the rule gives from hand to hand.
        context = self.context
        is_plain = F is RAW and not context.detect_anomaly and context.profile is None
        node: Any
        while ready:
            _, node = heapq.heappop(ready)
            gradient = arrived.pop(node, None)
            while node is not None:
                if check is not None:
                    check()
                if node.__class__ is AccumulateGrad:
                    edges = ()
                    if gradient is not None:
                        hooks = node.variable.hooks
                        if hooks is not None:
                            gradient = self._run_tensor_hooks(node, hooks, gradient)
                        if accumulates:
                            self._accumulate(node, gradient, hooks)
                        elif node in wanted:
                            self._capture(node, gradient, wanted[node])
                else:
                    edges = node.edges
                    only = node.only
                    if (
                        not is_plain
                        or gradient is None
                        or only == TOGETHER
                        or node.hooks is not None
                        or (useful is not None and (node not in useful or node in wanted))
                    ):
                        if gradient is not None:
                            hooks = node.hooks
                            if hooks is not None:
                                gradient = self._run_tensor_hooks(node, hooks, gradient)
                            if node in wanted:
                                self._capture(node, gradient, wanted[node])
                            # What is wanted may be where the pass ends.
                            if useful is None or _leads_to(useful, node):
                                self._pull(node, gradient, useful)
                    elif only == ONE_BY_ONE:
                        self._pull_one_by_one(node, gradient, useful)
                    else:
                        saved = node.saved
                        if saved is None:
                            raise graph_freed(node)
                        if node.versions and not node.is_current():
                            raise saved_modified(node)
                        rule = node.rules[only]
                        pull = rule.pull
                        values = saved[only]
                        # Packing values for the call, and unpacking them there, takes its time.
                        if not values:
                            pulled = pull(RAW, gradient)
                        elif len(values) == 1:
                            pulled = pull(RAW, gradient, values[0])
                        else:
                            pulled = pull(RAW, gradient, *values)
                        if rule.saves and not keep_graph:
                            node.saved = None
                            node.versions = ()
                        edge = edges[only]
                        target, nr = edge
                        types = target.outputs
                        # One tuple of types for both ends: a pointwise operator that keeps shapes.
                        is_alike = types is node.outputs
                        if pulled is None:
                            pass
                        elif is_alike:
                            if pulled is not gradient and pulled.dtype is not types[0][1]:
                                pulled = fit(RAW, pulled, *types[0])
                        else:
                            shape, dtype = types[nr]
                            if pulled.dtype is not dtype or pulled.shape != shape:
                                pulled = fit(RAW, pulled, shape, dtype)
                        gradient = pulled
                        # Nothing here is to keep an array alive, nor to share it.
                        pulled = values = saved = None
                        if (
                            waiting[target] == 1
                            and not ready
                            and target not in arrived
                            and (is_alike or len(types) == 1)
                        ):
                            node = target
                            continue
                        if gradient is not None:
                            self._arrive(edge, gradient)
                # The rule's argument must not keep the gradient alive while older nodes run.
                gradient = None
                node = None
                for edge in edges:
                    if edge is not None:
                        target = edge[0]
                        left = waiting[target] - 1
                        if left:
                            waiting[target] = left
                        elif node is None:
                            node = target
                        else:
                            heapq.heappush(ready, (target.priority, target))
                if node is not None:
                    if ready:
                        _, node = heapq.heappushpop(ready, (node.priority, node))
                    gradient = arrived.pop(node, None)
        if self.captures is None:
            return []
        return [wanted[node][nr] for node, nr in self.captures]

    def _pull_one_by_one(
        self, node: Any, gradient: np.ndarray, useful: set[AnyNode] | None
    ) -> None:
        """As `_pull`, in a plain pass, of a node that nobody watches and that is ONE_BY_ONE."""
        saved = node.saved
        if saved is None:
            raise graph_freed(node)
        if node.versions and not node.is_current():
            raise saved_modified(node)
        outputs = node.outputs
        arrived = self.arrived
        saves = False
        rules = node.rules
        for at, edge in enumerate(node.edges):
            if edge is None:
                continue
            target, nr = edge
            rule = rules[at]
            saves = saves or rule.saves
            if useful is not None and target not in useful:
                continue
            values = saved[at]
            pulled = rule.pull(RAW, gradient, *values) if values else rule.pull(RAW, gradient)
            if pulled is None:
                continue
            types = target.outputs
            shape, dtype = types[nr]
            if pulled.dtype is not dtype or (types is not outputs and pulled.shape != shape):
                pulled = fit(RAW, pulled, shape, dtype)
            if target in arrived or len(types) > 1:
                self._arrive(edge, pulled)
            else:
                arrived[target] = pulled
        if saves and not self.keep_graph:
            node.saved = None
            node.versions = ()

    def _pull(self, node: Any, gradient: Any, useful: set[AnyNode] | None) -> None:
        """Run a node's rules and send the results on."""
        saved = node.saved
        if saved is None:
            raise graph_freed(node)
        hooks = node.hooks
        collected: list[Any] | None = None
        if hooks is not None:
            if hooks.pre:
                gradient = self._run_prehooks(node, hooks, gradient)
            if hooks.post:
                collected = []
            if hooks.packed:
                saved = unpacked(saved)
        if node.versions and not node.is_current():
            raise saved_modified(node)
        F = self.F
        traced = F is TRACED
        anomalies = self.context.detect_anomaly
        outputs = node.outputs
        several = len(outputs) > 1
        arrived = self.arrived
        saves = False
        joint: Any = None
        shares: Sequence[Any] = ()
        for edge, rule, values in zip(node.edges, node.rules, saved, strict=True):
            if collected is not None:
                collected.append(None)
            if edge is None:
                continue
            saves = saves or rule.saves
            if useful is not None and edge[0] not in useful:
                continue
            if traced:
                values = rule.trace(values, node, _edges_by_argument(node))
            if rule.takes_all:
                gs = tuple(gradient) if several else (gradient,)
                if rule.joint is None:
                    pulled = rule.pull(F, gs, *values)
                else:
                    if joint is not rule.joint:
                        joint = rule.joint
                        shares = joint(F, gs, _needs(node, joint, useful), *values)
                    pulled = shares[rule.share]
            elif not several:
                pulled = rule.pull(F, gradient, *values) if values else rule.pull(F, gradient)
            elif gradient[0] is None:
                continue
            else:
                pulled = rule.pull(F, gradient[0], *values)
            if pulled is None:
                continue
            target, nr = edge
            types = target.outputs
            shape, dtype = types[nr]
            if pulled.dtype is not dtype or (types is not outputs and pulled.shape != shape):
                pulled = fit(F, pulled, shape, dtype)
            if anomalies:
                _refuse_nan(node, rule, pulled)
            if collected is not None:
                collected[-1] = pulled
            elif target in arrived or len(types) > 1:
                self._arrive(edge, pulled)
            else:
                arrived[target] = pulled
        if collected is not None and hooks is not None:
            results = tuple(gradient) if several else (gradient,)
            answers = run_all(list(hooks.post.values()), tuple(collected), results)
            for edge, answer in zip(node.edges, answers, strict=True):
                if edge is not None and answer is not None:
                    self._arrive(edge, answer)
        # A node that keeps no tensor can run again: `x + x` goes backward twice.
        if saves and not self.keep_graph:
            node.saved = None
            node.versions = ()

    def _run_prehooks(self, node: AnyNode, hooks: Hooks, gradient: Any) -> Any:
        several = len(node.outputs) > 1
        gradients = tuple(gradient) if several else (gradient,)
        gradients = run_all(list(hooks.pre.values()), gradients)
        return list(gradients) if several else gradients[0]

    def _arrive(self, edge: Edge, gradient: Any) -> None:
        """Add a gradient to what has arrived at its node. The first is borrowed, not copied."""
        node, nr = edge
        arrived = self.arrived
        if len(node.outputs) > 1:
            slots = arrived.get(node)
            if slots is None:
                slots = arrived[node] = [None] * len(node.outputs)
            slots[nr] = gradient if slots[nr] is None else self._sum(slots[nr], gradient)
            return
        held = arrived.get(node)
        if held is None:
            arrived[node] = gradient
        elif node in self.owned:
            np.add(held, gradient, out=held)
        else:
            arrived[node] = self._sum(held, gradient)
            if self.F is RAW:
                self.owned.add(node)

    def _sum(self, a: Any, b: Any) -> Any:
        total = a + b
        # Adding 0-d arrays gives a NumPy scalar, which np.add cannot write to.
        return np.asarray(total) if self.F is RAW else total

    def _capture(self, node: AnyNode, gradient: Any, slots: dict[int, Any]) -> None:
        for nr in slots:
            slots[nr] = gradient[nr] if len(node.outputs) > 1 else gradient

    def _run_tensor_hooks(self, node: AnyNode, hooks: Hooks, gradient: Any) -> Any:
        """The gradient after the hooks of a node's results; also keeps it where that is wanted."""
        several = len(node.outputs) > 1
        gradients = run_tensor_hooks(hooks, gradient if several else [gradient])
        for nr, reference in hooks.retains.items():
            tensor, arrived = reference(), gradients[nr]
            if tensor is None or arrived is None:
                continue
            if self.F is RAW:
                held = None if tensor.grad is None else tensor.grad.data
                tensor.grad = Tensor(np.array(arrived if held is None else held + arrived))
            else:
                tensor.grad = arrived if tensor.grad is None else tensor.grad + arrived
        return gradients if several else gradients[0]

    def _accumulate(self, node: Any, gradient: Any, hooks: Hooks | None) -> None:
        variable = node.variable
        unshared = sys.getrefcount(gradient) <= _UNSHARED
        if hooks is not None and hooks.pre:
            (gradient,) = run_all(list(hooks.pre.values()), (gradient,))
            unshared = False
        if self.F is RAW:
            accumulate(variable, gradient, unshared)
        else:
            held = variable.grad
            # PyTorch copies the first gradient into a new tensor, and its node says so.
            variable.grad = (
                self.F.copy(self.F.zeros_like(gradient), gradient)
                if held is None
                else held + gradient
            )
        if hooks is not None:
            if hooks.post:
                run_all(list(hooks.post.values()), (), (gradient,))
            for hook in list(hooks.post_accumulate.values()):
                hook(variable)


def accumulate(variable: Tensor, gradient: np.ndarray, unshared: bool) -> None:
    """Add an array to `.grad`, in place where there is one.

    Args:
        unshared: nobody else holds the array, so it may become the `.grad` itself.
    """
    grad = variable.grad
    if grad is None:
        if not (
            unshared
            and (gradient.base is None or _is_all_of_its_base(gradient))
            and gradient.flags.writeable
        ):
            # Also of a NumPy scalar, to which nothing could be added in place.
            gradient = np.array(gradient, order="C")
        variable.grad = Tensor(gradient)
    else:
        if grad.version is not NO_VERSION:
            grad.version[0] += 1
        elif not current.context.inference:
            raise EngineError(
                "INFERENCE_TENSOR",
                "the .grad that a backward would add to was made in inference mode, and cannot be "
                "changed in place outside of it; set it to None, or to a clone()",
            )
        data = grad.own()
        np.add(data, gradient, out=data)


def _is_all_of_its_base(gradient: np.ndarray) -> bool:
    """Whether a view shows the whole of an array, in the order of rows, and is alone in that."""
    whole = gradient.base
    return (
        whole.__class__ is np.ndarray
        and whole.base is None
        and whole.nbytes == gradient.nbytes
        and gradient.flags.c_contiguous
        # The name here is one reference more.
        and _references_to_base(gradient) <= _UNSHARED_BASE + 1
    )


def _needs(node: Node, joint: Joint, useful: set[AnyNode] | None) -> tuple[bool, ...]:
    """Which of the gradients that a function gives together lead anywhere."""
    return tuple(
        [
            edge is not None and (useful is None or edge[0] in useful)
            for edge, rule in zip(node.edges, node.rules, strict=True)
            if rule.joint is joint
        ]
    )


def _count_dependencies(roots: Sequence[tuple[Edge, Any]]) -> dict[AnyNode, int]:
    """How many edges lead to each node that the roots reach."""
    waiting: dict[AnyNode, int] = {}
    stack: list[AnyNode] = []
    for (root, _), _ in roots:
        if root not in waiting:
            waiting[root] = 0
            stack.append(root)
    node: Any
    while stack:
        node = stack.pop()
        # Along nodes of one edge each there is nothing to put aside.
        while node.only >= 0:
            node = node.edges[node.only][0]
            if node in waiting:
                waiting[node] += 1
                break
            waiting[node] = 1
        else:
            for edge in node.edges:
                if edge is not None:
                    target = edge[0]
                    if target in waiting:
                        waiting[target] += 1
                    else:
                        waiting[target] = 1
                        stack.append(target)
    return waiting


def _nodes_that_reach(
    wanted: dict[AnyNode, dict[int, Any]], nodes: dict[AnyNode, int]
) -> set[AnyNode]:
    """The nodes from which a wanted one can be reached, and the wanted ones.

    A node is recorded after those that it points to, so going through them oldest first meets
    every node after all that it can reach.
    """
    useful: set[AnyNode] = set(wanted)
    for node in sorted(nodes, key=_number):
        for edge in node.edges:
            if edge is not None and edge[0] in useful:
                useful.add(node)
                break
    return useful


def _leads_to(useful: set[AnyNode], node: AnyNode) -> bool:
    return any(edge is not None and edge[0] in useful for edge in node.edges)


_number = attrgetter("id")


def _edges_by_argument(node: Node) -> Any:
    """The edge of the tensor argument at a position of the schema."""

    def edge_of(position: int) -> Edge | None:
        for rule, edge in zip(node.rules, node.edges, strict=True):
            if rule.position == position:
                return edge
        return None

    return edge_of


def _refuse_nan(node: Node, rule: Any, pulled: Any) -> None:
    values = pulled.data if isinstance(pulled, Tensor) else pulled
    if values.dtype.kind not in "fc" or not np.isnan(values).any():
        return
    arguments = node.op.schema.arguments
    # The inputs of a custom function have numbers, not names.
    known = rule.position < len(arguments)
    argument = arguments[rule.position].name if known else str(rule.position)
    raise EngineError(
        "ANOMALY",
        f"the backward of {node.name} gave NaN as the gradient of its input '{argument}' "
        f"({values.dtype}{list(values.shape)}). Look at the values that went into this operator: "
        "at 0, infinity, or beyond its domain, it may have no derivative",
        grad_fn=node.name,
        node=node.id,
        input=argument,
    )
