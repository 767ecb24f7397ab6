import subprocess
import sys


def test_policy_and_documents_load_nothing_heavy():
    """The laptop uses them; a database, SSH, Dask or zarr have no business there."""
    code = (
        "import sys, hdrs_hpc.policy.job, hdrs_hpc.policy.grant, hdrs_hpc.policy.review, hdrs_hpc.documents.trust;"
        "print([m for m in ('sqlalchemy','paramiko','dask','zarr','numpy','fastapi','rich') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


def test_signatures_and_envelopes_load_no_pydantic():
    """The node agent uses them before its sandbox stands."""
    code = (
        "import sys, hdrs_hpc.documents.sshsig, hdrs_hpc.documents.envelope, hdrs_hpc.documents.kinds;"
        "print([m for m in ('pydantic','ruamel','click') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )
