"""The last step before the converter: this file, run as a script, gives up all it can and becomes `qemu-img`.

    python -I -S jail.py SPEC PROGRAM ARGUMENT…

SPEC is JSON: `read` and `write` (the only files of others the program may open so), `limits` (resource name to bytes
or seconds) and `nice`.  Set here rather than between fork and exec, where a process with threads may run no Python;
and not by prlimit(1) and friends, as none of them confines which files are opened.  It imports the standard library
only, and takes 15 ms.

Files and TCP are confined by Landlock (Linux 5.13; TCP from 6.7).  Where the kernel has none, the limits still hold,
and the gate that every image passed before stands alone.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH = 1
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38

_EXECUTE, _WRITE, _READ, _READ_DIR, _TRUNCATE, _DEVICE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
#: how many kinds of access each version of the interface knows; what a version does not know cannot be refused
_RIGHTS_BY_ABI = (0, 13, 14, 15, 15, 16)
#: bind and connect, since version 4; abstract sockets and signals, since version 6
_TCP, _SCOPES = 3, 3
#: what a dynamically linked program reads to start
_SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64")
_SYSTEM_FILES = ("/etc/ld.so.cache",)
#: where QEMU tries whether the kernel has the locks by which it keeps others off an open disk
_SCRATCH_FILES = ("/dev/null",)

_libc = ctypes.CDLL(None, use_errno=True)


def landlock_version() -> int:
    """The kernel's version of Landlock, 0 where there is none."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)))


def confine_files(read: list[str], write: list[str]) -> None:
    """From here on this process opens the system's libraries and these files only, and no TCP connection."""
    version = landlock_version()
    if version == 0:
        return
    handled = (1 << _RIGHTS_BY_ABI[min(version, len(_RIGHTS_BY_ABI) - 1)]) - 1
    words = [handled] + [_TCP] * (version >= 4) + [_SCOPES] * (version >= 6)
    attributes = (ctypes.c_uint64 * len(words))(*words)
    ruleset = _checked(_libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(ctypes.sizeof(attributes)), 0))
    for folder in _SYSTEM_FOLDERS:
        _allow(ruleset, folder, (_READ | _READ_DIR | _EXECUTE) & handled)
    for path in (*_SYSTEM_FILES, *read):
        _allow(ruleset, path, _READ & handled)
    for path in (*_SCRATCH_FILES, *write):
        _allow(ruleset, path, (_READ | _WRITE | _TRUNCATE | _DEVICE) & handled)
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked(_libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    with contextlib.suppress(FileNotFoundError):  # what is not there needs no permission
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = ctypes.create_string_buffer(access.to_bytes(8, sys.byteorder) + fd.to_bytes(4, sys.byteorder), 12)
        _checked(_libc.syscall(_ADD_RULE, ruleset, _RULE_PATH, rule, 0))
        os.close(fd)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def main() -> None:
    """Confine this process and become the program."""
    spec = json.loads(sys.argv[1])
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    os.nice(spec["nice"])
    for name, value in spec["limits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
    confine_files(spec["read"], spec["write"])
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - that is the point: no shell


if __name__ == "__main__":
    main()
