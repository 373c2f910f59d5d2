"""One user's mixture of experts: what the prior says, and what this user's choices made of it.

A ranking has the experts' vectors as rows X (`adaptation`) and weights w = prior + delta. The spaces stand side by side
(`item_spaces`), and an expert of one space is 0 in the others, so that one product serves all:

    score_i = e_i . (w X)

A choice c from a list with scores Z = E X' (C, K), q = softmax(Z w + log_weight + offset), teaches three things:

    user vectors   by online softmax (`residual_user`), in all spaces at once
    weights        g = z_c - sum q z = X (e_c - sum q e),  H <- H + g g',  delta <- delta + H^-1 g, from the prior's H_0 (about
                   lambda diag(variances)): a Kalman step of the multinomial logit, whose memory only grows (`choice_step`)
    the gate       A <- .95 A + (log q_c - log p_c), p the calibrated base alone; while A < -4 the calibrated base ranks,
                   and the mixture goes on learning

`log_weight` is not zero where an item of a sampled list stands for many; `offset` is what a server's scores added.
A dismissal moves the user vectors only. Before the first lesson the model ranks, exactly, unless the prior starts as a
mixture (`AdaptationPrior.start`). An update that is not finite is not made.

Without a prior: w = 2 / spread(h) for the base, 1/2 for the user vector, 0 for the others, no step of the weights, the gate's base is the
model, and scores are reported in the model's own units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .adaptation import OWN_EXPERTS, AdaptationPrior, freshness
from .choice_step import choice_odds, kalman_step
from .experts import Ahead, Experts, Floats
from .item_spaces import ItemSpaces
from .residual_user import ResidualUser

TEMPERATURE = 2.0
"""Without a prior: the base's scores become logits of this deviation over the catalogue."""
USER_VECTOR_WEIGHT = 0.5
"""Without a prior. On MovieLens-100K 1 gains more (+9.5% of NDCG@10 against +6.6%); on Beauty .5 loses nothing significant."""
WEIGHT_PRIOR = 300.0
"""lambda: the weights move as if the prior had seen 300 events."""
GATE_DECAY, GATE_LIMIT = 0.95, -4.0
"""Reached in under 4% of events on MovieLens-100K, where the gate changed nothing significantly: it is a safety."""
_LARGEST_DIFFERENCE = 5.0  # of log-likelihoods in one event: one surprise does not close the gate for long


