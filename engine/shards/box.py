"""Puts the process that it becomes into a box, and then executes the shard's command in it. Standard library only.

    python -I -S box.py enter   BWRAP WORDS...          level 3, outside: hold TERM back, become bubblewrap
    python -I -S box.py within  COMMAND...              level 3, inside, as process 1: start the command, take in who ends
    python -I -S box.py within-network COMMAND...       the same in a box that shares the machine's network
    python -I -S box.py confine RULES COMMAND...        level 2: landlock and seccomp, become the command

`engine.shards.sandbox` writes these command lines; it imports nothing from here but names. The file runs by itself, inside
boxes too, so it imports nothing of the engine. Whatever cannot be set up ends it with exit code 98 and a line that says what:
a command never runs in a weaker box than was asked for.
"""

from __future__ import annotations

import ctypes
import functools
import os
import resource
import signal
import struct
import sys

FAILED = 98
MARK = "cockpit: no box:"
PROCESSES = 4096  # processes and threads of a shard at level 3, where they are counted by themselves
OPEN_FILES = 65536

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_CAPABILITIES = 64  # more than there are
_HELD_BACK = {signal.SIGTERM}


class CannotBox(OSError):
    """A part of the box cannot be set up; the message says which."""


# --- seccomp: what no shard needs, and what would reach around the other walls

_X86, _ARM = "x86_64", "aarch64"
_AUDIT = {_X86: 0xC000003E, _ARM: 0xC00000B7}
# name: (number on x86_64, number on aarch64); -1 where there is none
_NUMBERS: dict[str, tuple[int, int]] = {
    "socket": (41, 198),
    "socketpair": (53, 199),
    "clone": (56, 220),
    "clone3": (435, 435),
    "ioctl": (16, 29),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "tkill": (200, 130),
    "sched_setaffinity": (203, 122),
}
_NEVER: dict[str, tuple[int, int]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "unshare": (272, 97),
    "setns": (308, 268),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "open_by_handle_at": (304, 265),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, -1),
    "ioperm": (173, -1),
    "vhangup": (153, 58),
}
# At level 2 there are no namespaces: these reach other processes of the same user, and files beyond landlock's rights.
_NEVER_2: dict[str, tuple[int, int]] = {
    "pidfd_send_signal": (424, 424),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "setxattrat": (463, 463),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
}
# Landlock has no right for these: at level 2 they say that they were done, and do nothing (shutil.copy must go on working).
_IGNORED_2: dict[str, tuple[int, int]] = {
    "chmod": (90, -1),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, -1),
    "fchown": (93, 55),
    "lchown": (94, -1),
    "fchownat": (260, 54),
    "utime": (132, -1),
    "utimes": (235, -1),
    "futimesat": (261, -1),
    "utimensat": (280, 88),
}
_LD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_NEW_NAMESPACE = 0x7E020000
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_STREAMS = (1, 0x801, 0x80001, 0x80801)  # a pair of datagram sockets could be pointed at a service's socket by its path
_STREAMS_AND_DATAGRAMS = tuple(kind | flags for kind in (1, 2) for flags in (0, 0x800, 0x80000, 0x80800))
_TTY_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
# Not dumpable, a process would hide its launch's marker from the launcher; PR_SET_MM (35) would move its environment.
_REACHING_PRCTLS = (_PR_SET_DUMPABLE, 35)


def _op(code: int, k: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, k)


def _argument(index: int) -> bytes:
    return _op(_LD, 16 + 8 * index)  # its lower half: both machines are little-endian


def _unless(allowed: tuple[int, ...]) -> bytes:
    """Allow a call whose loaded argument is one of these; refuse any other."""
    tests = b"".join(_op(_JEQ, each, len(allowed) - at) for at, each in enumerate(allowed))
    return tests + _op(_RET, _ERRNO | _EPERM) + _op(_RET, _ALLOW)


def _if(refused: tuple[int, ...]) -> bytes:
    """Refuse a call whose loaded argument is one of these; allow any other."""
    tests = b"".join(_op(_JEQ, each, len(refused) - at) for at, each in enumerate(refused))
    return tests + _op(_RET, _ALLOW) + _op(_RET, _ERRNO | _EPERM)


