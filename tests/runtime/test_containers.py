"""Real containers: what runs, what it may do, what is left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from runtime_harness import CACHE, CONTEXT, IMAGE, Service, until

from phalanx.runtime.builder import Builder
from phalanx.runtime.containers import ContainerError, Containers, ProgramError
from phalanx.runtime.model import ContainerStatus, DeviceNode, Edits, IdRange, Limits
from phalanx.runtime.podman import ImageError

AGENT = """
import sys, time
from pathlib import Path
from phalanx.runtime.containers import Containers
from phalanx.runtime.images import Images
from phalanx.runtime.model import ContainerSpec, Limits
import json
given = json.loads(sys.argv[1])
spec = ContainerSpec(**{**given["spec"], "limits": Limits(**given["limits"])})
containers = Containers(Images(*map(Path, given["store"])), Path(given["rundir"]), Path(given["logs"]), given["cgroup"])
print("ready", flush=True)
containers.start(spec)
print("started", flush=True)
time.sleep(600)
"""


def agent(service: Service, code: str) -> subprocess.Popen[str]:
    """Another process that starts container `one`."""
    spec = service.spec(code)
    given = {
        "spec": {name: getattr(spec, name) for name in spec.__slots__ if name not in ("limits", "edits")},
        "limits": {"cpus": 1, "memory": 256 << 20},
        "store": [str(CACHE / "store"), str(CACHE / "run")],
        "rundir": str(service.rundir),
        "logs": str(service.disk / "logs"),
        "cgroup": service.cgroup,
    }
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", AGENT, json.dumps(given)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [("pass", 0), ("raise SystemExit(3)", 3), ("raise ValueError", 1), ("import os; os.kill(os.getpid(), 9)", 137)],
)
def test_exit_code(service: Service, code: str, exit_code: int) -> None:
    assert service.run(code)[0] == ContainerStatus("exited", exit_code)


def test_states_and_idempotence(service: Service) -> None:
    containers = service.containers
    assert containers.status("one").state == "absent"
    assert containers.listing() == []
    spec = service.spec("import time; print('up', flush=True); time.sleep(600)")
    containers.start(spec)
    containers.start(spec)
    assert containers.status("one") == ContainerStatus("running")
    assert containers.listing() == ["one"]
    until(lambda: "up\n" in service.text() or None)
    containers.signal("one", signal.SIGKILL)
    assert service.wait() == ContainerStatus("exited", 137)
    containers.start(spec)
    assert containers.status("one").state == "exited"
    assert service.text() == "up\n"
    containers.stop("one")
    containers.signal("one", signal.SIGTERM)
    containers.remove("one")
    containers.remove("one")
    assert containers.status("one").state == "absent"
    assert service.traces() == []


def test_log_is_in_cri_form(service: Service) -> None:
    service.containers.start(service.spec("import sys; print('out'); print('err', file=sys.stderr); print('end', end='')"))
    service.wait()
    lines = [line.split(" ", 3) for line in service.containers.log_path("one").read_text().splitlines()]
    assert service.text("one", "stdout") == "out\nend"
    assert service.text("one", "stderr") == "err\n"
    assert {(stream, tag) for _, stream, tag, _ in lines} <= {(s, t) for s in ("stdout", "stderr") for t in "FP"}
    assert all(time[10] == "T" and len(time.split(".")[1]) >= 10 for time, *_ in lines)


def test_environment_and_names(service: Service) -> None:
    code = """
import json, os, socket
print(json.dumps({
    "env": dict(os.environ), "host": socket.gethostname(), "uid": os.getuid(), "cwd": os.getcwd(),
    "peer": socket.gethostbyname("algo-2"), "local": socket.gethostbyname("localhost"),
    "links": sorted(os.listdir("/sys/class/net")), "pids": [p for p in os.listdir("/proc") if p.isdigit()],
}))
try:
    socket.gethostbyname("no-such-name.example")
except OSError:
    print("unknown")
