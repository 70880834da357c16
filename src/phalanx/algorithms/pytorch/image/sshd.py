#!/usr/bin/python3
"""An SSH server for mpirun: the job's own hosts run commands here, as the container's user.

OpenSSH's cannot serve in a container that holds no capability: it insists on chroot and on becoming other users. What it is
asked for here is little: commands of hosts of the same job, with the key that the image brings along.
"""

import asyncio
import json
import os
import signal
import socket
from pathlib import Path

import asyncssh

PORT = 2222
KEY = Path("/root/.ssh/id_ed25519")
CONFIG = Path("/opt/ml/input/config/resourceconfig.json")


class Server(asyncssh.SSHServer):
    """Lets in the hosts of the job; anybody else may know the image, and so its key."""

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Drop connections from elsewhere."""
        hosts = {socket.gethostbyname(host) for host in json.loads(CONFIG.read_text())["hosts"]}
        if conn.get_extra_info("peername")[0] not in hosts | {"127.0.0.1"}:
            conn.abort()


async def serve(process: asyncssh.SSHServerProcess) -> None:
    """Run the client's command with the environment of the training program."""
    if process.command is None:
        process.exit(1)
        return
    child = await asyncio.create_subprocess_exec(
        *("/bin/bash", "-c", process.command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **process.env},
        start_new_session=True,
    )
    await process.redirect(child.stdin, child.stdout, child.stderr)
    ended = asyncio.ensure_future(child.wait())
    gone = asyncio.ensure_future(process.channel.wait_closed())
    await asyncio.wait({ended, gone}, return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        os.killpg(child.pid, signal.SIGTERM)
        return
    await process.stdout.drain()
    code = ended.result()
    process.exit(code if code >= 0 else 128 - code)


async def main() -> None:
    """Serve until the container ends."""
    await asyncssh.listen(
        port=PORT,
        server_factory=Server,
        server_host_keys=[str(KEY)],
        authorized_client_keys=asyncssh.import_authorized_keys(KEY.with_suffix(".pub").read_text()),
        process_factory=serve,
        encoding=None,
        reuse_address=True,
    )
    await asyncio.Event().wait()


asyncio.run(main())
