#!/usr/bin/env python3
"""The leader killed under load: a Flotilla site, etcd and JetStream, one after the other.

    deploy/bench/failover_peers.py [--bin-dir target/release] [--rounds 10] [--only flotilla,etcd,jetstream]

Each system is three processes on the loopback with the defaults that its users get, but for JetStream's
`sync_interval: always`, as in `compare.py`. 64 clients write for twelve seconds; after two the process
that leads is killed with SIGKILL, and started again when the load has ended. A client of a peer gives a
write up after `--timeout-ms` and goes on with the next one, so that what counts is when the system takes
writes again, and not how patient its clients are; `flotilla bench` sends a write again by itself. Printed
is the longest time in which no client had a success: median, worst and all of them, as JSON lines.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from compare import ROOT, Processes, await_output, measure, start_etcd, start_jetstream
from figures import Site

sys.path.insert(0, str(ROOT / "deploy" / "demo"))
from bare_nats import BareNats  # noqa: E402

CLIENTS, SECONDS, KILL_AFTER_SECONDS, WHOLE_SECONDS_MAX = 64, 12, 2, 60


class Etcd:
    def __init__(self, processes, folder):
        self.processes = processes
        self.urls = start_etcd(processes, folder)

    def _status(self, url):
        request = urllib.request.Request(f"{url}/v3/maintenance/status", b"{}")
        with urllib.request.urlopen(request, timeout=2) as reply:
            return json.load(reply)

    def leader(self):
        for number, url in enumerate(self.urls.split(",")):
            status = self._status(url)
            if status["leader"] == status["header"]["member_id"]:
                return f"etcd{number}"
        raise LookupError("nobody leads")

    def is_whole(self):
        states = [self._status(url) for url in self.urls.split(",")]
        applied = [int(state["raftIndex"]) for state in states]
        return len({state["leader"] for state in states}) == 1 and max(applied) - min(applied) < 10


class JetStream:
    def __init__(self, processes, folder, server):
        self.processes = processes
        self.urls = start_jetstream(processes, folder, server)

    def _cluster(self):
        for url in self.urls.split(","):
            try:
                nats = BareNats(url, 2.0)
                try:
                    return nats.request("$JS.API.STREAM.INFO.KV_bench", b"", None, 2.0)["cluster"]
                finally:
                    nats.close()
            except (OSError, KeyError, TimeoutError):
                continue
        raise LookupError("nobody answers")

    def leader(self):
        return self._cluster()["leader"]

    def is_whole(self):
        cluster = self._cluster()
        replicas = cluster.get("replicas", [])
        return bool(cluster.get("leader")) and len(replicas) == 2 and all(
            replica["current"] and not replica.get("offline") for replica in replicas)


def await_whole(peer):
    deadline, why = time.monotonic() + WHOLE_SECONDS_MAX, None
    while time.monotonic() < deadline:
        try:
            if peer.is_whole():
                return
        except Exception as error:  # not up yet
            why = error
        time.sleep(0.2)
    sys.exit(f"it was not whole again within {WHOLE_SECONDS_MAX} s: {why!r}")


def rounds_of(count, load, leader, kill, mend):
    """Longest gap of each round, and how many writes ended otherwise."""
    reports = []
    for _ in range(count):
        report = {}
        loading = threading.Thread(target=lambda: report.update(load()))
        loading.start()
        loading.join(KILL_AFTER_SECONDS)
        if not loading.is_alive():
            sys.exit(f"the load ended before the leader was killed: {report}")
        name = leader()
        kill(name)
        loading.join()
        mend(name)
        reports.append(report)
    return reports


def say(system, reports):
    gaps = sorted(report["longest_gap_ms"] for report in reports)
    print(json.dumps({"system": system, "rounds": len(gaps), "gap_ms_median": statistics.median(gaps),
                      "gap_ms_worst": gaps[-1], "gaps_ms": gaps,
                      "unknown": sum(report["unknown"] for report in reports),
                      "errors": sum(report["errors"] for report in reports)}), flush=True)


def flotilla(bins, rounds):
    with Site(bins) as site:
        def mend(name):
            site.start(name)
            site.await_caught_up(name)

        say("flotilla", rounds_of(rounds, lambda: site.bench(CLIENTS, SECONDS), site.leader, site.kill, mend))


def peer(system, bins, rounds, timeout_ms, server):
    folder = Path(tempfile.mkdtemp(prefix="flotilla-failover-"))
    processes = Processes(folder)
    try:
        it = Etcd(processes, folder) if system == "etcd" else JetStream(processes, folder, server)
        if it.urls is None:
            return
        load = [bins / "examples" / "peers", system, it.urls, "--timeout-ms", timeout_ms]
        await_output(system, [str(c) for c in load + ["--clients", 1, "--seconds", 1]], "ops")

        def mend(name):
            processes.start_again(name)
            await_whole(it)

        whole_load = load + ["--clients", CLIENTS, "--seconds", SECONDS]
        say(system, rounds_of(rounds, lambda: measure(whole_load), it.leader, processes.kill, mend))
    finally:
        processes.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin-dir", default="target/release", type=Path)
    parser.add_argument("--rounds", default=10, type=int)
    parser.add_argument("--timeout-ms", default=250, type=int)
    parser.add_argument("--only", default="flotilla,etcd,jetstream")
    options = parser.parse_args()
    bins = options.bin_dir.resolve()
    server = subprocess.run([ROOT / "deploy" / "nats" / "fetch-nats-server.py"], check=True,
                            capture_output=True, text=True).stdout.strip()
    os.environ["FLOTILLA_NATS_SERVER"] = server
    for system in options.only.split(","):
        if system == "flotilla":
            flotilla(bins, options.rounds)
        else:
            peer(system, bins, options.rounds, options.timeout_ms, server)


if __name__ == "__main__":
    main()