"""
    status, text = service.run(code, environment={"TRAINING_JOB_NAME": "job", "PYTHONUNBUFFERED": "x y=z"})
    assert status.exit_code == 0, text
    first, last = text.splitlines()
    seen = json.loads(first)
    assert last == "unknown"
    assert seen["env"]["TRAINING_JOB_NAME"] == "job"
    assert seen["env"]["PYTHONUNBUFFERED"] == "x y=z"
    assert seen["env"]["PATH"].endswith(":/sbin:/bin")
    assert (seen["host"], seen["peer"], seen["local"]) == ("algo-1", "10.0.0.2", "127.0.0.1")
    assert (seen["uid"], seen["cwd"], seen["pids"]) == (0, "/", ["1", "2"])
    assert seen["links"] == ["lo", "probe0", "probe1"]


def test_command_overrides_entrypoint_and_arguments_follow(service: Service) -> None:
    status, text = service.run("", command=("/bin/bash", "-c"), arguments=('echo "$0" $1 | tr a-z A-Z; exit 4', "a", "b"))
    assert (status.exit_code, text) == (4, "A B\n")
    assert service.run("", command=("train",), arguments=("print('by name')",))[1] == "by name\n"
    status, text = service.run("", arguments=())
    assert "NameError: name 'train'" in text  # the image's CMD


@pytest.mark.parametrize("program", ["no-such-program", "/etc/passwd", "/no/such", "usr"])
def test_a_program_that_the_image_does_not_have(service: Service, program: str) -> None:
    with pytest.raises(ProgramError, match=f"{program}: executable file not found in the image"):
        service.containers.start(service.spec("", command=(program,), arguments=()))
    assert service.traces() == []


def test_a_program_of_the_job_itself(service: Service) -> None:
    spec = service.spec("", command=("/opt/ml/input/run.sh",), arguments=("a b",))
    script = Path(spec.opt_ml) / "input" / "run.sh"
    script.parent.mkdir()
    script.write_text('#!/bin/sh\necho "$1"\n')
    script.chmod(0o755)
    service.containers.start(spec)
    service.wait()
    assert service.text() == "a b\n"


def test_what_is_writable(service: Service) -> None:
    """The root too, as in SageMaker: in memory, for this container alone; never the kernel's own files."""
    code = """
import os, sys
for path in ("/x", "/etc/x", "/etc/hosts", "/usr/x", "/root/x", "/opt/program/train.py", "/var/x", "/run/x",
             "/proc/sys/kernel/domainname", "/proc/sysrq-trigger", "/sys/fs/cgroup/pids/x",
             "/sys/kernel/x", "/dev/init", "/tmp/x", "/dev/shm/x", "/opt/ml/x"):
    try:
        with open(path, "w") as file:
            file.write("x")
    except OSError:
        print(path)
os.remove("/etc/passwd")
os.rename("/etc/group", "/etc/moved")
"""
    status, text = service.run(code)
    assert status.exit_code == 0, text
    kernel = ["/proc/sys/kernel/domainname", "/proc/sysrq-trigger", "/sys/fs/cgroup/pids/x", "/sys/kernel/x"]
    assert text.split() == [*kernel, "/dev/init"]
    written = (service.disk / "one" / "x").stat()
    assert (written.st_uid, written.st_gid) == service.containers.owner()
    assert written.st_uid >= 100_000
    code = "import os; print(os.path.exists('/etc/x'), os.path.exists('/etc/group'), open('/etc/hosts').read().count('algo-'))"
    assert service.run(code)[1] == "False True 2\n"


def test_files_of_the_image_belong_to_the_containers_root(service: Service) -> None:
    code = "import os; print(os.stat('/etc/passwd').st_uid, os.stat('/opt/program/train.py').st_uid, os.listdir('/root') != [])"
    assert service.run(code)[1] == "0 0 True\n"


