"""Images of one's own, from a registry and from a Containerfile, in jobs of a live service."""

import pytest

from e2e.conftest import ESP, UDP_500, running
from e2e.test_sdk import written
from phalanx.cli.settings import IMAGES
from phalanx.runtime.podman import Podman
from registries import registry


@pytest.fixture
def fetching(tmp_path, monkeypatch):
    """A service that may fetch images from a registry, and that registry's address."""
    with registry(tmp_path) as (address, _):
        monkeypatch.setenv("PHALANX_REGISTRIES", address)
        with running(tmp_path) as service:
            yield service, address


def test_images_of_ones_own(fetching, tmp_path):
    phalanx, address = fetching
    (tmp_path / "Containerfile").write_text(
        "FROM phalanx/base\nCMD []\nCOPY train.sh /opt/ml/code/train.sh\nWORKDIR /opt/ml/code\n"
        'ENTRYPOINT ["/bin/sh", "/opt/ml/code/train.sh"]\n'
    )
    (tmp_path / "train.sh").write_text("echo mine on $HOSTNAME\n")
    podman, local, remote = Podman(IMAGES, tmp_path / "podman"), f"e2e/{address.replace(':', '-')}:1", f"{address}/team/mine:1"
    built = phalanx.run("image", "build", str(tmp_path), "--tag", local)
    assert built.returncode == 0, built.stderr
    try:
        podman.run("push", "--quiet", local, remote)
        network = phalanx.network(UDP_500, ESP)
        for name, image in (("fetched", remote), ("built", local)):
            algorithm = {"TrainingImage": image, "TrainingInputMode": "File"}
            phalanx.create(name, network=network, AlgorithmSpecification=algorithm, HyperParameters=None)
            described = phalanx.ended(name)
            assert described["TrainingJobStatus"] == "Completed", described.get("FailureReason")
            assert written(phalanx, name) == {host: [f"mine on {host}"] for host in ("algo-1", "algo-2")}
        algorithm["TrainingImage"] = f"{address}/team/other:1"
        phalanx.create("missing", 1, AlgorithmSpecification=algorithm, HyperParameters=None)
        assert phalanx.ended("missing")["FailureReason"].startswith("ClientError: Cannot fetch the training image")
        algorithm["TrainingImage"] = "192.0.2.1:5000/team/mine:1"
        with pytest.raises(phalanx.client("sagemaker").exceptions.ClientError, match="Cannot find the requested image"):
            phalanx.create("elsewhere", 1, AlgorithmSpecification=algorithm, HyperParameters=None)
    finally:
        podman.run("image", "rm", "--force", "--ignore", local, remote)
