"""Starts one container from inside a private mount namespace: run as a script, with the path of a plan and a lock's descriptor.

The plan (JSON) is what `Containers.start` writes. Everything that is mounted here lives in this namespace alone and ends
with the container's last process. The script imports nothing of Phalanx, so that it starts in a few milliseconds, and
holds the container's lock through the inherited descriptor until it is done, so that it may outlive the agent.

System calls: unshare(2), setns(2), mount(2), umount2(2), and for ID-mapped layers open_tree(2), mount_setattr(2),
move_mount(2) (Linux 5.12; as overlayfs layers Linux 5.19; Documentation/filesystems/idmappings.rst).
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import stat
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x20, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 4
MOUNT_ATTR_RDONLY, MOUNT_ATTR_IDMAP = 0x1, 0x100000
SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR = 428, 429, 442

ADOPTING = ".adopting"
"""Under which name an entry of the image's is copied, so that whole ones alone count as there."""
CODE = "code"
"""The entry of /opt/ml that is there whatever the image has: where toolkits put what is to run."""
COPIED_AT_ONCE = 64 << 20
"""Bytes of a file."""
INOTIFY_INSTANCES = 16
"""Of one container; a program has one or two."""
NO_PROGRAM = 127
"""Exit code of the launcher that says so; as a shell's."""
STAGE = "/dev/pts"
"""Where the container's parts are mounted, in its own mount namespace only: a directory that every host has, that nothing here
needs, and whose path the container's user may walk, whatever the modes of the service's directories are."""

STEP_SECONDS = 60
"""Nothing here takes seconds, nor copying so many bytes: an agent that waits for the lock must not wait for ever."""

_libc = ctypes.CDLL(None, use_errno=True)


