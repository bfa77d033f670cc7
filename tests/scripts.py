"""Runs the ``sh`` blocks of the documents in a shell, as a reader would paste them.

What a reader has and a test lacks is stood in for, by one rule each: an index that holds headstock
(the checkout, and nothing is installed), a made environment (the one that runs this), two GPUs (the
CPU), a Slurm job (its variables), a Ray cluster (one of this machine). A service that a block
starts answers the blocks after it and is asked to end when the page ends.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SLURM = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "64"}
PIP = """#!/bin/sh
for word; do
    shift
    case $word in
        .) word="{root}" ;;
        headstock*) word="{root}${{word#headstock}}" ;;
    esac
    set -- "$@" "$word"
done
exec "{python}" -m pip --disable-pip-version-check "$@" --dry-run
"""
MAKE = """#!/bin/sh
exec "{make}" -f "{root}/Makefile" -o .venv/package -o .venv/installed BIN="{scripts}" "$@"
"""
BEHIND = re.compile(r"(?<!&)&[ \t]*$", re.M)  # a line that leaves something running
WAIT = "\nfor job in $started; do wait $job; done\n"  # jobs -p forgets what has ended by then


class Shell:
    """A shell in ``folder``, which gets the links and programs that the blocks name."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.servers, self.closing = folder, [], contextlib.ExitStack()
        scripts = sysconfig.get_path("scripts")
        programs = folder / ".programs"
        programs.mkdir()
        where = {"root": ROOT, "python": sys.executable, "scripts": scripts, "make": "make"}
        where["make"] = subprocess.check_output(["sh", "-c", "command -v make"], text=True).strip()
        for name, text in (("pip", PIP), ("make", MAKE)):
            (programs / name).write_text(text.format(**where))
            (programs / name).chmod(0o755)
        for name in ("bench", "examples"):
            (folder / name).symlink_to(ROOT / name)
        (folder / ".curlrc").write_text("fail\nsilent\nshow-error\n")
        path = os.pathsep.join([str(programs), scripts, os.environ["PATH"]])
        self.env = {**os.environ, **SLURM, "PATH": path, "CURL_HOME": str(folder)}

    def run(self, text: str) -> tuple[int, str]:
        """(exit code, what it printed) of a block."""
        import torch

        if torch.cuda.device_count() < 2:
            text = re.sub(r"\bcuda:\d", "cpu", text)
        if "RAY_ADDRESS=auto" in text:
            text = text.replace("RAY_ADDRESS=auto", f"RAY_ADDRESS={self.cluster()}")
        before, serve, rest = text.partition("headstock serve")
        if serve:
            return self.serve(before, serve + rest)
        waited = BEHIND.sub(r'& started="$started $!"', text) + WAIT
        done = subprocess.run(
            ["bash", "-ec", waited], cwd=self.folder, env=self.env, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        missing = "does not provide the extra" in done.stdout
        return done.returncode or int(missing), done.stdout

    def serve(self, before: str, text: str) -> tuple[int, str]:
        """Start a service, once what precedes it has run; wait until it says where it listens."""
        if before.strip():
            code, said = self.run(before)
            if code:
                return code, said
        log = (self.folder / "service.log").open("w+")
        self.closing.callback(log.close)
        started = subprocess.Popen(
            ["bash", "-ec", f"exec {text}"], cwd=self.folder, env=self.env,
            stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self.servers.append(started)
        end = time.monotonic() + 600  # a start is slow where much else runs
        while time.monotonic() < end and started.poll() is None:
            said = Path(log.name).read_text()
            if "http://" in said:
                return 0, said
            time.sleep(0.1)
        return started.poll() or 1, Path(log.name).read_text()

    def cluster(self) -> str:
        """The address of a Ray cluster of two cores, ended with the page."""
        from ray.cluster_utils import Cluster

        args = {"num_cpus": 2, "object_store_memory": 80 << 20, "include_dashboard": False}
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        made = Cluster(initialize_head=True, head_node_args=args)
        self.closing.callback(made.shutdown)
        return made.address

    def close(self) -> list[int]:
        """End what runs; the exit codes of the services, which ctrl-C ends with 0."""
        for server in self.servers:
            server.send_signal(signal.SIGINT)
        codes = [server.wait(600) for server in self.servers]
        self.closing.close()
        return codes
