"""Distillation of a pointwise model: a student learns its teacher's probabilities on the training rows, and the labels.

    loss = soft_weight * BCE(student, sigmoid(teacher)) + (1 - soft_weight) * BCE(student, label)

(Hinton et al. 2015, arXiv:1503.02531, section 2, for two classes: the gradient of the first term is the difference of the
probabilities, so logits match where it is nought.) Tables are rounded in the loop as they will be stored
(`fake_quantize`). After each epoch the running average of the weights is measured by AUC on the validation rows; the best
epoch is kept, the untrained student is one of them, and `patience` epochs without a better one end it.
"""

from __future__ import annotations

import copy
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..benchmarks.label_metrics import auc, log_loss
from ..benchmarks.labelled_rows import LabelledRows
from ..benchmarks.progress import Track, untracked
from .distill import LEARNING_RATE, cosine_share
from .distill_config import DistillConfig
from .fake_quantize import RowQuantizer
from .models.pointwise_protocol import PointwiseModel
from .pointwise_forward import all_logits, logits, tensors


def distill_pointwise(
    student: PointwiseModel,
    teacher: PointwiseModel,
    train: LabelledRows,
    valid: LabelledRows,
    config: DistillConfig,
    *,
    bits: int | None,
    seed: int,
    metric: Literal["auc", "logloss"] = "auc",
    track: Track = untracked,
) -> tuple[PointwiseModel, dict[str, Any]]:
    """Train a copy of `student`, its tables rounded to `bits` bits in the loop.

    Args:
        metric: what the best epoch is chosen by.

    Returns:
        The best student and what happened: the AUC (the log loss) before the first epoch and after each.
    """
    student = copy.deepcopy(student)
    network = cast(nn.Module, student)
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)  # dropout, where the student has it, draws from torch's global generator
    columns, labels = tensors(train), torch.from_numpy(train.labels)
    expected = torch.from_numpy(all_logits(teacher, train)).sigmoid()
    targets = config.soft_weight * expected + (1 - config.soft_weight) * labels
    quantizers = {name: RowQuantizer(len(table), bits) for name, table in student.tables.items()}
    tables = {id(table) for table in student.tables.values()}
    rates = (config.learning_rate or LEARNING_RATE, config.table_learning_rate)
    groups = [
        {"params": [p for p in network.parameters() if id(p) not in tables], "lr": rates[0]},
        {"params": list(student.tables.values()), "lr": rates[1]},
    ]
    optimizer = torch.optim.Adam(groups)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = config.dropout
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.average_decay))
    key, sign = f"validation_{metric}", 1 if metric == "auc" else -1
    best, best_value, since = copy.deepcopy(student), _value(student, valid, bits, metric), 0
    history: list[dict[str, float]] = [{"epoch": 0, key: best_value}]
    n_seen, n_all = 0, config.epochs * len(train)
    for epoch in range(1, config.epochs + 1):
        total, order = 0.0, torch.from_numpy(random.permutation(len(train)))
        network.train()
        with track(f"distill, epoch {epoch}/{config.epochs}", len(train)) as advance:
            for batch in order.split(config.batch_size):
                rounded = {name: quantizers[name](table) for name, table in student.tables.items()}
                taken = {name: _trimmed(values[batch]) for name, values in columns.items()}
                found = logits(student, taken, rounded)
                loss = F.binary_cross_entropy_with_logits(found, targets[batch])
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * cosine_share(n_seen / n_all)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                average.update_parameters(network)
                total, n_seen = total + loss.item() * len(batch), n_seen + len(batch)
                advance(len(batch))
        candidate = cast(PointwiseModel, average.module.eval())
        value = _value(candidate, valid, bits, metric)
        history.append({"epoch": epoch, "loss": total / len(train), key: value})
        if sign * value > sign * best_value:
            best, best_value, since = copy.deepcopy(candidate), value, 0
        else:
            since += 1
            if since >= config.patience:
                break
    cast(nn.Module, best).eval()
    return best, {
        "epochs": len(history) - 1,
        key: [epoch[key] for epoch in history],
        "loss": [epoch["loss"] for epoch in history[1:]],
        "best_epoch": max(history, key=lambda e: sign * e[key])["epoch"],
    }


def rounded_tables(model: PointwiseModel, bits: int | None) -> dict[str, Tensor]:
    """The tables as they will be stored: float32, on the grid of each row."""
    with torch.no_grad():
        return {name: RowQuantizer(len(table), bits)(table) for name, table in model.tables.items()}


def _trimmed(rows: Tensor) -> Tensor:
    """Lists without the columns that pad all of them."""
    return rows if rows.dim() == 1 else rows[:, : max(1, int((rows > 0).sum(1).max()))]


def _value(model: PointwiseModel, rows: LabelledRows, bits: int | None, metric: str) -> float:
    figure = auc if metric == "auc" else log_loss
    return figure(rows.labels, all_logits(model, rows, rounded_tables(model, bits)))