def main(plan: dict[str, Any]) -> None:
    """Carries out the plan. Raises OSError or RuntimeError; returns when the container's first process has been started."""
    with open(plan["monitor"], "w") as group:
        group.write(str(os.getpid()))
    _stage(("opt_ml", "sys", *plan["layers"], *plan["mounts"]))
    netns = os.open(plan["netns"], os.O_RDONLY | os.O_CLOEXEC)
    _check(f"setns {plan['netns']}", _libc.setns(netns, CLONE_NEWNET))
    os.close(netns)
    # A sysfs of the instance's own network namespace: /sys/class/net shows its ENI and nothing of the host.
    _mount("sysfs", "sys", "sysfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _mount(plan["opt_ml"], "opt_ml", None, MS_BIND)
    _mount("none", "opt_ml", None, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV)
    for target, source in plan["mounts"].items():
        _mount(source, target, None, MS_BIND)
        _mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
    _make_root(plan["layers"], plan["skeleton"], plan["ids"]["first"], plan["ids"]["count"], plan["memory"])
    _drop_mounts(plan["needs"])
    _adopt_opt_ml(plan["layers"], plan["ids"]["first"])
    _find_program(plan["program"], plan["path"], plan["workdir"])
    _bound(_create(plan))
    _run("crun start", [*plan["crun"], "start", plan["id"]])


def rehearse(layer: str, first: int, count: int) -> None:
    """Makes a container's root, with the directory `layer` in place of an image, in a mount namespace that is gone with the
    calling thread. Raises OSError or RuntimeError where this host cannot."""
    _stage(("layer",))
    _make_root({"layer": layer}, "skeleton", first, count, 1 << 20)


def _stage(parts: Iterable[str]) -> None:
    """Enters a mount namespace of its own, and a directory in memory with the parts of a root and these."""
    _check("unshare", _libc.unshare(CLONE_NEWNS))
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    _mount("tmpfs", STAGE, "tmpfs", MS_NOSUID | MS_NODEV, "mode=711")
    os.chdir(STAGE)
    for part in ("rootfs", "skeleton", "written", *parts):
        os.makedirs(part)


def _make_root(layers: Mapping[str, str], skeleton: str, first: int, count: int, memory: int) -> None:
    """Mounts the root of a container, whose ids are the host's `first` … and which may write `memory` bytes to it."""
    users = _user_namespace(first, count)
    for target, layer in layers.items():
        _mount_mapped(layer, target, users)
    os.close(users)
    # The skeleton (mount points, /etc/hosts …) lies over the image, and over both what the container writes: in memory.
    # Directories have short names here, because an overlay's options must fit in a page, however many layers there are.
    _mount(skeleton, "skeleton", None, MS_BIND)
    _mount("tmpfs", "written", "tmpfs", MS_NOSUID | MS_NODEV, f"size={memory}")
    for part in ("written/files", "written/work"):
        os.mkdir(part, 0o755)
        os.chown(part, first, first)
    lower = ":".join(["skeleton", *layers])
    _mount("overlay", "rootfs", "overlay", MS_NODEV, f"lowerdir={lower},upperdir=written/files,workdir=written/work")


def _user_namespace(first: int, count: int) -> int:
    """A user namespace that maps 0 … count-1 to `first` …: a handle, to say how layers are mapped."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            _check("unshare", _libc.unshare(CLONE_NEWUSER))
            os.write(write, b"1")
            signal.pause()
        finally:
            os._exit(1)
    try:
        os.close(write)
        if os.read(read, 1) != b"1":
            raise RuntimeError("the kernel makes no user namespace: see /proc/sys/user/max_user_namespaces")
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{child}/{name}", "w") as file:
                file.write(f"0 {first} {count}")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(read)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _mount_mapped(source: str, target: str, users: int) -> None:
    """Mounts `source` read-only at `target` with its owners mapped into the container: root's files stay root's there."""
    tree = _check(
        f"open_tree {source}",
        _libc.syscall(SYS_OPEN_TREE, AT_FDCWD, os.fsencode(source), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC),
    )
    attributes = struct.pack("=QQQQ", MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY, 0, 0, users)
    _check(
        f"mount_setattr {source}: its file system must support ID-mapped mounts, as ext4, xfs and btrfs do",
        _libc.syscall(SYS_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, attributes, len(attributes)),
    )
    _check(
        f"move_mount {target}",
        _libc.syscall(SYS_MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH),
    )
    os.close(tree)


def _drop_mounts(needs: list[str]) -> None:
    """Unmounts what the container does not need.

    A private copy of the host's mounts would keep alive, for as long as this container runs, what the host unmounts
    meanwhile: other instances' network namespaces and the memory that held their keys. A version 2 cgroup mount beside
    version 1 hierarchies goes too, because crun refuses it.
    """
    with open("/proc/self/mountinfo", "rb") as file:
        entries = [line.split() for line in file]
    for entry in reversed(entries):
        point = entry[4].decode("unicode_escape").encode("latin-1").decode(errors="surrogateescape")
        hybrid = entry[entry.index(b"-") + 1] == b"cgroup2" and point != "/sys/fs/cgroup"
        kept = point in ("/", "/dev", "/proc", "/sys") or _within(point, "/sys/fs/cgroup") or _within(point, STAGE)
        kept = kept or any(_within(need, point) for need in needs)
        if kept and not hybrid:
            continue
        # A mount that another one hides cannot be reached: EINVAL or ENOENT.
        if _libc.umount2(os.fsencode(point), MNT_DETACH) < 0 and ctypes.get_errno() not in (errno.EINVAL, errno.ENOENT):
            _check(f"umount {point}", -1)


def _within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _adopt_opt_ml(layers: Iterable[str], owner: int) -> None:
    """Copies what the image has in /opt/ml (by custom /opt/ml/code) to the directory that will hide it, unless it is there.
    /opt/ml/code is there in any case.

    Links in an image may lead anywhere. So a child does it to which the image's root is all there is, and which writes relative
    to the directory's descriptor, and never through a link.
    """
    _sweep(f"opt_ml/{ADOPTING}")
    into = os.open("opt_ml", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if any(os.path.isdir(f"{layer}/opt/ml") for layer in layers):
        signal.alarm(0)  # there may be gigabytes of it; the child has an alarm of its own
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(STEP_SECONDS)
                os.chroot("rootfs")
                os.chdir("/")
                _adopt(into, owner)
                os._exit(0)
            except OSError as fault:
                os.write(2, f"/opt/ml of the image cannot be copied: {fault}\n".encode())
            finally:
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        signal.alarm(STEP_SECONDS)
        if code != 0:
            raise RuntimeError("/opt/ml of the image cannot be copied")
    if CODE not in os.listdir(into):
        os.mkdir(ADOPTING, 0o755, dir_fd=into)
        os.chown(ADOPTING, owner, owner, dir_fd=into, follow_symlinks=False)
        os.rename(ADOPTING, CODE, src_dir_fd=into, dst_dir_fd=into)
    os.close(into)


def _adopt(into: int, owner: int) -> None:
    there = {*os.listdir(into), ADOPTING}
    for name in os.listdir("/opt/ml"):
        if name not in there and _copy(f"/opt/ml/{name}", into, ADOPTING, owner):
            os.rename(ADOPTING, name, src_dir_fd=into, dst_dir_fd=into)


def _sweep(partial: str) -> None:
    """Removes what a launcher left that was killed in mid-copy, through no link."""
    if os.path.islink(partial) or os.path.isfile(partial):
        os.unlink(partial)
    elif os.path.isdir(partial):
        import shutil  # costs milliseconds, and is not there for who has changed the root

        shutil.rmtree(partial)


def _copy(source: str, into: int, name: str, owner: int) -> bool:
    """Copies a file, a link or a directory with all in it to the new entry `name` of a directory. False for anything else."""
    signal.alarm(STEP_SECONDS)  # for each entry, and for each part of a file: there may be very many
    known = os.lstat(source)
    if stat.S_ISLNK(known.st_mode):
        os.symlink(os.readlink(source), name, dir_fd=into)
        os.chown(name, owner, owner, dir_fd=into, follow_symlinks=False)
        return True
    if stat.S_ISDIR(known.st_mode):
        os.mkdir(name, 0o700, dir_fd=into)
        made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=into)
        for each in os.listdir(source):
            _copy(f"{source}/{each}", made, each, owner)
    elif stat.S_ISREG(known.st_mode):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        made = os.open(name, flags, 0o600, dir_fd=into)
        read = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        while os.sendfile(made, read, None, COPIED_AT_ONCE):
            signal.alarm(STEP_SECONDS)
        os.close(read)
    else:
        return False
    os.fchown(made, owner, owner)
    os.fchmod(made, stat.S_IMODE(known.st_mode) & 0o777)
    os.utime(made, ns=(known.st_atime_ns, known.st_mtime_ns))
    os.close(made)
    return True


def _find_program(program: str, path: str, workdir: str) -> None:
    """Ends the launcher with NO_PROGRAM where the image does not have what is to run. /opt/ml is not looked into."""
    if program.startswith("/opt/ml/"):
        return
    child = os.fork()
    if child == 0:
        found = False
        try:
            os.chroot("rootfs")
            os.chdir(workdir)
            places = [program] if "/" in program else [f"{directory}/{program}" for directory in path.split(":")]
            found = any(os.path.isfile(place) and os.access(place, os.X_OK) for place in places)
        finally:
            os._exit(0 if found else NO_PROGRAM)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == NO_PROGRAM:
        print(f"{program}: executable file not found in the image")
        sys.exit(NO_PROGRAM)


def _create(plan: dict[str, Any]) -> int:
    """conmon creates the container through crun and stays as its monitor; it says so, or why not, on the sync pipe.

    The process id of the container's first process, which waits to be started.
    """
    read, write = os.pipe()
    os.set_inheritable(write, True)
    os.environ["_OCI_SYNCPIPE"] = str(write)
    _run("conmon", plan["conmon"], lambda: os.close(write))
    del os.environ["_OCI_SYNCPIPE"]
    with os.fdopen(read, "rb") as pipe:
        line = pipe.readline()
    answer: dict[str, Any] = json.loads(line) if line else {"data": -1, "message": "the monitor ended without an answer"}
    if answer.get("data", -1) <= 0:
        raise RuntimeError(f"crun create: {answer.get('message', 'no reason given').strip()}")
    return int(answer["data"])


def _bound(container: int) -> None:
    """Bounds what the container takes of root's: its user namespace was made by root, and the kernel counts its inotify
    instances among root's (128 by default), of which the host's own services need some (ucounts, user_namespaces(7))."""
    users = os.open(f"/proc/{container}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        bounded = False
        try:
            _check("setns", _libc.setns(users, CLONE_NEWUSER))
            with open("/proc/sys/user/max_inotify_instances", "w") as file:
                file.write(str(INOTIFY_INSTANCES))
            bounded = True
        finally:
            os._exit(0 if bounded else 1)
    os.close(users)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise RuntimeError("the container's inotify instances cannot be bounded")


def _run(name: str, arguments: list[str], started: Callable[[], None] = lambda: None) -> None:
    """Runs a program to its end. Raises RuntimeError where it fails; what it says goes to our standard error."""
    child = os.posix_spawn(arguments[0], arguments, os.environ)
    started()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != 0:
        raise RuntimeError(f"{name} ended with code {code}")


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    _check(
        f"mount {source} at {target}",
        _libc.mount(
            source.encode(), os.fsencode(target), kind.encode() if kind else None, ctypes.c_ulong(flags), data.encode()
        ),
    )


def _check(what: str, result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


if __name__ == "__main__":
    signal.alarm(STEP_SECONDS)
    os.set_inheritable(int(sys.argv[2]), False)  # the monitor must not go on holding the lock
    try:
        with open(sys.argv[1]) as file:
            main(json.load(file))
    except (OSError, RuntimeError) as fault:
        sys.exit(str(fault))