def test_no_capabilities_no_new_privileges_and_a_filter(service: Service) -> None:
    _, text = service.run("print(open('/proc/self/status').read())")
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert {fields[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0000000000000000"}
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


ESCAPES = {
    "mount": "call(libc.mount, b'none', b'/tmp', b'tmpfs', 0, None)",
    "umount": "call(libc.umount2, b'/proc', 2)",
    "open_tree": "call(libc.syscall, 428, -100, b'/', 1)",
    "chroot": "call(libc.chroot, b'/tmp')",
    "unshare a network": "call(libc.unshare, 0x40000000)",
    "unshare a user namespace": "call(libc.unshare, 0x10000000)",
    "clone into a user namespace": "call(libc.syscall, 56, 0x10000000 | 17, 0, 0, 0, 0)",
    "clone3": "call(libc.syscall, 435, 0, 0)",
    "setns": "call(libc.setns, os.open('/proc/self/ns/net', os.O_RDONLY), 0)",
    "bpf": "call(libc.syscall, 321, 0, 0, 0)",
    "perf": "call(libc.syscall, 298, 0, 0, 0, 0, 0)",
    "keyctl": "call(libc.syscall, 250, 0, 0)",
    "ptrace": "call(libc.ptrace, 0, 0, 0, 0)",
    "userfaultfd": "call(libc.syscall, 323, 0)",
    "io_uring": "call(libc.syscall, 425, 1, 0)",
    "reboot": "call(libc.reboot, 0)",
    "raw socket": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 50)",
    "raw IPv6 socket": "socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 50)",
    "packet socket": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)",
    "XFRM netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 6)",
    "PF_KEY": "socket.socket(15, socket.SOCK_RAW, 2)",
    "vsock": "socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)",
    "kernel crypto": "socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)",
    "add an address": (
        "import struct; s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)\n"
        "s.send(struct.pack('=IHHIIBBBBI', 24, 20, 0x605, 1, 0, 2, 32, 0, 0, 1))\n"
        "e = struct.unpack_from('=i', s.recv(4096), 16)[0]; call(lambda: e)"
    ),
}


def test_the_ways_out_are_shut(service: Service) -> None:
    code = f"""
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(function, *arguments):
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno())
for name, way in {ESCAPES!r}.items():
    try:
        exec(way)
    except OSError:
        continue
    print("open:", name)
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        socket.socket(family, kind).close()
socket.socketpair()
print([name for _, name in socket.if_nameindex()][0])
print("done")
"""
    status, text = service.run(code)
    assert (status.exit_code, text) == (0, "lo\ndone\n")


def test_the_ways_out_can_be_seen_open() -> None:
    """The twin: on the host, with root's rights, the same calls succeed, so that the test above means something."""
    code = f"""
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(function, *arguments):
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno())
ways = {ESCAPES!r}
for name in ("unshare a network", "open_tree", "setns", "raw socket", "packet socket", "XFRM netlink", "userfaultfd"):
    exec(ways[name])
print("done")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout == "done\n", result.stderr


def test_memory_limit(service: Service) -> None:
    status, _ = service.run("x = bytearray(400 << 20); print('held')")
    assert status == ContainerStatus("exited", 137, out_of_memory=True)
    status, _ = service.run("x = bytearray(100 << 20)")
    assert status == ContainerStatus("exited", 0)
    status, _ = service.run("open('/tmp/x', 'wb').write(bytes(200 << 20)); open('/dev/shm/x', 'wb').write(bytes(200 << 20))")
    assert status.out_of_memory  # tmpfs counts
    status, _ = service.run("open('/var/x', 'wb').write(bytes(200 << 20)); open('/dev/shm/x', 'wb').write(bytes(200 << 20))")
    assert status.out_of_memory  # and the root, which is one


def test_a_child_killed_for_memory_is_no_failure_of_a_program_that_copes(service: Service) -> None:
    code = "import subprocess, sys; print(subprocess.call([sys.executable, '-c', 'x = bytearray(400 << 20)']))"
    status, text = service.run(code)
    assert (status, text) == (ContainerStatus("exited", 0, out_of_memory=False), "-9\n")


def test_other_limits(service: Service) -> None:
    code = """
