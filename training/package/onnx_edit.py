"""Puts steps into a graph: scaling, layout, masks, softmax and names become part of what is served.

The nodes are written into the user's own graph, in its own operator set, so nothing of it is converted.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, helper, numpy_helper

from app.tensors import LENGTHS, Array
from training.errors import PackageRefused
from training.export.onnx import strip_traces
from training.package.source import Feed, Head, Steps, TextFeed

# from here on, all operators below exist and mean what they mean today
MIN_OPSET = 11
TOKENS = "tokens"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


def edit(model: ModelProto, steps: Steps) -> bytes:
    """Return a graph with the steps inside, whose inputs and outputs are those of the service.

    Raises:
        PackageRefused: Its operators are too old to be added to.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    editor = _Editor(copy)
    for feed in steps.feeds:
        editor.feed(feed)
    if steps.text is not None:
        editor.feed_text(steps.text)
    editor.answer(steps.heads)
    editor.finish()
    strip_traces(copy)
    return bytes(copy.SerializeToString(deterministic=True))


def sanitize(model: ModelProto) -> ModelProto:
    """Give inputs and outputs names that a manifest can hold, where theirs are of other characters."""
    copy = ModelProto()
    copy.CopyFrom(model)
    taken = set(_names(copy.graph))
    for value in [*copy.graph.input, *copy.graph.output]:
        if not _NAME.fullmatch(value.name):
            plain = re.sub(r"[^A-Za-z0-9_.]", "_", value.name)
            name = _unique(plain if _NAME.match(plain) else f"_{plain}", taken)
            _rename(copy.graph, value.name, name)
    return copy


