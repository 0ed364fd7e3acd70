"""The evaluation of a model: what is asked of it, and every metric that its inputs allow."""

from u2a_core.evaluation.figures import (
    all_metrics,
    facts,
    length_controlled,
    not_offered,
    paired,
    scores_table,
    texts_measured,
    values_of,
    with_texts,
)
from u2a_core.evaluation.judging import ASKED, cost, judgements, questions, warnings_of
from u2a_core.evaluation.likelihoods import (
    fluency,
    likelihoods,
    membership_measured,
    token_log_probs,
)
from u2a_core.evaluation.served import ServedModel
from u2a_core.evaluation.sets import Sets, answerable_sets, load_sets, matched, why_missing

__all__ = [
    "ASKED",
    "ServedModel",
    "Sets",
    "all_metrics",
    "answerable_sets",
    "cost",
    "facts",
    "fluency",
    "judgements",
    "length_controlled",
    "likelihoods",
    "load_sets",
    "matched",
    "membership_measured",
    "not_offered",
    "paired",
    "questions",
    "scores_table",
    "texts_measured",
    "token_log_probs",
    "values_of",
    "warnings_of",
    "why_missing",
    "with_texts",
]