import os, resource, signal, time
children = []
try:
    while len(children) < 500:
        child = os.fork()
        if child == 0:
            time.sleep(600)
        children.append(child)
except BlockingIOError:
    print(len(children))
print(resource.getrlimit(resource.RLIMIT_CORE))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 1000)
"""
    status, text = service.run(code, limits=Limits(cpus=0.5, memory=256 << 20, pids=32))
    assert status.exit_code == 0
    assert text == "30\n(0, 0)\nTrue\n"
    code = """
import time
wall, cpu = time.monotonic(), time.process_time()
while time.process_time() - cpu < 0.4:
    pass
print(time.monotonic() - wall)
"""
    _, text = service.run(code, limits=Limits(cpus=0.25, memory=256 << 20))
    assert float(text) > 1.2  # 0.4 s of CPU at a quarter of one


HANDLER = "import signal, time; signal.signal(15, lambda *_: {}); print('up', flush=True)\nwhile True: time.sleep(.1)"


def test_a_device_comes_with_its_node_files_and_variables_and_no_other_device(service: Service, tmp_path: Path) -> None:
    """As the toolkit of a GPU's vendor asks for it (CDI); the device is /dev/full, which no container has otherwise."""
    tmp_path.chmod(0o755)
    (tmp_path / "libcuda.so.1").write_text("library")
    (tmp_path / "hook").write_text(f"#!/bin/sh\ncat > {tmp_path}/told\n")
    (tmp_path / "hook").chmod(0o755)
    code = (
        "import os; full = os.open('/dev/gpu0', os.O_RDWR)\n"
        "try: os.write(full, b'x')\n"
        "except OSError as error: print(error.strerror)\n"
        "print(os.environ['GPU'], open('/usr/lib/gpu/libcuda.so.1').read())\n"
        "try: open('/usr/lib/gpu/libcuda.so.1', 'w')\n"
        "except OSError as error: print(error.strerror)\n"
    )
    status = os.stat("/dev/full").st_rdev
    edits = Edits(
        environment=("GPU=0",),
        devices=(DeviceNode("/dev/gpu0", "/dev/full", "c", os.major(status), os.minor(status), "rw"),),
        mounts=(("/usr/lib/gpu/libcuda.so.1", f"{tmp_path}/libcuda.so.1", ("ro", "nosuid", "nodev", "bind")),),
        hooks=(("createRuntime", json.dumps({"path": f"{tmp_path}/hook"})),),
    )
    ended, text = service.run(code, edits=edits)
    assert (ended.exit_code, text) == (0, "No space left on device\n0 library\nRead-only file system\n")
    assert json.loads((tmp_path / "told").read_text())["id"] == "one"
    ended, text = service.run("import os; print(os.path.exists('/dev/gpu0'), os.environ.get('GPU'))")
    assert text == "False None\n"


def test_stop_gives_time_to_end(service: Service) -> None:
    service.containers.start(service.spec(HANDLER.format("exit(5)")))
    until(lambda: "up\n" in service.text() or None)
    service.containers.stop("one")
    assert service.containers.status("one") == ContainerStatus("exited", 5)


@pytest.mark.parametrize("shell", ["{0}; echo ended $?", "{0} & wait $!; echo ended $?", "sh -c '{0}; exit $?'; echo ended $?"])
def test_stop_gives_time_to_a_program_below_a_shell(service: Service, shell: str) -> None:
    """As the SageMaker SDKs' and the toolkit's own programs start a user's script."""
    script = HANDLER.format("(print('bye', flush=True), exit(5))")
    command = shell.format('python3 -c "$SCRIPT"')
    code = f"import os; os.environ['SCRIPT'] = {script!r}; os.execvp('sh', ['sh', '-c', {command!r}])"
    service.containers.start(service.spec(code))
    until(lambda: "up\n" in service.text() or None)
    service.containers.stop("one")
    assert service.containers.status("one").exit_code == 0
    assert service.text() == "up\nbye\nended 5\n"


