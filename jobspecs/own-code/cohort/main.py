"""Patients and series by one column of the index: the smallest useful bundle.

It runs inside the sandbox.  `context.data` holds the inputs by the names that the spec gives them, and
`context.output(name)` is where a declared output goes.  Write true counts: small ones are suppressed on the way out.
"""

import csv


def run(context):
    """Called once, on the node that leads the job."""
    column = context.parameters["by"]
    patients, series = {}, {}
    for copy in context.data.values():
        for row in copy.index().to_pylist():
            if row["kind"] != "volume":
                continue
            value = row[column] or "unknown"
            patients.setdefault(value, set()).add(row["patient"])
            series[value] = series.get(value, 0) + 1
    with context.output("cohort").open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow([column, "n_patients", "n_series"])
        for value in sorted(series):
            table.writerow([value, len(patients[value]), series[value]])
