"""The /opt/ml directory of an instance: made before its container starts, read after a hostile container may have had it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from contextlib import ExitStack
from pathlib import Path

from phalanx.data import tree
from phalanx.data.checkpoints import FOLDER
from phalanx.data.model import Workspace
from phalanx.data.objects import DataError

_FAILURE_CHARACTERS = 1024
_INTERFACE = "eth0"


def create(root: Path, workspace: Workspace, owner: tuple[int, int], checkpoints: bool = False) -> None:
    """Make the tree of SageMaker's container contract at `root`; all of it belongs to `owner` (uid, gid on the host).

    Only a job that keeps its `checkpoints` has a folder for them: where there is none, algorithms need not write any.

    Nothing happens where `root` exists: it appears complete, in one step, and from then on a container may have changed
    it, so that writing into it again would follow links that the container set.
    """
    if root.exists():
        return
    draft = root.with_name(f".{root.name}.new")
    destroy(draft)
    for folder in ("input/config", "input/data", "model", "output/data"):
        (draft / folder).mkdir(parents=True)
    if checkpoints:
        (draft / FOLDER).mkdir()
    for channel in workspace.channels:
        if channel.mode == "Pipe":
            os.mkfifo(draft / "input/data" / f"{channel.name}_0", 0o600)
        else:
            (draft / "input/data" / channel.name).mkdir()
    for name, content in _config(workspace).items():
        (draft / "input/config" / name).write_text(json.dumps(content, indent=2) + "\n")
    for folder, _, files in os.walk(draft):
        os.chmod(folder, 0o755)  # noqa: S103 (whatever the umask: it is the container's, and lies in a private directory)
        os.chown(folder, *owner)
        for file in files:
            os.chown(os.path.join(folder, file), *owner)
    draft.rename(root)


def failure(root: Path) -> str | None:
    """First 1024 characters of output/failure, the cause of a failure in the container's own words; None where it gave none.

    The container may have put anything there: only a regular file that is reached through no link is read.
    """
    try:
        with ExitStack() as stack:
            folder = tree.descend(root, "output", stack)
            if folder is None:
                return None
            # Looked at first, because opening a device may already do something.
            status = os.stat("failure", dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                return None
            with tree.open_file(tree.Entry("output/failure", "failure", folder, status)) as file:
                # A character takes four bytes at most.
                content = file.read(4 * _FAILURE_CHARACTERS)
    except (OSError, DataError):
        return None
    text = content.decode(errors="replace")[:_FAILURE_CHARACTERS]
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text).strip() or None


def destroy(root: Path) -> None:
    """Remove the tree, whatever a container made of it; nothing happens where it is gone."""
    # rm walks by directory descriptors, follows no link, and takes trees deeper than Python's recursion limit.
    subprocess.run(["rm", "-rf", "--one-file-system", "--", str(root)], check=True, capture_output=True)


def _config(workspace: Workspace) -> dict[str, object]:
    """The files of input/config as SageMaker writes them; hosts are sorted as text (algo-10 before algo-2)."""
    group = next(group for group in workspace.groups if workspace.host in group.hosts)
    channels = {}
    for channel in workspace.channels:
        channels[channel.name] = {
            # A program for File mode runs in FastFile mode as it is, and is told nothing else.
            "TrainingInputMode": "Pipe" if channel.mode == "Pipe" else "File",
            "S3DistributionType": channel.distribution,
            "RecordWrapperType": channel.record_wrapper,
        }
        if channel.content_type is not None:
            channels[channel.name]["ContentType"] = channel.content_type
    return {
        "hyperparameters.json": dict(workspace.hyperparameters),
        "inputdataconfig.json": channels,
        "resourceconfig.json": {
            "current_group_name": group.name,
            "current_host": workspace.host,
            "current_instance_type": group.instance_type,
            "hosts": sorted(host for each in workspace.groups for host in each.hosts),
            "instance_groups": [
                {"hosts": sorted(each.hosts), "instance_group_name": each.name, "instance_type": each.instance_type}
                for each in workspace.groups
            ],
            "network_interface_name": _INTERFACE,
            "topology": None,
        },
    }