def test_stop_ends_a_shell_whose_programs_have_no_handler(service: Service) -> None:
    code = "import os; print('up', flush=True); os.execvp('sh', ['sh', '-c', 'while true; do sleep 600; done'])"
    service.containers.start(service.spec(code))
    until(lambda: "up\n" in service.text() or None)
    service.containers.stop("one")
    assert service.containers.status("one") == ContainerStatus("exited", 143)


def test_a_program_whose_helper_alone_was_asked_ends_when_it_is_asked_itself(service: Service) -> None:
    """As with a data loader's workers."""
    code = f"import subprocess, time; subprocess.Popen(['python3', '-c', {HANDLER.format('exit(0)')!r}]); time.sleep(600)"
    service.containers.start(service.spec(code))
    until(lambda: "up\n" in service.text() or None)
    asked = service.containers.signal("one", signal.SIGTERM)
    assert len(asked) == 1
    until(lambda: None if service.containers.has("one", asked) else True)
    assert service.containers.status("one") == ContainerStatus("running")
    service.containers.signal("one", signal.SIGTERM, program=True)
    assert service.wait() == ContainerStatus("exited", 143)


def test_stop_ends_a_program_without_a_handler(service: Service) -> None:
    service.containers.start(service.spec("import time; print('up', flush=True); time.sleep(600)"))
    until(lambda: "up\n" in service.text() or None)
    service.containers.stop("one")
    assert service.containers.status("one") == ContainerStatus("exited", 143)


def test_stop_kills_all_of_a_program_that_will_not_end(service: Service) -> None:
    code = "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)\n" + HANDLER.format(
        "print('no', flush=True)"
    )
    service.containers.start(service.spec(code))
    until(lambda: "up\n" in service.text() or None)
    service.containers.stop("one", grace=0.3)
    assert service.containers.status("one") == ContainerStatus("exited", 137)
    assert "no" in service.text()
    service.containers.remove("one")
    assert service.traces() == []


def test_the_container_outlives_its_agent(service: Service) -> None:
    code = HANDLER.format("(print('bye', flush=True), exit(6))")
    process = agent(service, code)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.kill()
    process.wait()
    service.containers = service.reopen()
    assert service.containers.status("one") == ContainerStatus("running")
    service.containers.start(service.spec(code))
    until(lambda: "up\n" in service.text() or None)
    service.containers.stop("one")
    assert service.containers.status("one") == ContainerStatus("exited", 6)
    assert service.text() == "up\nbye\n"
    service.containers.remove("one")
    assert service.traces() == []


@pytest.mark.parametrize("delay", range(0, 100, 9))
def test_an_agent_killed_while_it_starts_a_container(service: Service, delay: int) -> None:
    code = "import time; print('up', flush=True); time.sleep(600)"
    process = agent(service, code)
    time.sleep(delay / 1000)
    process.kill()
    process.wait()
    service.containers = service.reopen()
    service.containers.start(service.spec(code))
    assert service.containers.status("one") == ContainerStatus("running")
    until(lambda: service.text() == "up\n" or None)
    service.containers.remove("one")
    assert service.traces() == []


def kill_with_its_launcher(service: Service, process: subprocess.Popen[str], delay: int) -> None:
    """Kills an agent and its launcher at once, `delay` milliseconds after the launcher began."""

    def entered() -> Path | None:
        for procs in service.groups("one/monitor/cgroup.procs"):
            return procs if procs.read_text() else None
        return None

    monitor = until(entered)
    time.sleep(delay / 1000)
    process.kill()
    process.wait()
    for pid in monitor.read_text().split() if monitor.exists() else ():
        with suppress(FileNotFoundError, ProcessLookupError):  # what the launcher started ends by itself
            if "launch.py" in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(int(pid), signal.SIGKILL)


