"""Real processes and sockets; a made-up /proc where a permission has to be missing."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.causes import Cause
from agent.model import Fault
from agent.node.processes import peer_pid, read_process


def test_the_listener_of_a_socket_is_found(tmp_path: Path) -> None:
    path = tmp_path / "containerd.sock"
    code = (
        f"import socket,time; s=socket.socket(1); s.bind({str(path)!r}); s.listen(); print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            assert peer_pid(path) == child.pid
        finally:
            child.kill()


def test_a_socket_without_a_listener_is_a_runtime_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    for gone in (path, tmp_path / "none.sock"):
        with pytest.raises(Fault) as caught:
            peer_pid(gone)
        assert caught.value.cause is Cause.RUNTIME_UNAVAILABLE
        assert str(gone) in caught.value.detail


def test_a_path_too_long_for_a_socket_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(Fault):
        peer_pid(tmp_path / ("x" * 200))


def test_a_process_tells_its_arguments_environment_start_and_root() -> None:
    before = time.time()
    environ = {"HTTPS_PROXY": "http://user:word@proxy:1", "EMPTY": "", "EQUALS": "a=b"}
    with subprocess.Popen(["sleep", "60"], env=environ) as child:
        try:
            while Path(f"/proc/{child.pid}/cmdline").read_bytes() != b"sleep\x0060\0":  # not become it yet
                time.sleep(0.001)
            process = read_process(child.pid)
        finally:
            child.kill()
    assert process.cmdline == ("sleep", "60")
    assert dict(process.environ) == environ
    assert before - 2 < process.started < time.time() + 2
    assert process.root == Path(f"/proc/{child.pid}/root")
    assert "word" not in repr(process)


def _fake_proc(tmp_path: Path) -> Path:
    (tmp_path / "7").mkdir()
    (tmp_path / "stat").write_text("cpu 1 2\nbtime 1000\n")
    after_name = " ".join(["S"] + ["0"] * 18 + [str(50 * os.sysconf("SC_CLK_TCK"))])
    (tmp_path / "7/stat").write_text(f"7 (a ) b (c)) {after_name}\n")
    (tmp_path / "7/cmdline").write_bytes(b"containerd\0--config\0/x y\0")
    (tmp_path / "7/environ").write_bytes(b"A=\xff\0nonsense\0")
    return tmp_path


def test_a_name_with_brackets_does_not_shift_the_start_time(tmp_path: Path) -> None:
    process = read_process(7, _fake_proc(tmp_path))
    assert process.started == 1050
    assert process.cmdline == ("containerd", "--config", "/x y")
    assert set(process.environ) == {"A"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not")
def test_a_missing_permission_is_named() -> None:
    code = (
        "from agent.node.processes import read_process\n"
        "from agent.model import Fault\n"
        "import os; os.setuid(65534)\n"
        f"try: read_process({os.getpid()})\n"
        "except Fault as fault: print(fault.cause, fault.detail)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("unknown")
    assert "SYS_PTRACE" in said


def test_a_process_that_is_not_there_is_said_to_be_gone_or_hidden(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="hostPID"):
        read_process(8, _fake_proc(tmp_path))


def test_a_stat_in_another_form_is_no_traceback(tmp_path: Path) -> None:
    proc = _fake_proc(tmp_path)
    (proc / "7/stat").write_text("7 (x) S")
    with pytest.raises(Fault, match="form"):
        read_process(7, proc)
