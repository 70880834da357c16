"""What `phalanx decrypt` says of files that it does not decrypt; jobs' own are in tests/e2e."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from phalanx.cli.settings import AdminKey, Endpoints
from phalanx.data import envelope
from phalanx.data.model import DataKey

PHALANX = str(Path(sys.executable).parent / "phalanx")
KEY = DataKey("arn:aws:kms:us-west-2:123456789012:key/one", os.urandom(93), os.urandom(32))
MESSAGE = envelope.sealed(io.BytesIO(b"content"), KEY).read()


@pytest.fixture
def decrypt(tmp_path):
    """Decrypts content by a service that does not answer; gives the status, what was written, and what was told."""
    Endpoints("http://127.0.0.1:1", "http://127.0.0.1:2", "us-west-2").save(tmp_path)
    AdminKey("AKIAEXAMPLE", "secret").save(tmp_path)

    def run(content):
        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(content)
        command = [PHALANX, "decrypt", str(source), str(target), "--data-dir", str(tmp_path)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        return done.returncode, target.read_bytes() if target.exists() else None, done.stderr

    return run


@pytest.mark.parametrize("content", [b"", b"plain", b"plain" * 1_000_000], ids=len)
def test_what_is_not_encrypted_is_copied_and_said_to_be_so(decrypt, content):
    status, written, told = decrypt(content)
    assert (status, written) == (0, content)
    assert told.endswith("is not encrypted by Phalanx, and was copied as it is.\n")


@pytest.mark.parametrize(
    "content",
    [MESSAGE[:3], MESSAGE[: envelope.HEAD - 1], MESSAGE[:40] + b"X" + MESSAGE[41:], MESSAGE[: envelope.HEAD + 20]],
    ids=["three bytes", "half a head", "another context", "half a header"],
)
def test_what_begins_as_encrypted_and_is_damaged_is_not_handed_out(decrypt, content):
    status, written, told = decrypt(content)
    assert (status, written) == (1, None)
    assert told.count("\n") == 1
    assert "cannot be decrypted: it" in told
