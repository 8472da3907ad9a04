"""The keeper: parent of a cloud's daemons, holder of its mount namespace, reaper of its orphans.  Runs as a process of
its own.

Why a process: the namespace, libvirtd and the guests must outlive a killed cloud, and an orphaned QEMU must be reaped
at once (libvirt waits for that when it destroys a guest; a slow process 1 makes each destroy last 1.5 s).  Turned down:
the cloud in a namespace of its own (its file work would change with it), `unshare` and `sleep` as holder (reaps
nothing), one reaper per daemon.

The namespace differs from the machine's in this only: its root is the folder that we see as `/`, also where that is a
chroot, the state directory is bound at the short path, so that the user `libvirt-qemu` can enter it wherever it lies,
libvirt's five folders are bound over by the cloud's own, and /dev holds only what daemons and guests need: no disk of the
machine, no memory, no /dev/kvm where KVM is not to be used.

Protocol, on a SEQPACKET socket, one connection per command: the client sends `run NUL LOG NUL ARG NUL ARG…`; the keeper
starts the command in a session of its own and answers `exit N` when it ends (a daemon's starter ends when the daemon is
ready).  `kill` ends a command that takes too long.  A client that goes away changes nothing.  Only the standard library
is used: the process is small.
"""

import ctypes
import os
import pathlib
import resource
import select
import signal
import socket
import sys

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36
_CLONE_NEWNS = 0x00020000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_MOVE, _MS_REC, _MS_SLAVE = 2, 4, 0x1000, 0x2000, 0x4000, 0x80000
_MNT_DETACH = 2
_SYS_PIVOT_ROOT = 155  # x86_64: the only machine that real drivers run on
_OPEN_FILES = 65536
_REQUEST_BYTES_MAX = 1 << 16

#: folder below the state directory's `libvirt` -> where libvirt looks for it
LIBVIRT_BINDS = {
    "etc": "/etc/libvirt",
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
}
#: of these, the one that libvirt expects to be empty after a start of the machine
LIBVIRT_VOLATILE = "run"
#: what a guest's process may see in /dev, where the machine has it
_DEVICES = ("null", "full", "zero", "random", "urandom")
#: beside these where guests run by KVM
_KVM_DEVICES = ("kvm", "vhost-net")


def enter_namespace(state_dir: str, short: str, *, kvm: bool) -> None:
    """A mount namespace of our own.  Slave, not private: what the machine mounts later is seen here too, but nothing
    leaks out."""
    new_namespace()
    # outside, the short path is a symbolic link, so the same names work there; a mount needs a folder, hence the tmpfs
    _mount("tmpfs", str(pathlib.Path(short).parent), "tmpfs", _MS_NOSUID | _MS_NODEV, b"mode=0755,size=64k")
    pathlib.Path(short).mkdir()
    _mount(state_dir, short, None, _MS_BIND | _MS_REC)
    for folder, target in LIBVIRT_BINDS.items():
        pathlib.Path(target).mkdir(parents=True, exist_ok=True)
        _mount(f"{short}/libvirt/{folder}", target, None, _MS_BIND)
    _few_devices(pathlib.Path(short, "run", "dev"), kvm=kvm)


def _few_devices(made: pathlib.Path, *, kvm: bool) -> None:
    """A /dev with little in it, for all that the keeper starts; `made`: where it is put together.

    libvirt would make one for each guest, as it starts: 5 ms, where one for all of them protects as well.  The devices are
    the machine's own, bound: to make others, as libvirt does, is more than many a container may.

    /dev/kvm is missing where KVM is not to be used, for another reason too: where libvirt and QEMU disagree on whether it
    works, libvirt asks QEMU anew at every define and start, 0.6 s each.
    """
    made.mkdir(exist_ok=True)
    _mount("tmpfs", str(made), "tmpfs", _MS_NOSUID, b"mode=0755,size=64k")
    # only root's, as daemons are: whoever may open the tun device may take the tap of a guest that is off
    (made / "net").mkdir(0o700)
    for name in (*_DEVICES, *(_KVM_DEVICES if kvm else ()), "net/tun"):
        source, target = pathlib.Path("/dev", name), made / name
        if source.exists():
            target.touch(0o600)
            _mount(str(source), str(target), None, _MS_BIND)
    # guests' consoles are terminals, and not among the machine's
    (made / "pts").mkdir()
    _mount("devpts", str(made / "pts"), "devpts", _MS_NOSUID, b"newinstance,ptmxmode=0666,mode=0620,gid=5")
    (made / "ptmx").symlink_to("pts/ptmx")
    (made / "fd").symlink_to("/proc/self/fd")
    _mount(str(made), "/dev", None, _MS_MOVE)


