"""What a process that is locked in can still do, tried in processes of their own."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from shoppable.decoder.workers import seccomp

with_filter = pytest.mark.skipif(seccomp.program() is None, reason="no filter is known for this processor")


def run(script: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-c", textwrap.dedent(script)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


LOCK = """
import json, mmap, os, resource, signal, socket, sys, threading, time
from shoppable.decoder.workers import sandbox, seccomp
from shoppable.decoder.workers.protocol import Limits
program = seccomp.program()
file = open(sys.executable, "rb", buffering=0)
def attempt(what):
    try:
        return repr(what())
    except Exception as error:
        return type(error).__name__
sandbox.confine(Limits(memory_bytes=2**28), program)
"""

REFUSED = {
    "opening a file": 'open("/etc/hostname")',
    "opening a file by its folder": 'os.open("/etc/hostname", os.O_RDONLY, dir_fd=0)',
    "looking whether a file is there": 'os.stat("/etc/hostname")',
    "listing a folder": 'os.listdir("/")',
    "making a file": 'os.mkdir("/tmp/made-by-a-worker")',
    "a socket to the world": "socket.socket(socket.AF_INET)",
    "a local socket": "socket.socket(socket.AF_UNIX)",
    "a pair of sockets": "socket.socketpair()",
    "another process": "os.fork()",
    "another program": 'os.execv("/bin/true", ["/bin/true"])',
    "a signal to others": "os.kill(os.getpid(), 0)",
    "a limit of another process": "resource.prlimit(1, resource.RLIMIT_CPU)",
    "more memory": "bytearray(2**29)",
    "memory that can be run": "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
    "memory without a name": 'os.memfd_create("x")',
    "a descriptor more": "os.dup(0)",
}


@with_filter
@pytest.mark.parametrize("name", REFUSED)
def test_a_locked_in_process_is_refused(name):
    done = run(f"{LOCK}\nprint(json.dumps(attempt(lambda: {REFUSED[name]})), flush=True)\nos._exit(0)")
    assert json.loads(done.stdout) in {"PermissionError", "MemoryError"}, done.stderr


ALLOWED = {
    "reading what is open": "len(file.read(100))",
    "seeking in it": "file.seek(7)",
    "computing": "sum(range(100_000))",
    "memory": "len(bytearray(2**26))",
    "threads": "threading.Thread(target=time.sleep, args=(0.01,)).start()",
    "the time": "time.thread_time() > 0",
    "its own limits": "resource.getrlimit(resource.RLIMIT_CPU) and None",
}
OUTCOMES = {
    "reading what is open": "100",
    "seeking in it": "7",
    "computing": "4999950000",
    "memory": str(2**26),
    "the time": "True",
}


@with_filter
@pytest.mark.parametrize("name", ALLOWED)
def test_a_locked_in_process_may_still_work(name):
    done = run(f"{LOCK}\nprint(json.dumps(attempt(lambda: {ALLOWED[name]})), flush=True)\nos._exit(0)")
    assert json.loads(done.stdout) == OUTCOMES.get(name, "None"), done.stderr


def test_a_step_that_hangs_is_ended_by_the_kernel():
    done = run(f"{LOCK}\nwatch = sandbox.StepWatch(0.0)\nwatch.step()\nwhile True: pass")
    assert done.returncode == -24  # SIGXCPU


def test_steps_that_get_on_are_not():
    script = """
    until = time.process_time() + 2.5
    watch = sandbox.StepWatch(0.0)
    while time.process_time() < until:
        watch.step()
    print("done", flush=True)
    os._exit(0)
    """
    done = run(LOCK + textwrap.dedent(script))
    assert done.stdout == "done\n", done.stderr


def test_a_fork_server_loads_neither_grpc_nor_the_services_settings():
    """What forks must have one thread, and what a stranger's video may reach should be little."""
    done = run("""
    import json, os, sys
    from shoppable.decoder.workers import forkserver, worker
    worker.load_all()
    print(json.dumps([sorted(sys.modules), len(os.listdir("/proc/self/task"))]))
    """)
    modules, threads = json.loads(done.stdout)
    assert threads == 1
    assert "av.video.stream" in modules
    forbidden = {"grpc", "google", "pydantic", "structlog", "prometheus_client", "opentelemetry", "asyncio"}
    assert not forbidden & {name.partition(".")[0] for name in modules}


@with_filter
def test_a_fork_server_finds_out_whether_the_kernel_takes_a_filter():
    done = run("""
    from shoppable.decoder.workers import forkserver, seccomp
    nonsense = b"\\xff" * 8
    print(forkserver._is_taken(seccomp.program()), forkserver._is_taken(nonsense))
    """)
    assert done.stdout == "True False\n", done.stderr
