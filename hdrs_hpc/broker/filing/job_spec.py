"""A job spec: it becomes one job."""

from __future__ import annotations

from sqlalchemy import Connection

from hdrs_hpc.broker.filing.case import Became, Case
from hdrs_hpc.broker.store import jobs, projects, transition, uploads
from hdrs_hpc.broker.store.documents import Accepted
from hdrs_hpc.catalogue.flavour_packages import HELD
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import ConflictError, NotFoundError
from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.documents.models.job_spec import JobSpec
from hdrs_hpc.documents.models.workload import BundleRef, runs_on
from hdrs_hpc.policy.refusals import SpecExpiredError, SpecNotYetValidError, WrongAudienceError
from hdrs_hpc.protocol import bundle, wheel_lock, wheels


class ReplayedError(ConflictError):
    code = "replayed"
    meaning = "Another spec of this person bears the same nonce."
    remedy = "Sign again: every signature gets a nonce of its own."


class BundleMissingError(NotFoundError):
    code = "bundle-missing"
    meaning = "The bundle that the spec names was not uploaded, or has other bytes than were signed."
    remedy = "Submit with `hdrs-hpc submit`, which uploads the bundle first."


def file(case: Case) -> Became:
    found = trust.verify(case.envelope, kinds.JOB_SPEC, case.root)
    spec = found.document
    submitter = found.people[0]
    project = projects.get(case.tx, spec.project)
    if submitter not in projects.grant_of(case.tx, project).people.researchers:
        # The same words as for a project that does not exist: strangers learn nothing.
        raise NotFoundError("there is no such project, or it is not yours", where=spec.project)
    if spec.audience != case.root.document.audience:
        raise WrongAudienceError()
    now = clock.now()
    if now < spec.not_before:
        raise SpecNotYetValidError()
    if now >= spec.expires:
        raise SpecExpiredError()
    if jobs.nonce_used(case.tx, submitter, spec.nonce):
        raise ReplayedError()
    needed: list[str] = []
    if spec.workload.bundle is not None:
        needed = _check_bundle(case, spec, spec.workload.bundle)
    case.file("job-spec", found.people)
    job = jobs.free_id(case.tx)
    transition.begin(
        case.tx,
        "job",
        {
            "id": job,
            "project": spec.project,
            "submitter": submitter,
            "spec": found.digest,
            "nonce": spec.nonce,
            "name": spec.name,
            "cancel_requested": False,
        },
    )
    uploads.note_needed(case.tx, job, spec.project, needed, now)
    case.log("job-received", submitter, {"project": spec.project, "job": job}, {"submitter": submitter})
    return Became(spec.project, job)


def _check_bundle(case: Case, spec: JobSpec, named: BundleRef) -> list[str]:
    """Digests of all files that a bundle needs, each of which the project holds and was hashed when it came."""
    if uploads.held(case.tx, spec.project, named.digest) != named.size or named.size > bundle.MAX_BYTES:
        raise BundleMissingError()
    code = bundle.read(case.home.file(named.digest).read_bytes(), named.digest)
    lock = wheel_lock.of_bundle(code.files, named.wheels.lock if named.wheels else None)
    if lock is None or named.wheels is None:
        return [named.digest]
    if lock.size != named.wheels.size:
        raise wheel_lock.LockDigestError("they have another size than was signed")
    for wheel in lock.wheels:
        if uploads.held(case.tx, spec.project, wheel.digest) != wheel.size:
            raise BundleMissingError(f"the wheel {wheel.file} did not come", where=wheel.name)
    held = wheel_lock.held_by(lock, runs_on(spec.workload), HELD)
    wheels.check(lock, lambda wheel: case.home.file(wheel.digest).open("rb"), held, spec.resources.mem)
    return [named.digest, *(wheel.digest for wheel in lock.wheels)]


def what_it_became(tx: Connection, known: Accepted) -> Became:
    job = jobs.by_spec(tx, known.digest)
    return Became(job.project, job.id) if job else Became()
