"""Recurrent layers over rows of different lengths, read forward, or forward and backward.

Backward means backward within the row's own length. In torch that takes a gather before and one after; ONNX knows it as
the input ``sequence_lens`` of its own ``RNN`` and ``LSTM``, so an exported layer is one such node, with a time axis of
any length (torch's exporter knows no `nn.RNN` of any length at all, and would write a loop).

Shape suffixes: B rows of the batch, T steps, I features of a step that go in, H hidden units, D features that come out
(H for each direction), S directions, G gates times hidden units.
"""

from typing import Literal, TypeAlias, cast

import torch
from torch import Tensor, nn

from training.architectures import _padding

Kind: TypeAlias = Literal["RNN", "LSTM"]

_CELLS: dict[Kind, type[nn.RNN] | type[nn.LSTM]] = {"RNN": nn.RNN, "LSTM": nn.LSTM}
# torch keeps an LSTM's gates as input, forget, cell, output; ONNX wants input, output, forget, cell
_ONNX_LSTM_GATES = (0, 3, 1, 2)
_ONNX_OPSET = 14


class Layer(nn.Module):
    """One recurrent layer.

    Args:
        kind: ``RNN`` for Elman's network with tanh, or ``LSTM``.
        num_inputs: Features of a step.
        hidden: Units of each direction.
        bidirectional: Read each row backward too.
    """

    def __init__(self, kind: Kind, num_inputs: int, hidden: int, *, bidirectional: bool) -> None:
        super().__init__()
        self.kind, self.hidden = kind, hidden
        self.ahead = _CELLS[kind](num_inputs, hidden, batch_first=True)
        self.back = _CELLS[kind](num_inputs, hidden, batch_first=True) if bidirectional else None
        for cell in self._cells():
            _initialize(cell)

    def forward(self, steps_BTI: Tensor, lengths_B: Tensor) -> Tensor:
        """Read rows.

        Args:
            steps_BTI: float32, shape (B, T, I).
            lengths_B: Real steps of each row, int64, from 1 to T.

        Returns:
            What each step comes to, float32, shape (B, T, D); beyond a row's length there may be anything.
        """
        if torch.onnx.is_in_onnx_export():
            return self._as_node(steps_BTI, lengths_B)
        ahead_BTH: Tensor = self.ahead(steps_BTI)[0]
        if self.back is None:
            return ahead_BTH
        back_BTH = self.back(_padding.reverse(steps_BTI, lengths_B))[0]
        return torch.cat([ahead_BTH, _padding.reverse(back_BTH, lengths_B)], dim=2)

    def _cells(self) -> list[nn.RNN | nn.LSTM]:
        return [self.ahead] if self.back is None else [self.ahead, self.back]

    def _as_node(self, steps_BTI: Tensor, lengths_B: Tensor) -> Tensor:
        """Return the same as one node of ONNX, which takes and gives time first."""
        cells = self._cells()
        num_rows, num_steps = steps_BTI.shape[:2]
        weights = [[self._in_onnx_order(tensor) for tensor in _parameters(cell)] for cell in cells]
        # ONNX wants the directions stacked, and both biases of a direction in one row
        weights_SGI = torch.cat([ih_GI.unsqueeze(0) for ih_GI, _, _, _ in weights])
        weights_SGH = torch.cat([hh_GH.unsqueeze(0) for _, hh_GH, _, _ in weights])
        biases_SG = torch.cat([torch.cat([ih_G, hh_G]).unsqueeze(0) for _, _, ih_G, hh_G in weights])
        outputs_TSBH = torch.onnx.ops.symbolic(
            self.kind,
            (steps_BTI.transpose(0, 1), weights_SGI, weights_SGH, biases_SG, lengths_B.to(torch.int32)),
            {"hidden_size": self.hidden, "direction": "forward" if self.back is None else "bidirectional"},
            dtype=torch.float32,
            shape=(num_steps, len(cells), num_rows, self.hidden),
            version=_ONNX_OPSET,
        )
        return outputs_TSBH.permute(2, 0, 1, 3).flatten(2)

    def _in_onnx_order(self, parameter_G: Tensor) -> Tensor:
        if self.kind == "RNN":
            return parameter_G
        starts = [gate * self.hidden for gate in _ONNX_LSTM_GATES]
        return torch.cat([parameter_G[start : start + self.hidden] for start in starts])


class Stack(nn.Module):
    """Recurrent layers one upon the other, with dropout between them.

    Args:
        kind: ``RNN`` for Elman's network with tanh, or ``LSTM``.
        num_inputs: Features of a step.
        hidden: Units of each direction of each layer.
        layers: How many.
        bidirectional: Read each row backward too.
        dropout: Share of a layer's outputs silenced while training, before the next layer.
    """

    def __init__(
        self, kind: Kind, num_inputs: int, hidden: int, *, layers: int, bidirectional: bool, dropout: float
    ) -> None:
        super().__init__()
        self.num_outputs = 2 * hidden if bidirectional else hidden
        sizes = [num_inputs] + [self.num_outputs] * (layers - 1)
        self.layers = nn.ModuleList(Layer(kind, size, hidden, bidirectional=bidirectional) for size in sizes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, steps_BTI: Tensor, lengths_B: Tensor) -> Tensor:
        """Return what each step comes to; see :meth:`Layer.forward`."""
        first, *others = self.layers
        steps_BTD = cast(Tensor, first(steps_BTI, lengths_B))
        for layer in others:
            steps_BTD = layer(self.dropout(steps_BTD), lengths_B)
        return steps_BTD


def _parameters(cell: nn.RNN | nn.LSTM) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the weights of the input and of the state, (G, I) and (G, H), and their biases, (G,) each."""
    weight_ih, weight_hh, bias_ih, bias_hh = cell.parameters()
    return weight_ih, weight_hh, bias_ih, bias_hh


def _initialize(cell: nn.RNN | nn.LSTM) -> None:
    """Let memory neither fade nor grow: orthogonal steps from state to state, and forget gates that stand open.

    The first is of Saxe et al. (arXiv:1312.6120), the second of Jozefowicz et al. ("An empirical exploration of
    recurrent network architectures", 2015).
    """
    weight_ih, weight_hh, bias_ih, bias_hh = _parameters(cell)
    hidden = cell.hidden_size
    with torch.no_grad():
        for start in range(0, len(weight_ih), hidden):
            nn.init.xavier_uniform_(weight_ih[start : start + hidden])
            nn.init.orthogonal_(weight_hh[start : start + hidden])
        bias_ih.zero_()
        bias_hh.zero_()
        if isinstance(cell, nn.LSTM):
            bias_ih[hidden : 2 * hidden] = 1.0
