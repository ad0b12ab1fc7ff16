"""A filter of system calls, after which a process can compute, and speak over what it has open, and nothing else.

No opening of files, no socket, no other process, no signal, no memory that is both made and run. What is not listed
fails with EPERM, so that a library may find another way; a call in the style of another architecture ends the process.
See `man 2 seccomp`; the numbers are those of the kernel's tables.
"""

import ctypes
import os
import platform
import struct
from collections.abc import Sequence
from dataclasses import dataclass

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06  # BPF: ld word, jeq, jset, ret
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_NUMBER, _ARCHITECTURE = 0, 4  # where they are in what a filter sees
_CLONE_THREAD = 0x10000
_PROT_EXEC = 4


def _argument(index: int) -> int:
    """Return where the lower half of an argument is; both architectures are little-endian."""
    return 16 + 8 * index


@dataclass(frozen=True)
class _Table:
    architecture: int  # AUDIT_ARCH_…
    plain: dict[str, int]
    clone: int
    mmap: int
    mprotect: int
    prlimit64: int


_TABLES = {
    "x86_64": _Table(
        architecture=0xC000003E,
        plain={
            "read": 0, "write": 1, "close": 3, "poll": 7, "lseek": 8, "munmap": 11, "brk": 12, "rt_sigaction": 13,
            "rt_sigprocmask": 14, "rt_sigreturn": 15, "pread64": 17, "readv": 19, "sched_yield": 24, "mremap": 25,
            "madvise": 28, "nanosleep": 35, "getpid": 39, "sendto": 44, "recvfrom": 45, "exit": 60, "gettimeofday": 96,
            "getrusage": 98, "sigaltstack": 131, "gettid": 186, "futex": 202, "sched_getaffinity": 204,
            "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230,
            "exit_group": 231, "ppoll": 271, "set_robust_list": 273, "getrandom": 318, "membarrier": 324, "rseq": 334,
        },
        clone=56, mmap=9, mprotect=10, prlimit64=302,
    ),
    "aarch64": _Table(
        architecture=0xC00000B7,
        plain={
            "close": 57, "lseek": 62, "read": 63, "write": 64, "readv": 65, "pread64": 67, "ppoll": 73, "exit": 93,
            "exit_group": 94, "futex": 98, "set_robust_list": 99, "nanosleep": 101, "clock_gettime": 113,
            "clock_getres": 114, "clock_nanosleep": 115, "sched_getaffinity": 123, "sched_yield": 124,
            "restart_syscall": 128, "sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135,
            "rt_sigreturn": 139, "getrusage": 165, "gettimeofday": 169, "getpid": 172, "gettid": 178, "sendto": 206,
            "recvfrom": 207, "brk": 214, "munmap": 215, "mremap": 216, "madvise": 233, "getrandom": 278,
            "membarrier": 283, "rseq": 293,
        },
        clone=220, mmap=222, mprotect=226, prlimit64=261,
    ),
}  # fmt: skip
_CLONE3 = 435  # everywhere; its flags are out of a filter's sight, and the C library can do without


def program() -> bytes | None:
    """Return the filter for this machine, as the kernel takes it, or None if its architecture is not known here."""
    table = _TABLES.get(platform.machine())
    if table is None:
        return None
    allow, refuse = _return(_ALLOW), _return(_ERRNO | _EPERM)
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, table.architecture, if_so=1),
        _return(_KILL),
        _step(_LOAD, _NUMBER),
        *_when(_CLONE3, [_return(_ERRNO | _ENOSYS)]),
        *_when(table.clone, _by_bit(0, _CLONE_THREAD, if_set=allow, if_not=refuse)),
        *_when(table.mmap, _by_bit(2, _PROT_EXEC, if_set=refuse, if_not=allow)),
        *_when(table.mprotect, _by_bit(2, _PROT_EXEC, if_set=refuse, if_not=allow)),
        # Its own limits only.
        *_when(table.prlimit64, [_step(_LOAD, _argument(0)), _step(_EQUAL, 0, if_not=1), allow, refuse]),
    ]
    for number in table.plain.values():
        steps += _when(number, [allow])
    return b"".join([*steps, refuse])


def install(filter_program: bytes) -> None:
    """Put a filter on this process, for good.

    Raises:
        OSError: The kernel, or what this process runs in, does not take it.
    """

    class _Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))

    loaded = _Program(len(filter_program) // 8, filter_program)
    set_no_new_privileges()
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(loaded))


def set_no_new_privileges() -> None:
    """Give up gaining rights by starting a program."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _prctl(option: int, *arguments: object) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    padded = [*arguments, *[0] * (4 - len(arguments))]
    if library.prctl(option, *(ctypes.c_ulong(each) if isinstance(each, int) else each for each in padded)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _step(code: int, operand: int, *, if_so: int = 0, if_not: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_so, if_not, operand)


def _return(value: int) -> bytes:
    return _step(_RETURN, value)


def _when(number: int, steps: Sequence[bytes]) -> list[bytes]:
    """Do steps, which end with a return, if the call is of this number, which is loaded."""
    return [_step(_EQUAL, number, if_not=len(steps)), *steps]


def _by_bit(argument: int, bit: int, *, if_set: bytes, if_not: bytes) -> list[bytes]:
    return [_step(_LOAD, _argument(argument)), _step(_ANY_BIT, bit, if_not=1), if_set, if_not]
