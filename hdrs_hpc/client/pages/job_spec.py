"""A job spec as one page: what is asked for, what it may use up, and what may leave."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from hdrs_hpc.client.pages import declared_outputs
from hdrs_hpc.client.pages.declared_outputs import number
from hdrs_hpc.client.pages.layout import Block, NamedValues, Page, Section, Table, count, listed, moment
from hdrs_hpc.documents.models.job_spec import JobSpec, KeptArtefact
from hdrs_hpc.documents.models.selection import DateRange, Values
from hdrs_hpc.forms.words import memory_text, size_text, walltime_text
from hdrs_hpc.policy import charging
from hdrs_hpc.policy.facts import Facts
from hdrs_hpc.policy.job import choose_cluster


def page(spec: JobSpec, project: Facts | None) -> Page:
    """``project``: as far as it is known where this is signed."""
    return Page(
        f"job spec {spec.name} for project {spec.project}",
        (
            Section("What it is for", [spec.purpose, *_title(project)]),
            Section("What data it is served, and no other", _data(spec, project)),
            Section("What runs", _workload(spec)),
            Section("On what", [_resources(spec, project)]),
            Section("What it uses up at most", list(_costs(spec, project))),
            Section("What may leave, and nothing else", list(_outputs(spec, project))),
            Section("What is told while it runs", list(_progress(spec))),
            Section(
                "When and where",
                [
                    NamedValues([("broker", spec.audience), ("trust root", spec.trust_root)]),
                    f"The broker takes it from {moment(spec.not_before)} until {moment(spec.expires)}, once: the same "
                    "file sent again is the same job. `hdrs-hpc job cancel` stops it.",
                ],
            ),
        ),
    )


def selection(chosen: Mapping[str, Values]) -> str:
    """``Modality CT, MR; StudyDate 2019-01-01/2023-12-31``."""
    told = (
        f"{word} {values.first}/{values.last}"
        if isinstance(values, DateRange)
        else f"{word} {', '.join(values)}"
        for word, values in chosen.items()
    )
    return "; ".join(told) or "all of it"


def _title(project: Facts | None) -> Iterator[str]:
    if project is not None:
        yield f"The project: {project.grant.title}."


def _data(spec: JobSpec, project: Facts | None) -> list[Block]:
    rows = []
    for name, use in spec.data.items():
        granted = project.grant.data.get(use.dataset) if project else None
        registered = project.registrations.get(use.dataset) if project else None
        chosen = selection({**(granted.select if granted else {}), **use.select})
        if granted is None and not use.select:
            chosen = "all that the grant gives"
        rows.append((name, use.dataset, registered.sensitivity if registered else "not known here", chosen))
    return [Table(("opened as", "dataset", "data are", "what of it"), rows)]


def _workload(spec: JobSpec) -> list[Block]:
    work = spec.workload
    pairs: list[tuple[str, object]] = [
        ("kind", work.kind),
        ("built in", work.builtin),
        ("starts at", work.entry),
    ]
    if work.bundle is not None:
        pairs += [("your code", f"{work.bundle.size:,} bytes, packed"), ("digest", work.bundle.digest)]
        if wheels := work.bundle.wheels:
            pairs.append(("packages", f"{wheels.size:,} bytes of wheels; lock {wheels.lock}"))
    pairs += [(f"parameter {name}", _typed(value)) for name, value in work.parameters.items()]
    for name, values in work.sweep.items():
        pairs.append((f"sweep {name}", ", ".join(map(_typed, values))))
    for name, item in spec.inputs.items():
        if isinstance(item, KeptArtefact):
            pairs.append((f"input {name}", f"{item.output}, kept by job {item.job}"))
        else:
            told = f"{item.file.size:,} bytes from {item.source}, {item.licence}; {item.file.digest}"
            pairs.append((f"input {name}", told))
    return [NamedValues(pairs)]


def _typed(value: Any) -> str:
    """As in the file: text that reads as a number there stands in quotes."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value, ensure_ascii=False)


