#!/usr/bin/env python3
"""The figures of docs/performance.md that are not a comparison with a peer.

    deploy/bench/figures.py [--bin-dir target/release] [--only failover,idle,…] [--rounds 20]

Each figure is measured on a site of three agents that `flotilla dev` starts on this machine:

- failover   the leader is killed under 64 writers, again and again: longest time without a write
- idle       memory, processor time and bytes written of agents that nobody talks to, and bytes
             written per 1,000 commands of one client
- loaded     memory after a load of 256 writers
- slow_disk  the same load with every sync 20 ms slower (a shim in front of fdatasync)
- devices    100,000 devices: time to register, memory, snapshot, restart, longest stall meanwhile

JSON lines on stdout, talk on stderr. It stops what it started.
"""

import argparse
import fcntl
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "deploy" / "demo"))
from bare_nats import BareNats  # noqa: E402

SITE = "figures"
WAIT_SECONDS_MAX = 30
DEVICES = 100_000
BATCH = 250
# As `flotilla dev` has it: with the port that is for one agent of a machine only one would be in the mesh.
MESH_HERE = ["--set", "mesh.listen=/ip4/127.0.0.1/tcp/0", "--set", "mesh.mdns=false"]
SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    usleep(20000);
    return real(fd);
}
"""


class Site:
    """A local site of three agents."""

    def __init__(self, bins, environment=None):
        self.bins = bins
        self.data = Path(tempfile.mkdtemp(prefix="flotilla-figures-"))
        self.environment = dict(os.environ, **(environment or {}))
        self.children = []
        self.run("flotilla", "dev", "--site", SITE, "--agents", "3", "--data", self.data, "--detach")
        manifest = json.loads((self.data / "dev.json").read_text())
        self.nats_url = manifest["nats_url"]
        self.agents = {a["name"]: dict(a) for a in manifest["agents"]}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.children:
            child.send_signal(signal.SIGTERM)
        subprocess.run([self.bins / "flotilla", "dev", "stop", "--data", str(self.data)],
                       stdout=sys.stderr)
        for child in self.children:
            child.wait(20)
        shutil.rmtree(self.data, ignore_errors=True)

    def run(self, program, *arguments):
        command = [str(self.bins / program)] + [str(a) for a in arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    def cli(self, *arguments):
        return self.run("flotilla", *arguments, "--server", self.nats_url, "--site", SITE)

    def bench(self, clients, seconds):
        return json.loads(self.cli("bench", "--keep", "--clients", clients, "--seconds", seconds))

    def leader(self):
        return json.loads(self.cli("leader", "show", "-o", "json"))["name"]

    def kill(self, name):
        """Kills an agent, and waits until the system has let go of it and of its lock."""
        agent = self.agents[name]
        os.kill(agent["pid"], signal.SIGKILL)
        with open(Path(agent["data_dir"]) / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)

    def start(self, name):
        agent = self.agents[name]
        log = open(self.data / f"{name}.again.log", "ab")
        child = subprocess.Popen(
            [self.bins / "flotilla-agent", "run", "--nats", self.nats_url, *MESH_HERE,
             "--data-dir", agent["data_dir"]], stdout=log, stderr=log, env=self.environment)
        self.children.append(child)
        agent["pid"] = child.pid

    def node(self, name):
        reply = BareNats(self.nats_url)
        try:
            return reply.request(f"flotilla.{SITE}.control.node.{name}.status")["item"]
        finally:
            reply.close()

    def await_caught_up(self, name):
        """Waits until the node has applied what the leader has; gives the seconds it took."""
        began, seen = time.monotonic(), None
        while time.monotonic() - began < WAIT_SECONDS_MAX:
            try:
                mine, theirs = self.node(name), self.node(self.leader())
                if mine["leader"] is not None and mine["applied"] >= theirs["applied"]:
                    return time.monotonic() - began
                seen = f"it is at {mine['applied']} of {theirs['applied']}"
            except Exception as error:  # not up yet
                seen = repr(error)
            time.sleep(0.02)
        log = (self.data / f"{name}.again.log").read_text()[-2000:]
        sys.exit(f"{name} did not catch up within {WAIT_SECONDS_MAX} s: {seen}\n{log}")

    def written(self):
        """Per agent: bytes written to log and snapshots since its start, by its own count."""
        return {name: sum(self.counter(name, f"flotilla_{what}_written_bytes_total")
                          for what in ("log", "snapshot")) for name in self.agents}

    def counter(self, name, metric):
        log = (self.data / "logs" / f"{name}.log").read_text()
        address = re.findall(r"health and metrics are served.*?address=(\S+)", log)[-1]
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as reply:
            lines = reply.read().decode().splitlines()
        return sum(float(l.rsplit(" ", 1)[1]) for l in lines if l.split(" ")[0].split("{")[0] == metric)

    def usage(self):
        """Per agent: resident memory in MiB, seconds of processor time."""
        return {name: usage_of(agent["pid"]) for name, agent in self.agents.items()}


def usage_of(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(int(l.split()[1]) for l in status.splitlines() if l.startswith("VmRSS"))
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    ticks = int(fields[11]) + int(fields[12])
    return {"resident_mib": resident / 1024, "cpu_s": ticks / os.sysconf("SC_CLK_TCK")}


def say(figure, **values):
    print(json.dumps({"figure": figure, **values}), flush=True)


def failover(bins, rounds):
    gaps, unknown, errors = [], 0, 0
    with Site(bins) as site:
        for _ in range(rounds):
            result = {}
            load = threading.Thread(target=lambda: result.update(site.bench(64, 4)))
            load.start()
            time.sleep(1.5)
            leader = site.leader()
            site.kill(leader)
            load.join()
            gaps.append(result["longest_gap_ms"])
            unknown += result["unknown"]
            errors += result["errors"]
            site.start(leader)
            site.await_caught_up(leader)
    say("failover", rounds=rounds, gap_ms_median=statistics.median(gaps), gap_ms_worst=max(gaps),
        gaps_ms=sorted(gaps), unknown=unknown, errors=errors)


def idle(bins, seconds=60):
    with Site(bins) as site:
        time.sleep(5)
        before, written = site.usage(), site.written()
        time.sleep(seconds)
        after, written_then = site.usage(), site.written()
        load = site.bench(1, 5)
        written_after = site.written()
    for name in before:
        say("written", agent=name,
            idle_bytes_per_day=round((written_then[name] - written[name]) * 86400 / seconds),
            bytes_per_1000_commands=round((written_after[name] - written_then[name])
                                          * 1000 / max(1, load["ops"])))
        used = after[name]["cpu_s"] - before[name]["cpu_s"]
        say("idle", agent=name, resident_mib=round(after[name]["resident_mib"], 1),
            cpu_percent_of_a_core=round(100 * used / seconds, 2))
    for program in ("flotilla", "flotilla-agent"):
        say("binary", program=program,
            size_mib=round((bins / program).stat().st_size / 1024 / 1024, 1))


def loaded(bins):
    with Site(bins) as site:
        result = site.bench(256, 5)
        for name, used in site.usage().items():
            say("loaded", agent=name, ops=result["ops"],
                resident_mib=round(used["resident_mib"], 1))


def slow_disk(bins):
    folder = Path(tempfile.mkdtemp(prefix="flotilla-shim-"))
    source, shim = folder / "slow.c", folder / "slow.so"
    source.write_text(SHIM)
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
    with Site(bins, {"LD_PRELOAD": str(shim)}) as site:
        for clients in (1, 64, 256):
            r = site.bench(clients, 5)
            say("slow_disk", sync_slower_ms=20, clients=clients, ops_per_s=r["ops_per_s"],
                p50_ms=r["p50_ms"], p99_ms=r["p99_ms"], errors=r["errors"], unknown=r["unknown"])
    shutil.rmtree(folder)


def devices(bins):
    with Site(bins) as site:
        nats = BareNats(site.nats_url, timeout_s=30)
        began = time.monotonic()
        for first in range(0, DEVICES, BATCH):
            batch = [{"op": "device.register", "id": f"hall{n % 40}.line{n % 7}.device-{n}",
                      "body": {"name": f"Device {n}", "address": f"0x{n:06x}",
                               "labels": {"kind": "lamp", "row": str(n % 100)}}}
                     for n in range(first, first + BATCH)]
            answer = nats.request(f"flotilla.{SITE}.control.commands.batch",
                                  json.dumps(batch).encode(), timeout_s=30)
            if not answer["ok"]:
                sys.exit(f"a batch was refused: {answer}")
        say("devices_register", devices=DEVICES, seconds=round(time.monotonic() - began, 1))
        for name, used in site.usage().items():
            say("devices_memory", agent=name, resident_mib=round(used["resident_mib"], 1))
        quiet = site.bench(8, 5)
        result = {}
        load = threading.Thread(target=lambda: result.update(site.bench(8, 5)))
        load.start()
        time.sleep(1.5)
        began = time.monotonic()
        taken = nats.request(f"flotilla.{SITE}.control.admin.snapshot.take", b"", timeout_s=30)
        took = time.monotonic() - began
        load.join()
        say("devices_snapshot", seconds=round(took, 2),
            size_mib=round(taken["item"]["snapshots"][0]["size_bytes"] / 1024 / 1024, 1),
            longest_gap_ms=result["longest_gap_ms"], max_ms=result["max_ms"],
            without_snapshot_gap_ms=quiet["longest_gap_ms"], without_snapshot_max_ms=quiet["max_ms"])
        follower = next(n for n in site.agents if n != site.leader())
        site.kill(follower)
        site.start(follower)
        say("devices_restart", seconds=round(site.await_caught_up(follower), 2))
        for name, used in site.usage().items():
            say("devices_memory_after", agent=name, resident_mib=round(used["resident_mib"], 1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin-dir", default="target/release", type=Path)
    parser.add_argument("--rounds", default=20, type=int)
    parser.add_argument("--only", default="idle,loaded,failover,slow_disk,devices")
    options = parser.parse_args()
    bins = options.bin_dir.resolve()
    fetch = ROOT / "deploy" / "nats" / "fetch-nats-server.py"
    os.environ["FLOTILLA_NATS_SERVER"] = subprocess.run(
        [fetch], check=True, capture_output=True, text=True).stdout.strip()
    figures = {"failover": lambda: failover(bins, options.rounds), "idle": lambda: idle(bins),
               "loaded": lambda: loaded(bins), "slow_disk": lambda: slow_disk(bins),
               "devices": lambda: devices(bins)}
    for name in options.only.split(","):
        figures[name]()


if __name__ == "__main__":
    main()
