"""A bundle that no reviewer has approved: the example of ``code-not-approved``."""


def run(context):
    """Write the number of inputs as a table of one row."""
    context.output("cohort").write_text(f"n_patients\n{len(context.data)}\n")
