"""What detectors can look at. A lab has those that its runs report and that its referee measures; see docs/detectors.md."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Signal(StrEnum):
    """One thing that may be known of a run. The value is the name that the lab's documentation and settings use."""

    # series: numbers that a run writes at its steps, under this name unless the lab says otherwise
    LOSS = "loss"
    GRAD_NORM = "grad_norm"
    RATE = "lr"
    SPEED = "tokens_per_s"
    UPDATE = "update_ratio"
    HEAD_COSINE = "head_cosine"
    STALE = "stale_gradient"
    DEAD_UNITS = "dead_units"
    ATTENTION = "attention_max"

    # facts: single values of a run's summary
    DATA_ORDER = "data_order"
    FIRST_LOSS = "first_loss"
    TOKENS = "tokens_seen"
    UNMOVED = "unmoved"
    LOOKAHEAD = "lookahead"
    SEED_USED = "seed_used"
    FLOPS = "flops_per_token"
    PARAMETERS = "parameters"

    # what others measured, or know
    ROWS = "rows"
    HELD = "held"
    SCORE = "score"
    SOURCES = "sources"
    REPORTED = "reported"
    EVALUATED = "evaluated"
    BUDGET = "budget"
    TREE = "tree"
    TRUNK = "trunk"
    SIBLINGS = "siblings"
    SPREAD = "spread"
    SOURCE_SPREAD = "source_spread"


SERIES = (
    Signal.LOSS,
    Signal.GRAD_NORM,
    Signal.RATE,
    Signal.SPEED,
    Signal.UPDATE,
    Signal.HEAD_COSINE,
    Signal.STALE,
    Signal.DEAD_UNITS,
    Signal.ATTENTION,
)
FACTS = (
    Signal.DATA_ORDER,
    Signal.FIRST_LOSS,
    Signal.TOKENS,
    Signal.UNMOVED,
    Signal.LOOKAHEAD,
    Signal.SEED_USED,
    Signal.FLOPS,
    Signal.PARAMETERS,
)

MEANING: Mapping[Signal, str] = {
    Signal.LOSS: "training loss in nats, every step",
    Signal.GRAD_NORM: "norm of the whole gradient before clipping, every step",
    Signal.RATE: "learning rate, every step",
    Signal.SPEED: "tokens a second, every step",
    Signal.UPDATE: "norm of one update of all parameters over their norm",
    Signal.HEAD_COSINE: "cosine between the output layer's gradients of two successive steps",
    Signal.STALE: "part of the output layer's gradient that was there before a step's first backward pass",
    Signal.DEAD_UNITS: "share of MLP units that are shut over a whole batch",
    Signal.ATTENTION: "largest attention logit of a window",
    Signal.DATA_ORDER: "hash of everything drawn for training, in order",
    Signal.FIRST_LOSS: "loss of the first batch before any update",
    Signal.TOKENS: "tokens that the model was trained on, counted beside the training loop",
    Signal.UNMOVED: "names of the parameters that no update has changed",
    Signal.LOOKAHEAD: "how far earlier logits move when the last token is changed",
    Signal.SEED_USED: "the seed that the random generator was given",
    Signal.FLOPS: "floating point operations a token, forward and backward",
    Signal.PARAMETERS: "number of parameters",
    Signal.ROWS: "hashes of training rows and of their passages (seen.jsonl)",
    Signal.HELD: "hashes of the passages of the held text",
    Signal.SCORE: "the referee's score of the checkpoint",
    Signal.SOURCES: "the same by data source",
    Signal.REPORTED: "the score that the run gives itself",
    Signal.EVALUATED: "the referee's own evaluation of the text on which the run reports",
    Signal.BUDGET: "the number of steps that was declared",
    Signal.TREE: "which protected files differ from the commit's",
    Signal.TRUNK: "the trunk's run with the same seed",
    Signal.SIBLINGS: "runs of the same code with other seeds",
    Signal.SPREAD: "standard deviation of the trunk's score between seeds",
    Signal.SOURCE_SPREAD: "the same by data source",
}
