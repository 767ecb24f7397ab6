"""The reasons for which a job is refused, by code.  The rules that give them are in ``policy/job.py``."""

from __future__ import annotations

from hdrs_hpc.catalogue.workloads.builtin import BUILT_IN
from hdrs_hpc.core.errors import ConflictError, NotAllowedError


class WrongAudienceError(NotAllowedError):
    code = "wrong-audience"
    meaning = "The document was made for another broker."
    remedy = "Sign it again for this broker: `hdrs-hpc login` to it first."


class StaleTrustRootError(NotAllowedError):
    code = "trust-root-changed"
    meaning = "The spec was signed under a trust root that is not the one in force."
    remedy = "Run `hdrs-hpc login` to see the present trust root, then sign again."


class SpecNotYetValidError(NotAllowedError):
    code = "spec-not-yet-valid"
    meaning = "The spec's not-before lies in the future."
    remedy = "Wait until then, or check this machine's clock and sign again."


class SpecExpiredError(NotAllowedError):
    code = "spec-expired"
    meaning = "The spec's validity is over."
    remedy = "Sign it again; nothing else needs to change."


class ProjectUnknownError(NotAllowedError):
    code = "project-unknown"
    meaning = "There is no grant for the project named, or you may not know of it."
    remedy = "Check `project`; `hdrs-hpc project list` shows yours."


class ProjectNotActiveError(NotAllowedError):
    code = "project-not-active"
    meaning = "The project is frozen, closing or closed."
    remedy = "Ask the custodian: a freeze can be lifted, a closed project needs a new one."


class ProjectNotStartedError(NotAllowedError):
    code = "project-not-started"
    meaning = "The project's first day has not come."
    remedy = "Submit from the grant's `from` on."


class ProjectEndedError(NotAllowedError):
    code = "project-ended"
    meaning = "The project's time for running jobs is over."
    remedy = "Ask the custodian for a new version of the grant with a later `run-until`."


class NotAResearcherError(NotAllowedError):
    code = "not-a-researcher"
    meaning = "The person who signed is not a researcher of the project."
    remedy = "Ask the custodian to add you to the grant's researchers."


class ConflictOfInterestError(NotAllowedError):
    code = "conflict-of-interest"
    meaning = "Somebody approves, reviews code for, or checks outputs of a project in which they work."
    remedy = "Have somebody outside the project do it."


class NotEnoughCheckersError(NotAllowedError):
    code = "not-enough-checkers"
    meaning = "Too few output checkers are left who do not work in the project."
    remedy = "Ask the custodian to list more checkers in the trust root."


class DatasetNotGrantedError(NotAllowedError):
    code = "dataset-not-granted"
    meaning = "The spec uses a dataset that the grant does not give."
    remedy = "Use one that `hdrs-hpc project show` lists, or ask for a new version of the grant."


class DatasetVersionError(NotAllowedError):
    code = "dataset-version-mismatch"
    meaning = "The dataset is not registered in the version that the grant names."
    remedy = "The custodian registers that version, or signs a grant that names the present one."


class OptOutNotStatedError(NotAllowedError):
    code = "opt-out-not-stated"
    meaning = (
        "No custodian has said who opted out of the dataset; a missing list is never taken for an empty one."
    )
    remedy = "A custodian signs the list, or that nobody opted out: `hdrs-hpc opt-out add`, `hdrs-hpc opt-out nobody`."


class OptOutChangedError(ConflictError):
    code = "opt-out-changed"
    meaning = "Patients opted out (or in) since the copy was made: nothing is given of it any more."
    remedy = (
        "Nothing to do for a job that waits: it gets the new copy.  A job that ran on the old one beyond the time that "
        "is left for it was stopped: submit it again."
    )


class RealDataUnderDemoError(NotAllowedError):
    code = "real-data-under-demo-root"
    meaning = "Real patient data never meets a trust root made for demonstration."
    remedy = "Use synthetic or public data, or a broker with a real trust root."


class SelectionOutsideError(NotAllowedError):
    code = "selection-outside-grant"
    meaning = "A selection asks for more of a dataset than the grant gives."
    remedy = "Narrow it to the grant's values or dates, or leave the keyword out to take all that is granted."


class SelectionKeywordError(NotAllowedError):
    code = "selection-keyword-refused"
    meaning = "Data are not selected by this keyword: it could single out a patient, or staging lacks it."
    remedy = "Select by Modality, BodyPartExamined, PatientSex, Manufacturer or StudyDate."


class WorkloadUnknownError(NotAllowedError):
    code = "workload-unknown"
    meaning = "There is no built-in workload of this name and version."
    remedy = f"Use one of these: {', '.join(BUILT_IN)}."


class WorkloadNotGrantedError(NotAllowedError):
    code = "workload-not-granted"
    meaning = "The grant does not list this built-in workload."
    remedy = "Use one that `hdrs-hpc project show` lists."


class OwnCodeError(NotAllowedError):
    code = "own-code-not-allowed"
    meaning = "The grant allows no code of the researchers' own."
    remedy = "Use a built-in workload, or ask for a grant with `own-code: reviewed`."


