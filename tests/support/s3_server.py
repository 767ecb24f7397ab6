"""An S3 server of our own for tests, in a process of its own."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from tests.support.pacs import free_port, running

BUCKET = "approved-archive"


@dataclass(frozen=True)
class S3Server:
    port: int
    credentials: Path

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="eu-west-2",
            aws_access_key_id="tester",
            aws_secret_access_key="of-tests",
        )


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    port = free_port()
    credentials = folder / "credentials"
    credentials.write_text("[archive]\naws_access_key_id = tester\naws_secret_access_key = of-tests\n")
    credentials.chmod(0o600)
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(argv, port, folder):
        server = S3Server(port, credentials)
        server.client().create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-2"}
        )
        yield server
