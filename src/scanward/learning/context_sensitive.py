"""Learning the context-sensitive layer: usual values, conditional regressions, classifiers of the context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scanward.commands import Group
from scanward.layers.choices import Choice
from scanward.layers.classifier import Classifier
from scanward.layers.conditional import EXTRAS, Conditional
from scanward.layers.context_sensitive import ContextSensitiveLayer
from scanward.layers.encoding import AGE_BANDS, DOSE_BLOCK, FIRST, MISSING, RANGE_BLOCK, Encoder, Rows
from scanward.layers.graph import Graph, rounded
from scanward.learning.boosting import boost, export, merge
from scanward.learning.choices import choosable, learn_choice
from scanward.learning.conditionals import learn_conditional
from scanward.learning.exposure import learn_exposure
from scanward.learning.usual_values import learn_ages, learn_usual

# Figures that follow from the others by arithmetic (physics checks them); expecting them twice teaches nothing.
DERIVED = frozenset(
    {"DLP", "Exposure", "ExposureTimeInms", "AcquisitionEndLocation", "TableSpeed", "EstimatedDoseSaving"}
)
CONDITIONALS = 10  # regressions at most
METHODS = ("naive Bayes", "multinomial regression", "boosted trees")
LEAST = 100  # rows with a known value from which a context field is classified
MOST_CLASSES = 200
MEASURED = "WaterEquivalentDiameter"

Codes = NDArray[np.int64]
IMPORTANT = (
    "CTDIvol",
    "XRayTubeCurrentInmA",
    "ScanLength",
    "WaterEquivalentDiameter",
    "DataCollectionDiameter",
    "PatientWeight",
    "PatientAge",
    "MaximumXRayTubeCurrent",
    "AcquisitionStartLocation",
    "TableHeight",
    "ReconstructionDiameter",
)
CLASSIFIED = (
    "BodyPartExamined",
    "RequestedProcedureDescription",
    "ProtocolName",
    "PatientAge",
    "PatientSex",
    "WaterEquivalentDiameter",
)


@dataclass(frozen=True)
class Compared:
    """Held-out quality of the classifiers tried for one context field."""

    field: str
    log_loss: dict[str, float]
    accuracy: dict[str, float]
    kept: str


def learn_context_sensitive(
    encoder: Encoder,
    rows: Rows,
    *,
    seed: int = 0,
    methods: dict[str, str] | None = None,
    tick: Callable[[float], None] = lambda _: None,
) -> ContextSensitiveLayer:
    """Fit on N clean commands; ``methods`` names the classifier to use for each context field."""
    usual = learn_usual(encoder, rows)
    chosen = choosable(encoder, rows)
    targets = [t for t in _targets(encoder, rows) if t not in chosen]
    conditionals: list[Conditional] = []
    graphs: list[Graph] = []
    columns: list[Codes] = []
    size = len(encoder.fields)
    for i, target in enumerate(targets):
        answer = learn_conditional(encoder, rows, usual, target, _predictors(encoder, target), seed=seed)
        if answer is not None:
            conditionals.append(answer[0])
            if answer[1] is not None:
                graphs.append(answer[1])
                columns.append(_columns(encoder, answer[0], len(columns)))
        tick(0.5 * (i + 1) / len(targets))
    width = 3 * size + EXTRAS * len(graphs)
    choices: list[Choice] = []
    for target in chosen:
        choice, graph = learn_choice(encoder, rows, usual, target, seed=seed)
        choices.append(choice)
        graphs.append(graph)
        shared = np.concatenate([choice.inputs, size + choice.inputs, 2 * size + choice.inputs])
        columns.append(np.concatenate([shared, width + np.arange(choice.width)]))
        width += choice.width
    classifiers: list[Classifier] = []
    suspicious: list[Graph] = []
    for i, name in enumerate(CLASSIFIED):
        if name in encoder.index:
            # Without a comparison, the method that a table of counts can carry anywhere.
            method = (methods or {}).get(name, "naive Bayes")
            found = _classifier(encoder, rows, encoder.index[name], seed, method)
            if found is not None:
                classifiers.append(found[0])
                suspicious += [found[1]] if found[1] is not None else []
        tick(0.5 + 0.5 * (i + 1) / len(CLASSIFIED))
    looked_at = [c.fields for c in classifiers if c.trees]
    return ContextSensitiveLayer(
        encoder,
        usual,
        learn_ages(encoder, rows),
        tuple(conditionals),
        tuple(choices),
        tuple(classifiers),
        merge(graphs, columns, width, what="conditionals and choices"),
        merge(
            suspicious,
            [np.concatenate([fields, size + fields]) for fields in looked_at],
            2 * size,
            what="classifiers",
        ),
        learn_exposure(encoder, rows, usual, seed=seed),
    )


def _columns(encoder: Encoder, model: Conditional, place: int) -> Codes:
    """Where the features of a conditional are in the shared row: codes, numbers, deviations, its own extras."""
    size, i = len(encoder.fields), model.inputs
    extras = 3 * size + EXTRAS * place + np.arange(EXTRAS)
    return np.concatenate([i, size + i, 2 * size + i, extras])


def compare_classifiers(encoder: Encoder, rows: Rows, *, seed: int = 0) -> list[Compared]:
    """Naive Bayes, multinomial regression and boosted trees for each context field, compared on the last fifth."""
    out = []
    for name in CLASSIFIED:
        if name not in encoder.index:
            continue
        data = _labelled(encoder, rows, encoder.index[name])
        if data is None:
            continue
        known, classes, y = data
        cut = int(0.8 * len(y))
        early, late = np.arange(cut), np.arange(cut, len(y))
        loss: dict[str, float] = {}
        accuracy: dict[str, float] = {}
        for method in METHODS:
            model = _fit_classifier(
                method,
                encoder,
                known.take(early),
                y[early],
                classes,
                encoder.index[name],
                seed,
            )
            logs = _batch_logs(*model, known.take(late))
            loss[method] = float(-np.mean(np.maximum(logs[np.arange(len(late)), y[late]], -16)))
            accuracy[method] = float(np.mean(np.argmax(logs, axis=1) == y[late]))
        out.append(Compared(name, loss, accuracy, min(loss, key=lambda m: loss[m])))
    return out


def _targets(encoder: Encoder, rows: Rows) -> list[int]:
    rank = {name: i for i, name in enumerate(IMPORTANT)}
    able = [
        i
        for i, f in enumerate(encoder.fields)
        if f.name not in DERIVED
        and (f.kind == "continuous" or (f.name in rank and f.kind == "discrete"))
        and np.mean(~np.isnan(rows.numbers[:, i])) > 0.05
    ]
    able.sort(key=lambda i: (rank.get(encoder.fields[i].name, len(rank)), encoder.fields[i].name))
    return able[:CONDITIONALS]


def _predictors(encoder: Encoder, target: int) -> list[int]:
    """What may explain ``target``: settings and context for a machine field, other patient facts for a patient one."""
    name = encoder.fields[target].name
    if encoder.fields[target].group == Group.PATIENT:
        return [
            i
            for i, f in enumerate(encoder.fields)
            if f.group in (Group.PATIENT, Group.OBJECTIVE) and i != target
        ]
    block = {name} | DOSE_BLOCK | DERIVED
    if name not in DOSE_BLOCK:
        block |= RANGE_BLOCK
    else:
        # What is scanned matters to what it takes; what follows from the dose does not.
        block |= {"AcquisitionEndLocation"}
    return [i for i, f in enumerate(encoder.fields) if f.name not in block and f.group != Group.PLACE]


def _fields(encoder: Encoder, target: int) -> Codes:
    """What a classifier looks at: the machine fields, and the size that the localizer measured."""
    measured = encoder.index.get(MEASURED, target)
    return np.array([*encoder.machine, *([measured] if measured != target else [])], dtype=np.int64)


def _edges(encoder: Encoder, rows: Rows, target: int) -> tuple[float, ...]:
    """Edges of the classes of a number: the age bands, or fifths; none for a category."""
    learned = encoder.fields[target]
    if learned.kind == "category":
        return ()
    if learned.name == "PatientAge":
        return AGE_BANDS
    numbers = rows.numbers[:, target]
    return tuple(float(e) for e in np.unique(np.quantile(numbers[~np.isnan(numbers)], [0.2, 0.4, 0.6, 0.8])))


def _labelled(encoder: Encoder, rows: Rows, target: int) -> tuple[Rows, Codes, Codes] | None:
    """Rows where the field is known, its classes, and the class of each row; None when there is nothing to tell."""
    have = np.flatnonzero(
        rows.codes[:, target] != MISSING
        if encoder.fields[target].kind == "category"
        else ~np.isnan(rows.numbers[:, target])
    )
    if len(have) < LEAST:
        return None
    known = rows.take(have)
    edges = _edges(encoder, known, target)
    code = known.codes[:, target]
    if edges:
        code = FIRST + np.searchsorted(edges, known.numbers[:, target], side="right")
    classes, y = np.unique(code, return_inverse=True)
    return (known, classes, y) if 2 <= len(classes) <= MOST_CLASSES else None


def _classifier(
    encoder: Encoder, rows: Rows, target: int, seed: int, method: str
) -> tuple[Classifier, Graph | None] | None:
    data = _labelled(encoder, rows, target)
    if data is None:
        return None
    known, classes, y = data
    return _fit_classifier(method, encoder, known, y, classes, target, seed)


def _fit_classifier(
    method: str,
    encoder: Encoder,
    rows: Rows,
    y: Codes,
    classes: Codes,
    target: int,
    seed: int,
) -> tuple[Classifier, Graph | None]:
    fields = _fields(encoder, target)
    edges = _edges(encoder, rows, target)
    at = np.asarray(encoder.offsets)[fields].astype(np.int64)
    size, number = encoder.offsets[-1], len(classes)
    empty = np.zeros((0, 0), dtype=np.float32)
    none = np.zeros(0, dtype=np.float32)
    if method == "boosted trees":
        features = rounded(np.column_stack([rows.codes[:, fields], rows.numbers[:, fields]]))
        rounds = max(6, min(30, 240 // number))
        booster = boost(
            features, y, objective="multiclass", classes=number, rounds=rounds, rate=0.15, seed=seed
        )
        graph = export(booster, features, what=f"classifier of {encoder.fields[target].name}", raw=False)
        return Classifier(
            target, method, fields, at, empty, none, classes.astype(np.int64), trees=True, edges=edges
        ), graph
    flat = at[None, :] + rows.codes[:, fields]
    if method == "naive Bayes":
        counts = np.full((size, number), 0.5)
        np.add.at(counts, (flat.ravel(), np.repeat(y, len(fields))), 1.0)
        weights = np.log(counts) - np.log(np.bincount(y, minlength=number) + 1.0)
        # Fields repeat one another: tempered, or the answer is far too sure.
        weights *= 3.0 / len(fields)
        bias = np.log(np.bincount(y, minlength=number) + 0.5)
    else:
        weights, bias = _multinomial(flat, y, size, number, seed)
    model = Classifier(
        target,
        method,
        fields,
        at,
        weights.astype(np.float32),
        bias.astype(np.float32),
        classes.astype(np.int64),
        False,
        edges,
    )
    return model, None


def _multinomial(
    flat: Codes,
    y: Codes,
    size: int,
    number: int,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    table = torch.nn.EmbeddingBag(size, number, mode="sum")
    torch.nn.init.zeros_(table.weight)
    bias = torch.nn.Parameter(torch.zeros(number))
    optimizer = torch.optim.Adam([*table.parameters(), bias], lr=0.03)
    x, t = torch.from_numpy(flat), torch.from_numpy(y.astype(np.int64))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(250):
        i = torch.randint(len(x), (512,), generator=generator)
        loss = (
            torch.nn.functional.cross_entropy(table(x[i]) + bias, t[i]) + 1e-5 * table.weight.square().sum()
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return table.weight.detach().numpy().astype(np.float64), bias.detach().numpy().astype(np.float64)


def _batch_logs(model: Classifier, graph: Graph | None, rows: Rows) -> NDArray[np.float64]:
    codes = rows.codes[:, model.fields]
    if graph is not None:
        features = rounded(np.column_stack([codes, rows.numbers[:, model.fields]]))
        return np.log(np.maximum(graph.run(features).astype(np.float64), 1e-7))
    logits = model.weights[model.at + codes].sum(axis=1).astype(np.float64) + model.bias
    logits -= logits.max(axis=1, keepdims=True)
    out: NDArray[np.float64] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return out