@pytest.mark.parametrize("delay", range(0, 60, 10))
def test_a_launcher_killed_while_it_starts_a_container(service: Service, delay: int) -> None:
    """As when the host's memory runs out: the next start clears up, then starts."""
    code = "import time; print('up', flush=True); time.sleep(600)"
    kill_with_its_launcher(service, agent(service, code), delay)
    service.containers = service.reopen()
    service.containers.start(service.spec(code))
    assert service.containers.status("one") == ContainerStatus("running")
    until(lambda: service.text() == "up\n" or None)
    service.containers.remove("one")
    assert service.traces() == []


def test_stop_of_a_container_that_was_never_started(service: Service) -> None:
    kill_with_its_launcher(service, agent(service, "pass"), delay=0)
    service.containers.stop("one")
    assert service.containers.status("one").state in ("absent", "exited")
    service.containers.remove("one")
    assert service.traces() == []


def test_a_killed_monitor_is_reported(service: Service) -> None:
    service.containers.start(service.spec("import time\nwhile True: print('x', flush=True); time.sleep(.05)"))
    until(lambda: service.text() or None)
    (procs,) = service.groups("one/monitor/cgroup.procs")
    for pid in procs.read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    status = service.wait()  # the program's standard output is gone with the monitor
    assert status == ContainerStatus("exited", None)


def test_a_start_that_fails_says_why_and_leaves_nothing(service: Service) -> None:
    with pytest.raises(ContainerError, match="No such file"):
        service.containers.start(service.spec("pass", netns="/run/netns/no-such-namespace"))
    with pytest.raises(ImageError, match="no-such-image is not in the store"):
        service.containers.start(service.spec("pass", image="no-such-image"))
    with pytest.raises(ContainerError, match="/nowhere"):
        service.containers.start(service.spec("pass", opt_ml="/nowhere"))
    with pytest.raises(ValueError, match="container id"):
        service.containers.status("../x")
    assert service.traces() == []


def test_two_services_with_the_same_ids(services: Callable[[], Service]) -> None:
    first, second = services(), services()
    code = "import os, time; print(os.environ['WHO'], flush=True); time.sleep(600)"
    first.containers.start(first.spec(code, environment={"WHO": "first"}))
    second.containers.start(second.spec(code, environment={"WHO": "second"}))
    until(lambda: first.text() == "first\n" or None)
    until(lambda: second.text() == "second\n" or None)
    first.containers.remove("one")
    assert first.traces() == []
    assert second.containers.status("one") == ContainerStatus("running")


def test_a_container_keeps_no_mount_of_the_host_alive(service: Service, tmp_path: Path) -> None:
    """What the host unmounts while a container runs (a namespace, keys on a tmpfs) must be gone."""
    other = tmp_path / "keys"
    other.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "keys", str(other)], check=True)
    try:
        service.containers.start(service.spec("import time; time.sleep(600)"))
        seen = [
            Path(f"/proc/{pid}/mountinfo").read_text()
            for part in ("container", "monitor")
            for pid in service.groups(f"one/{part}/cgroup.procs")[0].read_text().split()
        ]
    finally:
        subprocess.run(["umount", str(other)], check=True)
    assert len(seen) >= 2
    assert not any(str(other) in mounts or service.netns in mounts for mounts in seen)
    assert all("/opt/ml" in mounts or "/opt_ml" in mounts for mounts in seen)


def test_what_an_image_has_in_opt_ml_is_there(service: Service, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "script.py").write_text("print('baked in')")
    (tmp_path / "Containerfile").write_text(f"FROM {IMAGE}\nCOPY code /opt/ml/code\n")
    Builder(service.images).build_directory("phalanx-test-own", tmp_path, IdRange(), print)
    try:
        code = "exec(open('/opt/ml/code/script.py').read()); open('/opt/ml/code/made', 'w')"
        assert service.run(code, image="phalanx-test-own")[1] == "baked in\n"
        assert sorted(path.name for path in (service.disk / "one").rglob("*")) == ["code", "made", "script.py"]
    finally:
        service.images.remove("phalanx-test-own")


