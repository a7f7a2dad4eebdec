"""Training the two networks: the masked one over fields, the recurrent one over commands. One page each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from scanward.commands import Examination
from scanward.errors import LearningError
from scanward.layers.base import Part
from scanward.layers.encoding import ELEMENT, UNKNOWN, Encoder, Rows, View
from scanward.layers.masked import MaskedNet
from scanward.layers.procedure import INPUTS, Gru, ProcedureLayer, objective_of
from scanward.layers.steps import Steps
from scanward.learning.steps import learn_steps

Tick = Callable[[float], None]  # called with the share of the work done
AGREE = 2e-3  # nats by which the numpy forward pass may differ from the trained network


def _quiet(_: float) -> None:
    return None


# --------------------------------------------------------------------------------------- the masked network
def train_masked(
    encoder: Encoder,
    rows: Rows,
    *,
    hidden: int = 96,
    steps: int = 600,
    batch: int = 256,
    rate: float = 3e-3,
    seed: int = 0,
    tick: Tick = _quiet,
) -> MaskedNet:
    """Train with random masks: each row hides one to a third of its machine fields, all hidden ones are asked for.

    Returns
    -------
    MaskedNet
        Its forward pass has been compared with the trained network; a disagreement raises LearningError.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    fields = np.array(encoder.machine, dtype=np.int64)
    offsets = np.asarray(encoder.offsets)
    at, end = offsets[fields], offsets[fields + 1]
    code = np.arange(encoder.offsets[-1])
    own = (code >= at[:, None]) & (code < end[:, None])  # (F, C) which outputs belong to the field asked for
    count, codes = len(fields), encoder.offsets[-1]
    embed = nn.Parameter(torch.randn(codes, hidden) * 0.1)
    mask = nn.Parameter(torch.randn(count, hidden) * 0.1)
    bias = nn.Parameter(torch.zeros(hidden))
    middle = nn.Linear(hidden, hidden)
    head = nn.Linear(hidden, codes)
    parameters = [embed, mask, bias, *middle.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    data = torch.from_numpy(at[None, :] + rows.codes[:, fields])  # (N, F)
    unknown = torch.from_numpy(at + UNKNOWN)
    belongs = torch.from_numpy(own)
    generator = torch.Generator().manual_seed(seed)

    def logits_of(codes_in: torch.Tensor, hide: torch.Tensor) -> torch.Tensor:
        # (B, F) codes, (B, F) bool -> (B, C)
        shown = embed[codes_in]  # (B, F, H)
        total = torch.where(hide[..., None], mask, shown).sum(1) + bias
        first = torch.relu(total)
        return head(torch.relu(middle(first)) + first)  # type: ignore[no-any-return]

    for step in range(steps):
        picked = torch.randint(len(data), (batch,), generator=generator)
        x = data[picked]
        # Now and then a value is one never seen, so that "unknown" has a meaning.
        odd = torch.rand(x.shape, generator=generator) < 0.003
        x = torch.where(odd, unknown, x)
        share = torch.rand(batch, 1, generator=generator) / 3
        hide = torch.rand(x.shape, generator=generator) < share
        hide[torch.arange(batch), torch.randint(count, (batch,), generator=generator)] = True
        logits = logits_of(x, hide)
        b, f = torch.nonzero(hide, as_tuple=True)
        asked = logits[b].masked_fill(~belongs[f], -torch.inf)
        loss = nn.functional.cross_entropy(asked, x[b, f])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        tick((step + 1) / steps)
    arrays = {
        "embed": embed,
        "bias": bias,
        "mask": mask,
        "w1": middle.weight.T,
        "b1": middle.bias,
        "w2": head.weight.T,
        "b2": head.bias,
    }
    net = MaskedNet.from_part(
        Part({}, {"fields": fields} | {k: _numpy(v) for k, v in arrays.items()}), encoder
    )
    # The exported network must say what the trained one says.
    probe = data[: min(64, len(data))]
    hide = torch.zeros_like(probe, dtype=torch.bool)
    hide[:, 0] = True
    with torch.no_grad():
        asked = logits_of(probe, hide).masked_fill(~belongs[0], -torch.inf)
        theirs = nn.functional.cross_entropy(asked, probe[:, 0], reduction="none").numpy()
    ours = [
        net.surprises(View.of(tuple(int(c) for c in row), (), ()))[0][0] for row in rows.codes[: len(probe)]
    ]
    _agree("masked network", np.asarray(ours), theirs)
    return net


# ------------------------------------------------------------------------------------ the recurrent network
@dataclass(frozen=True)
class _Sequence:
    """One examination as arrays: tokens (L,), objectives (L,), numbers (L, INPUTS)."""

    tokens: NDArray[np.int64]
    objectives: NDArray[np.int64]
    numbers: NDArray[np.float32]


def train_procedure(
    encoder: Encoder,
    examinations: list[Examination],
    *,
    hidden: int = 48,
    width: int = 24,
    epochs: int = 12,
    batch: int = 64,
    rate: float = 8e-3,
    seed: int = 0,
    tick: Tick = _quiet,
) -> ProcedureLayer:
    """Teach a GRU the next protocol element. Examinations of one command teach it how examinations begin."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    named = sorted({objective_of(c) for e in examinations for c in e.commands} - {""})
    objectives = {name: i + 1 for i, name in enumerate(named)}
    tokens = len(encoder.groups[ELEMENT]) + 2  # never seen, the elements, the end
    sequences = [_sequence(encoder, e, objectives) for e in examinations if e.commands]
    element = nn.Embedding(tokens, width)
    objective = nn.Embedding(len(objectives) + 1, width)
    cell = nn.GRUCell(width + INPUTS, hidden)
    head = nn.Linear(hidden + width, tokens)
    modules = nn.ModuleList([element, objective, cell, head])
    optimizer = torch.optim.AdamW(modules.parameters(), lr=rate, weight_decay=1e-3)
    batches = max(1, -(-len(sequences) // batch))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * batches + 1)
    rng = np.random.default_rng(seed)
    for epoch in range(epochs):
        order = rng.permutation(len(sequences))
        for i in range(batches):
            picked = [sequences[j] for j in order[i * batch : (i + 1) * batch]]
            longest = min(40, 1 + max(len(s.tokens) for s in picked))
            tok = _padded([np.append(s.tokens, tokens - 1) for s in picked], longest, -1)
            obj = _padded([np.append(s.objectives, s.objectives[-1]) for s in picked], longest, 0)
            num = np.zeros((len(picked), longest, INPUTS), dtype=np.float32)
            for row, s in enumerate(picked):
                num[row, : min(longest, len(s.tokens))] = s.numbers[:longest]
            # A token now and then becomes "never seen", so that it is possible, and rare.
            strange = (rng.random(tok.shape) < 0.004) & (tok >= 0) & (tok < tokens - 1)
            target = torch.from_numpy(np.where(strange, 0, tok))
            o = torch.from_numpy(np.where(rng.random(obj.shape) < 0.02, 0, obj))
            n = torch.from_numpy(num)
            h = torch.zeros(len(picked), hidden)
            losses = []
            for t in range(longest):
                live = target[:, t] >= 0
                if not bool(live.any()):
                    break
                logits = head(torch.cat([h, objective(o[:, t])], 1))
                losses.append(nn.functional.cross_entropy(logits[live], target[live, t], reduction="sum"))
                seen = target[:, t].clamp(min=0)
                h = cell(torch.cat([element(seen), n[:, t]], 1), h)
            loss = torch.stack(losses).sum() / max(1, int((target >= 0).sum()))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            tick((epoch * batches + i + 1) / (epochs * batches))
    gru = Gru(
        element=_numpy(element.weight),
        objective=_numpy(objective.weight),
        wx=_numpy(cell.weight_ih.T),
        wh=_numpy(cell.weight_hh.T),
        bx=_numpy(cell.bias_ih),
        bh=_numpy(cell.bias_hh),
        out=_numpy(head.weight.T),
        bias=_numpy(head.bias),
    )
    probe = max(sequences, key=lambda s: len(s.tokens))
    with torch.no_grad():
        h, mine = torch.zeros(1, hidden), np.zeros(hidden, dtype=np.float32)
        for t in range(len(probe.tokens)):
            x = torch.cat([element.weight[probe.tokens[t]], torch.from_numpy(probe.numbers[t])])[None]
            h = cell(x, h)
            mine = gru.step(mine, int(probe.tokens[t]), probe.numbers[t])
        _agree("recurrent network", mine, h.numpy()[0])
    return ProcedureLayer(encoder, gru, learn_steps(encoder, examinations), objectives)


def _sequence(encoder: Encoder, examination: Examination, objectives: dict[str, int]) -> _Sequence:
    """What the layer itself would feed to the network (its own code makes the numbers)."""
    recorder = _Recorder(encoder, objectives)
    state = recorder.layer.start()
    for command in examination.commands:
        _, state = recorder.layer.judge(state, command)
    return _Sequence(
        np.array(recorder.tokens, dtype=np.int64),
        np.array([objectives.get(objective_of(c), 0) for c in examination.commands[: len(recorder.tokens)]]),
        np.array(recorder.numbers, dtype=np.float32).reshape(-1, INPUTS),
    )


class _Recorder:
    """A procedure layer whose network only writes down what it is given: no second way to compute the inputs."""

    def __init__(self, encoder: Encoder, objectives: dict[str, int]) -> None:
        self.tokens: list[int] = []
        self.numbers: list[NDArray[np.float32]] = []
        outer = self

        class Recording(Gru):
            def step(
                self, hidden: NDArray[np.float32], element: int, numbers: NDArray[np.float32]
            ) -> NDArray[np.float32]:
                outer.tokens.append(element)
                outer.numbers.append(numbers)
                return hidden

            def next_logs(self, hidden: NDArray[np.float32], objective: int) -> NDArray[np.float32]:
                return uniform

        uniform = np.zeros(len(encoder.groups[ELEMENT]) + 2, dtype=np.float32)
        one = np.zeros((1, 1), dtype=np.float32)
        none = np.zeros(1, dtype=np.float32)
        gru = Recording(one, one, one, one, none, none, one, none)
        steps = Steps.blank(np.zeros(len(encoder.groups[ELEMENT]), dtype=np.int64))
        self.layer = ProcedureLayer(encoder, gru, steps, objectives)


def _padded(rows: list[NDArray[np.int64]], longest: int, filler: int) -> NDArray[np.int64]:
    out = np.full((len(rows), longest), filler, dtype=np.int64)
    for i, row in enumerate(rows):
        out[i, : min(longest, len(row))] = row[:longest]
    return out


def _numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().numpy().astype(np.float32))


def _agree(what: str, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> None:
    worst = float(np.max(np.abs(np.asarray(ours) - np.asarray(theirs)))) if len(ours) else 0.0
    if not worst <= AGREE:
        raise LearningError(
            "an exported network disagrees with its original",
            f"{what}: largest difference {worst:.3g}, allowed {AGREE:g}",
            "report this with the versions of torch and numpy",
        )
