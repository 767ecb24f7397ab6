"""One file a case: ``comparisons(bench)`` gives what is compared, making data as it goes along."""

ASKED = "what users of staging and reading asked for"
"""Source of most goals: set when the work began, as what would matter to a project's hours; not changed since."""
