"""What may leave: a class of outputs as a grant bounds it."""

from __future__ import annotations

from hdrs_hpc.catalogue.outputs.metrics import MetricsRule
from hdrs_hpc.catalogue.outputs.output_class import GrantRule
from hdrs_hpc.client.pages.layout import count


def output_rule(rule: GrantRule) -> str:
    """The sentence of a class in a grant, with what the grant says of the class alone."""
    words = [rule.sentence()]
    if isinstance(rule, MetricsRule):
        if rule.min_count is not None:
            words.append(f"but counts below {rule.min_count} suppressed")
        if rule.round is not None:
            words.append(f"but counts rounded to {rule.round}")
    digits = getattr(rule, "significant_digits", None)
    if digits is not None:
        words.append(f"other numbers keep {count(digits, 'significant digit')}")
    return "; ".join(words)
