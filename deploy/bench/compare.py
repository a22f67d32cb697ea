#!/usr/bin/env python3
"""Flotilla beside etcd and JetStream: the same load, on the same machine, in the same run.

    deploy/bench/compare.py [--bin-dir target/release] [--seconds 5] [--rounds 3] [--clients 1,64,256]
                         [--idle-seconds 30]

Each system is three processes on the loopback, each of which syncs a write to its disk before
it counts: a Flotilla site over one nats-server, etcd with its defaults, a JetStream key-value
bucket with three replicas and `sync_interval: always`, and, for scale, a bare request and reply
over NATS. All run at once and idle but for the one that is measured; they take turns within each
round, so that a machine whose speed drifts treats them alike. Printed are medians over the rounds
as JSON lines, then a table with ratios. First of all it is measured what each system's processes
take when nobody asks them for anything. A peer that is not installed is left out, and said.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
READY_SECONDS_MAX = 60


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Processes:
    """What was started, to be stopped by its process id."""

    def __init__(self, folder):
        self.folder = folder
        self.started = {}
        self.arguments = {}

    def start(self, name, arguments):
        log = open(self.folder / f"{name}.log", "ab")
        process = subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT)
        self.started[name], self.arguments[name] = process, arguments
        return process

    def kill(self, name):
        self.started[name].kill()
        self.started[name].wait(10)

    def start_again(self, name):
        self.start(name, self.arguments[name])

    def stop(self):
        for process in self.started.values():
            process.send_signal(signal.SIGTERM)
        for process in self.started.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle(pids, seconds):
    """What each process takes of a core while nobody asks for anything; pids by system."""
    time.sleep(5)
    used = {pid: cpu_seconds(pid) for of in pids.values() for pid in of}
    time.sleep(seconds)
    for name, of in pids.items():
        percent = [round(100 * (cpu_seconds(pid) - used[pid]) / seconds, 2) for pid in of]
        print(json.dumps({"system": name, "idle_percent_of_a_core": percent,
                          "all_together": round(sum(percent), 2)}), flush=True)


def await_output(what, command, wanted):
    deadline = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < deadline:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0 and wanted in done.stdout:
            return
        time.sleep(0.2)
    sys.exit(f"{what} did not become ready: {done.stdout}{done.stderr}")


def start_etcd(processes, folder):
    if not shutil.which("etcd"):
        print("etcd is not installed (Debian: etcd-server); left out", file=sys.stderr)
        return None
    ports = free_ports(6)
    clients = [f"http://127.0.0.1:{p}" for p in ports[:3]]
    peers = [f"http://127.0.0.1:{p}" for p in ports[3:]]
    cluster = ",".join(f"e{i}={url}" for i, url in enumerate(peers))
    for i in range(3):
        processes.start(f"etcd{i}", [
            "etcd", "--name", f"e{i}", "--data-dir", str(folder / f"etcd{i}"),
            "--listen-client-urls", clients[i], "--advertise-client-urls", clients[i],
            "--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i],
            "--initial-cluster", cluster, "--initial-cluster-state", "new", "--log-level", "error",
        ])
    return ",".join(clients)


def start_jetstream(processes, folder, server):
    ports = free_ports(6)
    routes = ",".join(f"nats://127.0.0.1:{p}" for p in ports[3:])
    for i in range(3):
        conf = folder / f"js{i}.conf"
        conf.write_text(
            f'server_name: js{i}\nlisten: "127.0.0.1:{ports[i]}"\n'
            f'jetstream {{ store_dir: "{folder}/js{i}", sync_interval: always }}\n'
            f'cluster {{ name: js, listen: "127.0.0.1:{ports[3 + i]}", routes: [{routes}] }}\n'
        )
        processes.start(f"js{i}", [server, "-c", str(conf)])
    return ",".join(f"nats://127.0.0.1:{p}" for p in ports[:3])


def start_flotilla(bins, folder):
    data = folder / "site"
    subprocess.run([bins / "flotilla", "dev", "--site", "bench", "--agents", "3",
                    "--data", str(data), "--detach"], check=True, stdout=sys.stderr)
    return data, json.loads((data / "dev.json").read_text())


def measure(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        return {"ops_per_s": 0.0, "p50_ms": 0.0, "p99_ms": 0.0, "errors": -1,
                "last_error": done.stderr.strip()[-300:]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin-dir", default="target/release", type=Path)
    parser.add_argument("--seconds", default=5, type=int)
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--clients", default="1,64,256")
    parser.add_argument("--idle-seconds", default=30, type=int)
    options = parser.parse_args()
    bins = options.bin_dir.resolve()
    peers = bins / "examples" / "peers"
    fetch = ROOT / "deploy" / "nats" / "fetch-nats-server.py"
    server = subprocess.run([fetch], check=True, capture_output=True, text=True).stdout.strip()
    os.environ["FLOTILLA_NATS_SERVER"] = server
    folder = Path(tempfile.mkdtemp(prefix="flotilla-compare-"))
    processes, site = Processes(folder), None
    try:
        etcd = start_etcd(processes, folder)
        jetstream = start_jetstream(processes, folder, server)
        site, manifest = start_flotilla(bins, folder)
        nats = manifest["nats_url"]
        seconds = ["--seconds", options.seconds]
        systems = {"flotilla": [bins / "flotilla", "bench", "--keep", "--server", nats, "--site", "bench"],
                   "echo": [peers, "echo", nats], "jetstream": [peers, "jetstream", jetstream]}
        if etcd:
            systems["etcd"] = [peers, "etcd", etcd]
        for name, command in systems.items():
            await_output(name, [str(c) for c in command + ["--clients", 1, "--seconds", 1]], "ops")
        of = {"flotilla agents": [a["pid"] for a in manifest["agents"]]}
        for name, prefix in (("etcd", "etcd"), ("jetstream", "js")):
            of[name] = [p.pid for n, p in processes.started.items() if n.startswith(prefix)]
        if manifest.get("nats_pid"):
            of["flotilla's nats-server"] = [manifest["nats_pid"]]
        if options.idle_seconds:
            idle({name: pids for name, pids in of.items() if pids}, options.idle_seconds)
        rows = []
        for clients in (int(c) for c in options.clients.split(",")):
            seen = {name: [] for name in systems}
            for _ in range(options.rounds):
                for name, command in systems.items():
                    seen[name].append(measure(command + ["--clients", clients] + seconds))
            for name, runs in seen.items():
                row = {"system": name, "clients": clients, "rounds": options.rounds,
                       "errors": sum(r["errors"] for r in runs)}
                for key in ("ops_per_s", "p50_ms", "p99_ms"):
                    row[key] = round(statistics.median(r[key] for r in runs), 3)
                errors = [r["last_error"] for r in runs if r.get("last_error")]
                if errors:
                    row["last_error"] = errors[-1]
                rows.append(row)
                print(json.dumps(row), flush=True)
        table(rows)
    finally:
        if site:
            subprocess.run([bins / "flotilla", "dev", "stop", "--data", str(site)],
                           stdout=sys.stderr)
        processes.stop()
        shutil.rmtree(folder, ignore_errors=True)


def table(rows):
    ours = {r["clients"]: r["ops_per_s"] for r in rows if r["system"] == "flotilla"}
    print("\n| clients | system | writes/s | p50 ms | p99 ms | Flotilla / this |")
    print("|---|---|---|---|---|---|")
    for r in rows:
        ratio = ours[r["clients"]] / r["ops_per_s"] if r["ops_per_s"] else float("nan")
        print(f"| {r['clients']} | {r['system']} | {r['ops_per_s']:.0f} | {r['p50_ms']:.2f} "
              f"| {r['p99_ms']:.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
