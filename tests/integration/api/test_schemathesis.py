"""Schemathesis asks every operation of the OpenAPI document for about a minute: nothing is a 500, and every answer is
one that the document tells."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import sampled_from
from schemathesis import checks

from hdrs_hpc.broker.web import rate_limits
from hdrs_hpc.broker.web.app import routes
from tests.support.office import Office

EXAMPLES = int(os.environ.get("HDRS_HPC_SCHEMATHESIS_EXAMPLES", "250"))
"""At most, for each operation; 250 take about a minute in all."""
HOST = {"Host": "127.0.0.1"}
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
OPERATIONS = [(path, method) for path, methods in routes().openapi()["paths"].items() for method in methods]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    office = Office(Path(tmp_path_factory.mktemp("office")))
    office.job_in_review()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rate_limits, "MAX_REFUSALS", 10**6)  # else most answers would be 429
        yield office
    office.db.close()


@pytest.fixture(scope="module")
def document(asked: Office) -> Any:
    app = asked.http.app
    assert isinstance(app, FastAPI)
    return schemathesis.openapi.from_asgi("/v1/openapi.json", app, headers=HOST)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_no_request_breaks_the_broker(path: str, method: str, document: Any, asked: Office) -> None:
    headers: dict[str | None, dict[str, str]] = {None: HOST}
    headers |= {person: HOST | asked.header(person) for person in ("ada", "rae", "cy")}

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=document[path][method.upper()].as_strategy(), person=sampled_from(list(headers)))
    def ask(case: Any, person: str | None) -> None:
        case.call_and_validate(headers=headers[person], excluded_checks=[checks.positive_data_acceptance])

    ask()
