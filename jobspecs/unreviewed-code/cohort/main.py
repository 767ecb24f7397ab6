"""A bundle that no reviewer has approved: the example of ``code-not-approved``."""

import json


def run(context):
    """Write the number of inputs as the only metric."""
    context.output("summary").write_text(json.dumps({"inputs": len(context.data)}))
