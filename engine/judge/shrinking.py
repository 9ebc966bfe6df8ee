"""What a gain is worth to a ranking, once it is allowed for that the luckiest of many comes out on top.

A list sorted by measured gains is headed by whatever was measured with luck. The posterior mean pulls a gain towards zero the
more, the less its pairs say, so that one big noisy gain does not outrank a smaller one that is sure.
"""

from __future__ import annotations

import math

from engine.judge.evidence import Sample, log_likelihood
from engine.judge.noise import Noise

GAINS = tuple(0.25 * 2 ** (step / 2) for step in range(17))
"""Gains from .25 to 64 sigma, evenly spaced in the logarithm, that share half of the prior; the other half is on none."""


def shrunk(found: Sample, noise: Noise) -> float:
    """Posterior mean of the gain, in the metric's unit, with half of the prior on zero and half on `GAINS`:

        sum of p(x) L(x) x / sum of p(x) L(x)

    Never below zero, since nothing that harms is ranked; 0 without pairs. A gain above 64 sigma is ranked as 64. L is the
    marginal likelihood of `engine.judge.evidence`. Source: docs/statistics.md. Raises nothing.
    """
    if found.n == 0:
        return 0.0
    points = [(0.0, 0.5), *((gain * noise.sigma, 0.5 / len(GAINS)) for gain in GAINS)]
    logs = [log_likelihood(found, gain, noise) for gain, _ in points]
    most = max(logs)
    weights = [prior * math.exp(log - most) for (_, prior), log in zip(points, logs, strict=True)]
    return math.fsum(w * gain for w, (gain, _) in zip(weights, points, strict=True)) / math.fsum(weights)