class _Editor:
    """Collects nodes that come before and behind those of a graph."""

    def __init__(self, model: ModelProto) -> None:
        self._model = model
        self._graph = model.graph
        self._taken = set(_names(model.graph))
        self._before: list[NodeProto] = []
        self._behind: list[NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []

    def feed(self, feed: Feed) -> None:
        """Put what is done to one input before the graph."""
        public = feed.public
        shape = [axis if isinstance(axis, int) else str(axis) for axis in public.shape]
        if feed.is_plain and public.name == feed.private:
            self._inputs.append(helper.make_tensor_value_info(public.name, _element(public.dtype), shape))
            return
        private = feed.private
        if private == public.name:
            private = self._renamed(private, f"{private}_fed")
        elif public.name in self._taken:
            self._renamed(public.name, f"{public.name}_own")
        self._taken.add(public.name)
        self._inputs.append(helper.make_tensor_value_info(public.name, _element(public.dtype), shape))
        value = public.name
        for operator, number in (("Mul", feed.scale), ("Sub", feed.mean), ("Div", feed.std)):
            if number is not None:
                value = self._add(operator, [value, self._constant(np.array(number, public.dtype))])
        if feed.tail is not None:
            value = self._add("Reshape", [value, self._constant(np.array([-1, *feed.tail], np.int64))])
        self._before.append(helper.make_node("Cast", [value], [private], to=_element(feed.dtype)))

    def feed_text(self, text: TextFeed) -> None:
        """Derive ids, mask and types from tokens and lengths."""
        for name in (TOKENS, LENGTHS):
            if name in self._taken:
                self._renamed(name, f"{name}_own")
            self._taken.add(name)
        self._inputs.append(helper.make_tensor_value_info(TOKENS, _element("int64"), ["batch", TOKENS]))
        self._inputs.append(helper.make_tensor_value_info(LENGTHS, _element("int64"), ["batch"]))
        zero, one = (self._constant(np.array(number, np.int64)) for number in (0, 1))
        steps = self._add("Gather", [self._add("Shape", [TOKENS]), one])
        positions_T = self._add("Range", [zero, steps, one])
        column = self._add("Reshape", [LENGTHS, self._constant(np.array([-1, 1], np.int64))])
        mask_BT = self._add("Less", [positions_T, column])
        pad = self._constant(np.array(text.pad_id, np.int64))
        values = {
            "input_ids": self._add("Where", [mask_BT, TOKENS, pad]),
            "attention_mask": mask_BT,
            "token_type_ids": self._add("Sub", [TOKENS, TOKENS]),
        }
        for name, dtype in text.dtypes.items():
            self._before.append(helper.make_node("Cast", [values[name]], [name], to=_element(dtype)))

    def answer(self, heads: Sequence[Head]) -> None:
        """Put what is done to the outputs behind the graph; others are dropped."""
        types = {value.name: value.type for value in self._graph.output}
        values: list[onnx.ValueInfoProto] = []
        renamed = {head.private: head.private for head in heads}
        for head in heads:
            private = renamed[head.private]
            if head.public != private or head.step is not None:
                if head.public in self._taken:
                    name = self._renamed(head.public, f"{head.public}_own")
                    renamed = {key: name if value == head.public else value for key, value in renamed.items()}
                    private = renamed[head.private]
                self._taken.add(head.public)
                self._behind.append(self._head(head, private))
            if head.step == "flatten":
                element = types[head.private].tensor_type.elem_type
                values.append(helper.make_tensor_value_info(head.public, element, ["batch"]))
            else:
                values.append(helper.make_value_info(head.public, types[head.private]))
        del self._graph.output[:]
        self._graph.output.extend(values)

    def finish(self) -> None:
        """Write what was collected into the graph.

        Raises:
            PackageRefused: Its operators are too old to be added to.
        """
        weights = {tensor.name for tensor in self._graph.initializer}
        # before version 4 of the format, weights had to be inputs too
        kept = [value for value in self._graph.input if value.name in weights]
        del self._graph.input[:]
        self._graph.input.extend([*self._inputs, *kept])
        if not self._before and not self._behind:
            return
        versions = [opset.version for opset in self._model.opset_import if opset.domain in ("", "ai.onnx")]
        if not versions:
            self._model.opset_import.append(helper.make_opsetid("", MIN_OPSET))
        elif max(versions) < MIN_OPSET:
            raise PackageRefused(
                f"the graph is of operator set {max(versions)}, and what has to be added needs {MIN_OPSET}: export it "
                "with a newer one (opset_version=17)"
            )
        nodes = [*self._before, *self._graph.node, *self._behind]
        del self._graph.node[:]
        self._graph.node.extend(nodes)

    def _head(self, head: Head, private: str) -> NodeProto:
        if head.step == "softmax":
            return helper.make_node("Softmax", [private], [head.public], axis=1)
        if head.step == "flatten":
            rows = _unique("rows", self._taken)
            shape = numpy_helper.from_array(np.array([-1], np.int64))
            self._behind.append(helper.make_node("Constant", [], [rows], value=shape))
            return helper.make_node("Reshape", [private, rows], [head.public])
        return helper.make_node("Identity", [private], [head.public])

    def _add(self, operator: str, inputs: list[str]) -> str:
        output = _unique(f"{operator.lower()}_fed", self._taken)
        self._before.append(helper.make_node(operator, inputs, [output]))
        return output

    def _constant(self, array: Array) -> str:
        output = _unique("constant_fed", self._taken)
        # a node, as before version 4 of the format a weight would be an input
        self._before.append(helper.make_node("Constant", [], [output], value=numpy_helper.from_array(array)))
        return output

    def _renamed(self, name: str, wish: str) -> str:
        new = _unique(wish, self._taken)
        _rename(self._graph, name, new)
        for node in (*self._before, *self._behind):
            _rename_in_node(node, name, new)
        return new


def _element(dtype: str) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _unique(wish: str, taken: set[str]) -> str:
    name, number = wish, 0
    while name in taken:
        number += 1
        name = f"{wish}_{number}"
    taken.add(name)
    return name


def _subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _names(graph: GraphProto) -> Iterator[str]:
    """Yield the names of all values, those of subgraphs too, which share them."""
    values: list[Any] = [*graph.input, *graph.output, *graph.initializer]
    yield from (value.name for value in values)
    for node in graph.node:
        yield from (*node.input, *node.output)
        for subgraph in _subgraphs(node):
            yield from _names(subgraph)


def _rename(graph: GraphProto, old: str, new: str) -> None:
    values: list[Any] = [*graph.input, *graph.output, *graph.initializer, *graph.value_info]
    for value in values:
        if value.name == old:
            value.name = new
    for node in graph.node:
        _rename_in_node(node, old, new)


def _rename_in_node(node: NodeProto, old: str, new: str) -> None:
    for names in (node.input, node.output):
        for index, name in enumerate(names):
            if name == old:
                names[index] = new
    for subgraph in _subgraphs(node):
        _rename(subgraph, old, new)
