"""What a bundle may cost: bytes, milliseconds, and what it may lose of its teacher's ranking.

    --max-drop     of a metric on the validation items: 1 - bundle / teacher; of a log loss, bundle / teacher - 1
    --max-size     of the whole file
    --max-latency  median time to re-rank 100 candidates after one new event, one thread, histories of validation users:
                   the operation `rerank` of `pocketrec bench`

A budget that is broken is told with what was allowed; how far it is broken (`excess`) says which of several bundles comes
nearest to it.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from ..runtime.errors import InputError
from .report import LOG_LOSS, Measure, lost

RANKING_METRIC, LABEL_METRIC = "ndcg@10", "auc"
"""What validation chooses by where `--metric` does not say."""
TITLES = {"auc": "AUC", "logloss": LOG_LOSS}
Limit = Literal["drop", "size", "latency"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What the bundle may cost; None is no limit. Broken: `GateError`, and nothing is written."""

    max_drop: float | None = None
    """Largest relative loss of the metric on the validation items or rows against the teacher: 0.01 is 1%."""
    max_size_bytes: int | None = None
    """Largest size of the bundle, everything included."""
    max_latency_ms: float | None = None
    """Longest median time to re-rank 100 candidates on one thread of this machine."""
    metric: str | None = None
    """What validation chooses by: `ndcg@10` (the default), `hr@k`, `mrr@k`, `recall@k` of models that rank by a history;
    `auc` (the default) or `logloss` of models that score rows."""


NO_LIMITS = Budget()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """One limit that is broken."""

    limit: Limit
    excess: float
    """How far: a share of the limit, or of the teacher's figure."""
    text: str
    """For people: what it is, and what is allowed."""


def breaches(budget: Budget, before: Measure, after: Measure) -> list[Breach]:
    """The limits that a bundle `after` breaks; `before` is its teacher."""
    found = list[Breach]()
    (title, was), (_, now) = before.figure, after.figure
    drop = lost(before, after)
    if budget.max_drop is not None and drop > budget.max_drop:
        moved = "rose" if title == LOG_LOSS else "fell"
        text = f"validation {title} {moved} from {was:.4f} to {now:.4f} ({drop:.2%}), --max-drop allows {budget.max_drop:.2%}"
        found.append(Breach(limit="drop", excess=drop - budget.max_drop, text=text))
    most = budget.max_size_bytes
    if most is not None and after.size_bytes > most:
        text = f"{after.size_bytes:,} bytes, --max-size allows {most:,}"
        found.append(Breach(limit="size", excess=after.size_bytes / most - 1, text=text))
    longest, took = budget.max_latency_ms, after.rerank_ms
    if longest is not None and took is not None and took > longest:
        text = f"re-ranking 100 candidates takes {took:.3g} ms, --max-latency allows {longest:g} ms"
        found.append(Breach(limit="latency", excess=took / longest - 1, text=text))
    return found


def ranking_metric(budget: Budget) -> str:
    """The metric of a model that ranks by a history, as `ranking_metrics.per_user` names it.

    With one relevant item a user, recall is the hit rate.

    Raises:
        InputError: a metric of labelled rows.
    """
    name = budget.metric or RANKING_METRIC
    if not re.fullmatch(r"(ndcg|hr|mrr|recall)@[1-9]\d{0,3}", name):
        raise InputError(
            f"--metric {name}: this model ranks by a history; expected ndcg@k, hr@k, mrr@k or recall@k, such as ndcg@10"
        )
    return name.replace("recall@", "hr@")


def label_metric(budget: Budget) -> Literal["auc", "logloss"]:
    """The metric of a model that scores rows.

    Raises:
        InputError: a ranking metric.
    """
    match budget.metric or LABEL_METRIC:
        case "auc":
            return "auc"
        case "logloss":
            return "logloss"
        case name:
            raise InputError(f"--metric {name}: this model scores rows of features; expected auc or logloss")


def metric_title(name: str) -> str:
    """As people read it.

    >>> metric_title("hr@10"), metric_title("logloss")
    ('HR@10', 'log loss')
    """
    return TITLES.get(name, name.upper())