class Mixture:
    """One user's experts, weights and gate. Spaces: the model's own, and the taste space where the bundle has one."""

    def __init__(self, spaces: ItemSpaces, prior_user: Floats, prior: AdaptationPrior | None) -> None:
        self.spaces = spaces
        self.prior = prior
        self.residual = ResidualUser.new(spaces.width)
        """The user vectors of all spaces, side by side."""
        self.n_events = 0
        """Learned; with 0 the ranking is the model's, exactly, unless the prior says otherwise."""
        if prior is None:
            self._covariance = np.eye(len(OWN_EXPERTS)) / WEIGHT_PRIOR
        else:
            self._covariance = prior.first_covariance(WEIGHT_PRIOR)
        self._delta = np.zeros(len(self._covariance))
        self._moved = np.zeros((2, len(self._delta)))  # delta, and nothing for the calibrated base
        self._advantage = 0.0
        self._counting: dict[tuple[str, int], Floats] = {}  # `_weights_of`, until the next lesson
        self._unfilled = np.zeros((len(self._delta), spaces.width), np.float32)  # X but for what changes
        if len(spaces):
            self._unfilled[1, spaces.slices[0]] = prior_user

    @property
    def residuals(self) -> list[ResidualUser]:
        """`residual` by space: views."""
        return [
            ResidualUser(self.residual.vector[where], self.residual.gradient_squared[where])
            for where in self.spaces.slices
        ]

    def experts(self, user: Floats, recent: Floats, n_recent: int, ahead: Ahead | None = None) -> Experts:
        """The experts' vectors at this moment, whatever is learned until somebody asks for them.

        Args:
            user: float32 (width of the model's space,), the model's.
            recent: float32 (n_recent, D), `Recency.scaled` of the last events, oldest first; nobody writes to it again.
            n_recent: events that the experts look at, at most `RECENT`.
            ahead: `ahead` of this moment, if it was made.
        """
        learned = self.residual.vector  # a lesson makes another array
        return Experts(user, n_recent, lambda: self._rest(recent, learned), ahead)

    def ahead(self, recent: Floats, n_recent: int, source: str) -> Ahead | None:
        """What can be made before the next ranking, as `experts` takes it; None where the base says what everything weighs."""
        if self.prior is None:
            return None
        rest = self._rest(recent, self.residual.vector)
        weights = self._weights_at(source, n_recent, self.prior)[1 if self.gate_is_closed else 0]
        return Ahead(rest, source, weights, weights.dot(rest))

    def _rest(self, recent: Floats, learned: Floats) -> Floats:
        """X but for the model's user vector, float32 (K, D)."""
        matrix, vectors = self._unfilled.copy(), learned / self.spaces.radius
        means = None if self.prior is None or len(recent) == 0 else self.spaces.recency.means(recent)
        first = 2
        for where in self.spaces.slices:
            if means is not None:
                matrix[first : first + 3, where] = means[:, where]
            matrix[first + 3, where] = vectors[where]
            first += 4
        return matrix

    def user_vector(self, experts: Experts, source: str) -> Floats:
        """w X: what ranks, float32 (D,); while the model ranks alone `experts.base`, of its own space only."""
        if self.model_ranks_alone(experts.n_recent):
            return experts.base
        if experts.ahead is not None and experts.ahead.source == source:
            return experts.mixed(experts.ahead.weights, source)
        weights = self._weights_of(source, experts)[1 if self.gate_is_closed else 0]
        if self.prior is None:
            weights = weights / (weights[0] or 1.0)
        return experts.mixed(weights, source)

    def ranking_weights(self, experts: Experts, source: str) -> NDArray[np.float64] | None:
        """What the experts count in a ranking at this moment, float64 (K,); None while the model ranks alone."""
        if self.model_ranks_alone(experts.n_recent):
            return None
        weights = self._calibrated(source, experts) if self.gate_is_closed else self.weights(source, experts)
        return weights / (weights[0] or 1.0) if self.prior is None else weights

    def model_ranks_alone(self, n_recent: int) -> bool:
        """Whether a ranking is the model's, exactly: before the first lesson, unless the prior starts as a mixture."""
        starts_mixed = self.prior is not None and self.prior.start == "mixture" and n_recent > 0
        return self.n_events == 0 and not starts_mixed

    def weights(self, source: str, experts: Experts) -> NDArray[np.float64]:
        """w, float64 (K,)."""
        if self.prior is not None:
            return self.prior.weights_at(source, self._fresh(experts)) + self._delta
        spread = self.spaces[0].spread(experts.base)
        weights = np.zeros(len(OWN_EXPERTS))
        weights[0], weights[-1] = TEMPERATURE / spread if spread > 0 else 0.0, USER_VECTOR_WEIGHT
        return weights

    def logits_per_score(self, experts: Experts, source: str) -> float:
        """What a reported score must be multiplied by to be a logit."""
        return 1.0 if self.prior is not None else float(self.weights(source, experts)[0])

    @property
    def gate_is_closed(self) -> bool:
        """Whether the mixture has lost to the calibrated base of late."""
        return self._advantage < GATE_LIMIT

    def learn_(
        self,
        experts: Experts,
        source: str,
        items: Floats,
        added: Floats | None,
        item: int,
        *,
        chosen: bool,
        weight: float = 1.0,
    ) -> Floats | None:
        """One choice, or dismissal, from one list; returns its probabilities before that, None where they are not finite.

        Args:
            experts, source: what the list was ranked with.
            items: the list's vectors, float32 (C, D).
            added: float32 (C,), log_weight + offset; None: 0.
            item: which of the C.
            weight: what the event counts, beside a click of 1.
        """
        users = self._weights_of(source, experts).dot(experts.matrix)  # (2, D)
        logits = users.dot(items.T)  # (2, C)
        if added is not None:
            logits += added
        q, (log_q, log_p) = choice_odds(logits, item)
        if not math.isfinite(log_q):  # then none of them is
            return None
        gap = items[item] - q.dot(items)  # (D,)
        if chosen:
            self._judge(log_q - log_p)
            if self.prior is not None:
                surprise = experts.matrix.dot(gap)  # (K,)
                self._delta, self._covariance = kalman_step(self._delta, self._covariance, surprise, weight)
                self._moved[0] = self._delta
        self.residual.step_(gap, float(q[item]), radius=self.spaces.radius, chosen=chosen, weight=weight)
        self.n_events += 1
        self._counting.clear()
        return q

    def learned(self) -> tuple[dict[str, NDArray[Any]], dict[str, int]]:
        """Arrays and counters for a state file."""
        arrays: dict[str, NDArray[Any]] = {}
        for n, residual in enumerate(self.residuals):
            arrays[f"user_vector_{n}"] = residual.vector
            arrays[f"gradient_squared_{n}"] = residual.gradient_squared
        if self.prior is not None:
            arrays |= {"weights_delta": self._delta, "weights_covariance": self._covariance}
        arrays["advantage"] = np.array([self._advantage])
        return arrays, {"learned_events": self.n_events}

    def restore_(self, arrays: Mapping[str, NDArray[Any]], counters: Mapping[str, int]) -> None:
        """Go on where `learned` stopped; where anything does not fit, nothing is taken."""
        own, _ = self.learned()
        if any(name not in arrays or arrays[name].shape != value.shape for name, value in own.items()):
            return
        squares = [arrays[f"gradient_squared_{n}"] for n in range(len(self.residuals))]
        if not all((square > 0).all() for square in squares):
            return
        if squares:
            vectors = [arrays[f"user_vector_{n}"] for n in range(len(squares))]
            self.residual = ResidualUser(
                np.concatenate(vectors, dtype=np.float32), np.concatenate(squares, dtype=np.float32)
            )
        if self.prior is not None:
            self._delta = self._moved[0] = arrays["weights_delta"].astype(np.float64)
            self._covariance = arrays["weights_covariance"].astype(np.float64)
        self._advantage = float(arrays["advantage"][0])
        self._counting.clear()
        self.n_events = max(counters.get("learned_events", 0), 0)

    def _calibrated(self, source: str, experts: Experts) -> NDArray[np.float64]:
        """Weights of the base and popularity alone, float64 (K,), 0 for the others."""
        weights = np.zeros(len(self._delta))
        if self.prior is None:
            weights[0] = self.weights(source, experts)[0]
        else:
            weights[:2] = self.prior.calibrated_at(source, self._fresh(experts))
        return weights

    def _fresh(self, experts: Experts) -> float:
        return freshness(self.n_events, experts.n_recent)

    def _weights_of(self, source: str, experts: Experts) -> Floats:
        """float32 (2, K): of the mixture, and of the calibrated base."""
        if self.prior is not None:
            return self._weights_at(source, experts.n_recent, self.prior)
        # they follow from the base's scores of the moment
        return np.stack([self.weights(source, experts), self._calibrated(source, experts)]).astype(np.float32)

    def _weights_at(self, source: str, n_recent: int, prior: AdaptationPrior) -> Floats:
        moment = source, n_recent
        known = self._counting.get(moment)
        if known is None:
            known = (prior.rows_at(source, freshness(self.n_events, n_recent)) + self._moved).astype(
                np.float32
            )
            self._counting[moment] = known
        return known

    def _judge(self, difference: float) -> None:
        bounded = min(max(difference, -_LARGEST_DIFFERENCE), _LARGEST_DIFFERENCE)
        self._advantage = GATE_DECAY * self._advantage + bounded