class CodeNotApprovedError(NotAllowedError):
    code = "code-not-approved"
    meaning = "The grant asks for reviewed code, and nobody has approved this very bundle."
    remedy = (
        "Have a code reviewer sign an approval for this digest; every change of the code needs a new one."
    )


class BundleOverLimitError(NotAllowedError):
    code = "bundle-over-limit"
    meaning = "The bundle is larger than the grant lets researchers bring."
    remedy = "Leave data and results out of the folder, or ask for a grant with a larger `bundle-size`."


class ClusterNotGrantedError(NotAllowedError):
    code = "cluster-not-granted"
    meaning = "The grant does not allow this cluster, or this broker does not have it."
    remedy = "Leave `cluster` out, or name one that `hdrs-hpc project show` lists."


class IsolationInsufficientError(NotAllowedError):
    code = "isolation-insufficient"
    meaning = "The nodes can not isolate the job as well as grant, data or code ask for."
    remedy = "Ask for one node; several nodes run only at `cooperative`, which is never for real data."


class TooManyNodesError(NotAllowedError):
    code = "nodes-over-limit"
    meaning = "More nodes are asked for than grant or cluster give."
    remedy = "Lower `resources.nodes`."


class TimeOverLimitError(NotAllowedError):
    code = "time-over-limit"
    meaning = "The run time is longer than the grant allows for one job."
    remedy = "Lower `resources.time`."


class GpusNotThereError(NotAllowedError):
    code = "gpus-not-there"
    meaning = "No node of the cluster has the GPUs that are asked for."
    remedy = "Ask for what `hdrs-hpc project show` tells of the cluster's nodes, or leave `gres` out."


class CpusNotThereError(NotAllowedError):
    code = "cpus-not-there"
    meaning = "No node of the cluster has as many CPUs as are asked for."
    remedy = "Lower `cpus-per-task`; `hdrs-hpc project show` tells what the nodes have."


class MemoryNotThereError(NotAllowedError):
    code = "memory-not-there"
    meaning = "No node of the cluster has as much memory as is asked for."
    remedy = "Lower `mem`; `hdrs-hpc project show` tells what the nodes have."


class NodesNotThereError(NotAllowedError):
    code = "nodes-not-there"
    meaning = "The cluster has too few nodes that have all at once: the CPUs, the memory and the GPUs."
    remedy = "Lower `nodes` or what each is asked for; `hdrs-hpc project show` tells what the nodes have."


class TimeOverClusterError(NotAllowedError):
    code = "time-over-cluster"
    meaning = "The run time is longer than the cluster allows for one job."
    remedy = "Lower `resources.time` to what `hdrs-hpc project show` tells of the cluster."


class GpuHoursError(NotAllowedError):
    code = "gpu-hours-exhausted"
    meaning = "The project has fewer GPU-hours left than the job may use (GPUs × nodes × time)."
    remedy = "Lower `gres`, `nodes` or `time`, or ask for more GPU-hours."


class OutputClassNotGrantedError(NotAllowedError):
    code = "output-class-not-granted"
    meaning = "The grant lets no artefact of this class out."
    remedy = "Declare only classes that `hdrs-hpc project show` lists."


class KeepNotGrantedError(NotAllowedError):
    code = "keep-not-granted"
    meaning = "The grant says that artefacts of this class may not leave the project."
    remedy = "Remove the output, or ask for a new version of the grant."


class KeptOverLimitError(NotAllowedError):
    code = "kept-over-limit"
    meaning = "The project would keep more for later jobs than its grant allows (`limits.kept-size`)."
    remedy = "Lower `max-size` or keep fewer outputs; `hdrs-hpc project show` tells what is kept. Else ask for more."


class InputUnknownError(NotAllowedError):
    code = "input-unknown"
    meaning = "An input names an output that no job of this project was to keep."
    remedy = "`hdrs-hpc project show` lists what the project keeps, with job and output. Other projects' stay theirs."


class InputUnfinishedError(NotAllowedError):
    code = "input-unfinished"
    meaning = "An input names an output of a job whose code has not ended well yet."
    remedy = "Submit again once `hdrs-hpc project show` lists it."


class InputDestroyedError(NotAllowedError):
    code = "input-destroyed"
    meaning = (
        "An input names an output whose key was destroyed: its job failed, was cancelled, or was given up."
    )
    remedy = "Compute it again, and name the new job."


class InputElsewhereError(NotAllowedError):
    code = "input-elsewhere"
    meaning = "An input lies on another cluster than the one on which the job would run."
    remedy = "Set `resources.cluster` to the cluster that the message names, or compute it again."


class InputsOverMemoryError(NotAllowedError):
    code = "inputs-over-memory"
    meaning = "The files under `inputs` lie in the job's memory, of which half is for files, and do not fit."
    remedy = "Ask for more `resources.mem`: twice the inputs and the largest of them once more, and what code needs."


class OutputOfRealDataError(NotAllowedError):
    code = "output-of-real-data"
    meaning = "No output of this class is made of real data: it can hide patients' images where no reviewer sees them."
    remedy = "Leave it out; for an image, release the table that it draws and draw it outside."