def new_namespace() -> None:
    """Move this process, of one thread, into a mount namespace whose root is the folder that it sees as `/`.

    In a chroot the two are not the same, and entering a namespace, as libvirt does to put devices into a guest's /dev,
    leads to the namespace's root: libvirt would work on the folders outside the chroot.
    """
    _check(_LIBC.unshare(_CLONE_NEWNS), "unshare")
    seen = os.open("/", os.O_PATH | os.O_DIRECTORY)
    descriptors = os.open("/proc/self/fdinfo", os.O_RDONLY | os.O_DIRECTORY)
    itself = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    _check(_LIBC.setns(itself, _CLONE_NEWNS), "setns")
    _mount(None, "/", None, _MS_REC | _MS_SLAVE)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    if _place(seen, descriptors) != _place(root, descriptors):
        os.fchdir(seen)
        folder = str(pathlib.Path.cwd())
        _mount(folder, folder, None, _MS_BIND | _MS_REC)
        os.chdir(folder)
        # the old root comes to lie on the new one, and goes
        _check(_LIBC.syscall(_SYS_PIVOT_ROOT, b".", b"."), "pivot_root")
        _check(_LIBC.umount2(b".", _MNT_DETACH), "umount of the old root")
        os.chdir("/")
    for descriptor in (seen, descriptors, itself, root):
        os.close(descriptor)


def _place(folder: int, descriptors: int) -> tuple[int, int, str]:
    """Which folder of which mount an open one is."""
    status = os.fstat(folder)
    with os.fdopen(os.open(str(folder), os.O_RDONLY, dir_fd=descriptors), encoding="ascii") as info:
        mount = next(line for line in info if line.startswith("mnt_id:"))
    return status.st_dev, status.st_ino, mount


def try_namespace(folder: str) -> None:
    """Do what `enter_namespace` does that a machine may forbid, in a folder of nobody's.  Raises OSError."""
    new_namespace()
    _few_devices(pathlib.Path(folder, "dev"), kvm=False)


def serve(listener: socket.socket) -> None:
    """Start commands, reap children, until SIGTERM.  The children live on."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    os.set_blocking(wake_read, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    clients: dict[int, socket.socket] = {}
    commands: dict[int, int] = {}  # client's descriptor -> pid of its command
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == listener.fileno():
                client, _ = listener.accept()
                clients[client.fileno()] = client
                poll.register(client, select.POLLIN)
            elif descriptor == wake_read:
                os.read(wake_read, 4096)
            elif descriptor in clients:
                request = _receive(clients[descriptor])
                if request.startswith(b"run\0") and descriptor not in commands:
                    commands[descriptor] = start(request)
                elif request == b"kill" and descriptor in commands:
                    _kill_session(commands[descriptor])
                else:  # hung up
                    poll.unregister(descriptor)
                    commands.pop(descriptor, None)
                    clients.pop(descriptor).close()
        _reap(clients, commands)


def start(request: bytes) -> int:
    """Run a command in a session of its own, its output appended to its log."""
    _, log, *arguments = request.split(b"\0")
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.execvp(arguments[0], arguments)  # noqa: S606 - no shell is what is wanted
    except OSError as error:
        os.write(2, f"{arguments[0]!r}: {error}\n".encode())
    os._exit(127)


def _kill_session(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:  # forked, but not yet the leader of its own session
        os.kill(pid, signal.SIGKILL)


def _reap(clients: dict[int, socket.socket], commands: dict[int, int]) -> None:
    waiting = {pid: descriptor for descriptor, pid in commands.items()}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        descriptor = waiting.get(pid)
        if descriptor is None:
            continue
        del commands[descriptor]
        try:
            clients[descriptor].send(f"exit {os.waitstatus_to_exitcode(status)}".encode())
        except OSError:  # it hung up meanwhile
            continue


def _receive(client: socket.socket) -> bytes:
    try:
        return client.recv(_REQUEST_BYTES_MAX)
    except OSError:  # reset
        return b""


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: bytes | None = None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    _check(_LIBC.mount(*encoded, ctypes.c_ulong(flags), data), f"mount {source} on {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _more_open_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main(state_dir: str, short: str, acceleration: str) -> None:
    """Become the keeper: the process that was started ends as soon as the keeper listens."""
    os.chdir("/")
    os.umask(0o022)
    _check(_LIBC.prctl(_PR_SET_NAME, b"cumulet-keeper", 0, 0, 0), "prctl")
    _check(_LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")
    _more_open_files()
    enter_namespace(state_dir, short, kvm=acceleration == "kvm")
    path = pathlib.Path(short, "run", "keeper.sock")
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(64)
    pid = os.fork()
    if pid:
        pathlib.Path(f"{short}/run/keeper.pid").write_text(f"{pid}\n", encoding="ascii")
        os._exit(0)
    # prctl's subreaper mark is not inherited
    _check(_LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")
    serve(listener)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        try_namespace(sys.argv[1])
    else:
        main(*sys.argv[1:])