def test_code_is_there_where_the_image_has_none(service: Service) -> None:
    """Where toolkits put a job's script; the container's own."""
    code = "import os; print(os.listdir('/opt/ml'), os.stat('/opt/ml/code').st_uid); open('/opt/ml/code/made', 'w')"
    assert service.run(code)[1] == "['code'] 0\n"


def test_links_in_an_images_opt_ml_lead_to_nothing_of_the_host(service: Service, tmp_path: Path) -> None:
    """Neither to write by what is copied over a link, nor to read what a link stands for."""
    outside = tmp_path / "outside"
    outside.mkdir()
    targets = [outside / f"made-{number}" for number in range(8)]
    (outside / "secret").write_text("of the host")
    links = " ".join(f"/opt/ml/.f{number}.partial:{target}" for number, target in enumerate(targets))
    script = (
        f"RUN mkdir -p /opt/ml/deep /opt/ml/.adopting && for pair in {links}; do ln -s ${{pair#*:}} ${{pair%%:*}}; done"
        f" && for n in 0 1 2 3 4 5 6 7; do echo planted > /opt/ml/f$n; done && mkfifo /opt/ml/pipe"
        f" && ln -s {outside}/secret /opt/ml/secret && ln -s {outside} /opt/ml/deep/out && chmod 4755 /opt/ml/f0\n"
    )
    (tmp_path / "Containerfile").write_text(f"FROM {IMAGE}\n{script}")
    Builder(service.images).build_directory("phalanx-test-own", tmp_path, IdRange(), print)
    # What a launcher left that was killed, and a container changed.
    (service.disk / "one").mkdir()
    (service.disk / "one" / ".adopting").symlink_to(outside)
    try:
        code = "import os; print(*sorted(os.listdir('/opt/ml'))); print(os.path.exists('/opt/ml/secret'))"
        code += "; print(oct(os.stat('/opt/ml/f0').st_mode), open('/opt/ml/f0').read())"
        _, text = service.run(code, image="phalanx-test-own")
    finally:
        service.images.remove("phalanx-test-own")
    names, secret, planted, *_ = text.splitlines()
    files = [f"f{number}" for number in range(8)]
    assert names.split() == sorted([*(f".{name}.partial" for name in files), *files, "code", "deep", "secret"])
    assert (secret, planted) == ("False", "0o100755 planted")
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    assert (service.disk / "one" / "secret").is_symlink()


def test_a_container_has_its_share_of_inotify_instances(service: Service) -> None:
    """The kernel counts them as the host's root's."""
    code = "import ctypes; libc = ctypes.CDLL(None); print(sum(libc.inotify_init() >= 0 for _ in range(200)))"
    assert service.run(code)[1] == "16\n"


def test_the_test_image_is_as_the_sdk_needs_it(service: Service) -> None:
    """SDK v3's drivers want bash, python3 and pip on PATH."""
    _, text = service.run("", command=("/bin/bash", "-c"), arguments=("command -v bash python3 pip train",))
    assert text.split() == ["/usr/bin/bash", "/usr/bin/python3", "/usr/bin/pip", "/usr/local/bin/train"]
    assert (CONTEXT / "train.py").exists()


def test_all_containers_together_stay_below_the_hosts_share(service: Service) -> None:
    """Each may have 256 MiB, both together 300: the kernel ends one of them, which says why, and the other goes on."""
    service.containers = Containers(service.images, service.rundir, service.disk / "logs", service.cgroup, memory=300 << 20)
    code = "import time; block = bytearray(200 << 20); open('/opt/ml/done', 'w'); time.sleep(600)"
    for id in ("one", "two"):
        service.containers.start(service.spec(code, id=id))
    ended = until(lambda: next((id for id in ("one", "two") if service.containers.status(id).state == "exited"), None))
    assert service.containers.status(ended) == ContainerStatus("exited", 137, out_of_memory=True)
    other = {"one": "two", "two": "one"}[ended]
    until(lambda: (service.disk / other / "done").exists())
    assert service.containers.status(other).state == "running"
    for id in ("one", "two"):
        service.containers.remove(id)
    assert service.traces() == []
