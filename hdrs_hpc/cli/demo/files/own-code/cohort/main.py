"""The researcher's own code: mean intensity and number of patients by modality, with Dask.

It runs in the sandbox, where the keys are not; ``context.data`` holds the inputs by the spec's names.
"""

import csv

import dask


def run(context):
    copy = context.data["ct"]
    volumes = [row for row in copy.index().to_pylist() if row["kind"] == "volume"]
    means = dask.compute(*[copy.volume_lazy(row["item"]).mean() for row in volumes])
    with context.output("depth").open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["modality", "n_patients", "n_series", "mean_stored_value"])
        for modality in sorted({row["modality"] for row in volumes}):
            mine = [index for index, row in enumerate(volumes) if row["modality"] == modality]
            patients = {volumes[index]["patient"] for index in mine}
            mean = sum(float(means[index]) for index in mine) / len(mine)
            table.writerow([modality, len(patients), len(mine), round(mean, 1)])