def _internet_only() -> bytes:
    """Allow stream and datagram sockets of the internet, and netlink's routing, which name look-ups ask for addresses."""
    inet = _argument(1) + _unless(_STREAMS_AND_DATAGRAMS)
    netlink = _argument(2) + _unless((0,))
    kinds = _op(_JEQ, _INET, 3) + _op(_JEQ, _INET6, 2) + _op(_JEQ, _NETLINK, 1 + len(inet) // 8)
    return _argument(0) + kinds + _op(_RET, _ERRNO | _EPERM) + inet + netlink


@functools.lru_cache(maxsize=8)
def bpf(
    machine: str, level: int, pid: int, *, signals_scoped: bool = True, network: bool = False, unix: bool = True
) -> bytes:
    """The filter program for a machine ("x86_64" or "aarch64"). Raises CannotBox for another.

    `pid` is the process that gets it: where landlock does not keep signals in the box (`signals_scoped`), that process may
    signal itself and its group, and nobody else. At level 2 `network` leaves the internet's sockets; at level 3 `unix`
    false takes the local ones away.
    """
    if machine not in _AUDIT:
        raise CannotBox(f"seccomp: no table of system calls for {machine}")
    column = (_X86, _ARM).index(machine)
    refuse = _op(_RET, _ERRNO | _EPERM)
    rules: dict[int, bytes] = {}

    def rule(names: dict[str, tuple[int, int]], body: bytes) -> None:
        rules.update({numbers[column]: body for numbers in names.values() if numbers[column] >= 0})

    def named(name: str, body: bytes) -> None:
        rules[_NUMBERS[name][column]] = body

    rule(_NEVER, refuse)
    named("clone3", _op(_RET, _ERRNO | _ENOSYS))  # its flags lie in memory; the C library then takes clone
    named("clone", _argument(0) + _op(_JSET, _NEW_NAMESPACE, 0, 1) + refuse + _op(_RET, _ALLOW))
    named("ioctl", _argument(1) + _if(_TTY_INPUT))
    if level == 3 and not unix:
        named("socket", _argument(0) + _if((_UNIX,)))
    if level == 2:
        rule(_NEVER_2, refuse)
        rule(_IGNORED_2, _op(_RET, _ERRNO))
        named("socket", _internet_only() if network else refuse)
        named("socketpair", _argument(1) + _unless(_STREAMS))
        named("prctl", _argument(0) + _if(_REACHING_PRCTLS))
        named("prlimit64", _argument(0) + _unless((0, pid)))
        named("sched_setaffinity", _argument(0) + _unless((0, pid)))
        if not signals_scoped:
            named("kill", _argument(0) + _unless((0, pid)))
            named("tgkill", _argument(0) + _unless((pid,)))
            named("tkill", refuse)
    head = _op(_LD, 4) + _op(_JEQ, _AUDIT[machine], 1) + _op(_RET, _KILL) + _op(_LD, 0)
    if machine == _X86:
        head += _op(_JGE, 0x40000000, 0, 1) + refuse  # the x32 twin of every call
    body = b"".join(_op(_JEQ, number, 0, len(then) // 8) + then for number, then in sorted(rules.items()))
    return head + body + _op(_RET, _ALLOW)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise CannotBox(f"{what}: {os.strerror(number)}")
    return result


def _no_new_privileges() -> None:
    _check(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def seccomp(level: int, *, signals_scoped: bool = True, network: bool = False, unix: bool = True) -> None:
    """Filter this process's system calls from now on. Raises CannotBox."""
    machine, pid = os.uname().machine, os.getpid() if level == 2 else 0
    code = bpf(machine, level, pid, signals_scoped=signals_scoped, network=network, unix=unix)
    program = _Program(len(code) // 8, code)
    _no_new_privileges()
    _check(_libc().prctl(_PR_SET_SECCOMP, 2, ctypes.byref(program), 0, 0), "seccomp")


# --- landlock: which files there are

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # the same on all machines
_LEAST_ABI = 3  # Linux 6.2: before it, a file that cannot be written could still be cut short
_SCOPING_ABI = 6  # Linux 6.12
_EXECUTE, _WRITE, _READ, _LIST = 1, 2, 4, 8
_TRUNCATE, _DEVICE = 1 << 14, 1 << 15
_ON_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE | _DEVICE
_MAKE_DEVICES = 1 << 6 | 1 << 11


def landlock_abi() -> int:
    """Version of the kernel's landlock; 0 when there is none."""
    return max(0, int(_libc().syscall(_CREATE, None, ctypes.c_size_t(0), 1)))


def landlock(readable: list[str], writable: list[str], devices: list[str], network: bool = False) -> bool:
    """Leave this process these files and no others, and no TCP without `network`. True when its signals are kept in too.
    Raises CannotBox."""
    abi, libc = landlock_abi(), _libc()
    if abi < _LEAST_ABI:
        raise CannotBox(
            "landlock: not in this kernel" if not abi else f"landlock: version {abi}, {_LEAST_ABI} is needed"
        )
    handled = (1 << (16 if abi >= 5 else 15)) - 1
    tcp, scoped = (3 if abi >= 4 and not network else 0), (3 if abi >= _SCOPING_ABI else 0)
    rules = struct.pack("=QQQ", handled, tcp, scoped)[: 24 if abi >= _SCOPING_ABI else 16 if abi >= 4 else 8]
    ruleset = _check(libc.syscall(_CREATE, rules, ctypes.c_size_t(len(rules)), 0), "landlock")
    read = _EXECUTE | _READ | _LIST
    write = handled & ~_MAKE_DEVICES & ~_DEVICE
    for paths, rights in ((readable, read), (writable, write), (devices, _READ | _WRITE | _DEVICE)):
        for path in paths:
            _grant(libc, ruleset, path, rights & handled)
    _no_new_privileges()
    _check(libc.syscall(_RESTRICT, ruleset, 0), "landlock")
    os.close(ruleset)
    return scoped != 0


def keep_from_abstract_sockets() -> bool:
    """Leave this process the abstract sockets of its own box and no others: these have no path that a mount could hide, and
    belong to the network. False where the kernel cannot. Raises CannotBox."""
    libc = _libc()
    if landlock_abi() < _SCOPING_ABI:
        return False
    rules = struct.pack("=QQQ", 0, 0, 1)
    ruleset = _check(libc.syscall(_CREATE, rules, ctypes.c_size_t(len(rules)), 0), "landlock")
    _no_new_privileges()
    _check(libc.syscall(_RESTRICT, ruleset, 0), "landlock")
    os.close(ruleset)
    return True


def _grant(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    try:
        found = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not os.path.isdir(path):
            rights &= _ON_FILES
        beneath = struct.pack("=Qi", rights, found)
        _check(libc.syscall(_ADD_RULE, ruleset, 1, beneath, 0), f"landlock: {path}")
    finally:
        os.close(found)


def drop_capabilities() -> None:
    """Be an ordinary user, also as root. Raises CannotBox."""
    libc = _libc()
    for each in range(_CAPABILITIES):
        if libc.prctl(_PR_CAPBSET_DROP, each, 0, 0, 0) < 0:
            break  # past the last there is; or an ordinary user, who has none to give up
    header, none = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    _check(libc.capset(header, none), "capabilities")


# --- the three ways in


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    soft, _ = resource.getrlimit(kind)
    resource.setrlimit(kind, (most if soft == resource.RLIM_INFINITY else min(soft, most), most))


def _become(argv: list[str]) -> None:
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):  # Python's own settings must not be passed on
        signal.signal(number, signal.SIG_DFL)
    os.execvp(argv[0], argv)


def _look_after(child: int) -> None:
    """Be process 1 until `child` ends, and end as it did; the kernel then kills whatever is left.

    Bubblewrap would do this too, but its own process 1 is never waited for, and what the command used would go uncounted.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _check(_libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "dumpable")  # it has no filter: nobody inside may look into it
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def main(argv: list[str]) -> int:
    """Become what `argv` says, boxed. Returns only when that cannot be done."""
    try:
        way, rest = argv[0], argv[1:]
        if way == "enter":
            # Bubblewrap hands no signal on, and must survive one that is meant for the command: a group signal reaches both
            signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
        elif way in ("within", "within-network"):
            if child := os.fork():
                _look_after(child)
            os.environ.pop("PWD", None)  # bubblewrap's
            _limit(resource.RLIMIT_NPROC, PROCESSES)
            _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
            seccomp(3, unix=way == "within" or keep_from_abstract_sockets())
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)
        elif way == "confine":
            import json  # here, since every import delays every shard: the other ways do without

            rules, rest = json.loads(rest[0]), rest[1:]
            _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
            network = rules.get("network", False) is True
            scoped = landlock(rules["readable"], rules["writable"], rules["devices"], network)
            drop_capabilities()
            seccomp(2, signals_scoped=scoped, network=network)
        else:
            raise CannotBox(f"no such way in: {way}")
        _become(rest)
    except (OSError, ValueError, LookupError, TypeError) as error:
        sys.stdout.flush()
        print(f"{MARK} {error}", file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