def _resources(spec: JobSpec, project: Facts | None) -> Block:
    asked = spec.resources
    cluster = choose_cluster(spec, project.grant) if project else asked.cluster
    memory = memory_text(asked.mem)
    if asked.nodes > 1:
        memory = f"{asked.nodes} × {memory}"
    rows: list[tuple[str, object, object]] = [
        ("nodes", "", asked.nodes),
        ("CPUs", asked.cpus_per_task, asked.cpus_per_task * asked.nodes),
        ("memory", memory_text(asked.mem), memory),
        ("GPUs", asked.gres or "none", asked.gpus_per_node * asked.nodes or "none"),
        ("time", "", walltime_text(asked.time)),
        ("cluster", "", cluster or "the first that the grant names"),
    ]
    if spec.attempts is not None:
        rows.append(("attempts", "", f"{spec.attempts.at_most}, after {listed(spec.attempts.after)}"))
    if spec.checkpoints is not None:
        most = f"{spec.checkpoints.keep} × {size_text(spec.checkpoints.max_size)}"
        rows.append(("checkpoints", "", most))
    return Table(("", "a node", "in all"), rows)


def _costs(spec: JobSpec, project: Facts | None) -> Iterator[str]:
    asked, time = spec.resources, walltime_text(spec.resources.time)
    jobs = math.prod(len(values) for values in spec.workload.sweep.values())
    times = f"{jobs} jobs × " if jobs > 1 else ""
    nodes = f"{times}{count(asked.nodes, 'node')} × "
    has = project.cluster.capacity if project else None
    gpu_hours = charging.gpu_hours(asked, has) * jobs
    if gpu_hours:
        charged = charging.gpus(asked, has) // asked.nodes
        gpus = count(charged, "GPU")
        if project is not None and charged > asked.gpus_per_node:
            asked_for = count(asked.gpus_per_node, "GPU") if asked.gpus_per_node else "no GPU"
            yield f"{project.cluster.name} gives whole nodes: {asked_for} a node asked for, all {charged} charged."
        yield f"{nodes}{gpus} × {time} = {gpu_hours:,.1f} GPU hours, charged to the project."
    else:
        yield "No GPU hours."
    if gpu_hours and project is not None:
        granted = project.grant.limits.gpu_hours
        left = max(0.0, granted - project.gpu_hours_used)
        yield f"Of the {granted:,} GPU hours granted, {left:,.1f} are left before it."
    cpu_hours = asked.cpus_per_task * asked.nodes * asked.time * jobs / 3600
    yield f"{nodes}{count(asked.cpus_per_task, 'CPU')} × {time} = {cpu_hours:,.1f} CPU hours of the site."


def _progress(spec: JobSpec) -> Iterator[str]:
    for name, curve in spec.progress.items():
        yield f"- {name}, in coarse steps from {number(curve.from_)} to {number(curve.to)}"


def _outputs(spec: JobSpec, project: Facts | None) -> Iterator[Block]:
    rows = []
    for name, output in spec.outputs.items():
        path, most = getattr(output, "path", None), getattr(output, "max_size", None)
        then = "may leave" if output.keep == "release" else "stays in the project"
        rows.append((name, output.class_, path, size_text(most) if most else None, then))
    yield Table(("output", "class", "file", "at most", "then"), rows)
    for name, output in spec.outputs.items():
        if held := [f"- {line}" for line in declared_outputs.holds(output)]:
            yield f"{name} holds nothing but:"
            yield from held
    keeps = {output.keep for output in spec.outputs.values()}
    if "release" in keeps:
        yield "Each is checked first, and written anew:"
        for name in dict.fromkeys(output.class_ for output in spec.outputs.values()):
            rule = project.grant.outputs.rule(name) if project else None
            yield f"- {declared_outputs.output_rule(rule) if rule else f'{name}: by the rule of the grant'}."
        reviewers = (
            f"{count(project.grant.outputs.reviewers, 'reviewer')} from outside the project"
            if project
            else "the reviewers whom the grant asks for"
        )
        yield f"Then {reviewers} must agree to each; what one of them refuses stays in and is destroyed."
    if "project" in keeps:
        yield "What stays in the project is sealed, serves its later jobs, and is destroyed with it."
