#!/usr/bin/env python3
"""The figures of the mesh: gateways in network namespaces, commanded at their own doors.

    deploy/bench/mesh_figures.py [--bin-dir target/release] [--only server,failover,…] [--rounds 20]
                                 [--idle-seconds 60] [--folder DIR]

Takes root, `ip` and `nsenter`. Each figure is measured on a site that it makes and takes away:

- server    the NATS server is killed under 64 writers at the doors of three gateways, and comes
            back: longest time without a write at the door where it was longest, changes of leader,
            answers that were unknown or errors, memory of each agent afterwards. Each time the
            leader's frames have to be seen to leave NATS and to come back to it, or the run ends
- failover  the leader is killed under 64 writers at the doors of the two others, and another one
            has to lead afterwards: with NATS and mesh, and over the mesh alone
- latency   one writer, and 64, at the door of a follower: over NATS, and over the mesh
- idle      five gateways that nobody talks to: bytes per second of each one's interface with
            headers, frames per second by way, memory, processor time

Data directories are made below --folder (/var/tmp by default), which should be on a disk: every
write is synced. JSON lines on stdout, talk on stderr. It stops what it started, also when it is
interrupted.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from figures import ROOT, usage_of

SITE = "figures"
FOLDER = "/var/tmp"
WAIT_SECONDS_MAX = 60
WRITERS = 64
MESH_ONLY = "[nats]\nenabled = false\n"


METRICS = """
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())
"""


def say(figure, **values):
    print(json.dumps({"figure": figure, **values}), flush=True)


def run(*command, check=True):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if check and done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
    return done.stdout


def until(what, condition, seconds=WAIT_SECONDS_MAX):
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    sys.exit(f"waited {seconds} s in vain until {what}")


class Lan:
    """A bridge in a namespace, and a namespace for each machine."""

    def __init__(self):
        self.prefix = f"flotilla-figures-{os.getpid()}-"
        self.switch = self.prefix + "switch"
        self.count = 0
        self.made = [self.switch]
        run("ip", "netns", "add", self.switch)
        self.ip(self.switch, "link add switch type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
        self.ip(self.switch, "link set dev switch up")

    def ip(self, namespace, words):
        run("ip", "-n", namespace, *words.split())

    def add(self, name):
        """A machine; gives its namespace and its address."""
        self.count += 1
        namespace, address = self.prefix + name, f"10.213.7.{self.count}"
        self.made.append(namespace)
        run("ip", "netns", "add", namespace)
        self.ip(namespace, "link set dev lo up")
        self.ip(namespace, f"link add eth0 type veth peer name {name} netns {self.switch}")
        self.ip(self.switch, f"link set dev {name} master switch up")
        self.ip(namespace, f"addr add {address}/24 dev eth0")
        self.ip(namespace, "link set dev eth0 up")
        self.ip(namespace, "route add default via 10.213.7.254")
        return namespace, address

    def bytes_through(self, name):
        """Received and sent by the machine of that name."""
        said = json.loads(run("ip", "-n", self.prefix + name, "-j", "-s", "link", "show", "dev", "eth0"))
        stats = said[0]["stats64"]
        return stats["rx"]["bytes"], stats["tx"]["bytes"]

    def remove(self):
        for namespace in self.made:
            run("ip", "netns", "del", namespace, check=False)


class Agent:
    def __init__(self, site, name, namespace):
        self.site, self.name, self.namespace = site, name, namespace
        self.data = site.folder / name
        self.config = site.folder / f"{name}.toml"
        self.config.write_text(site.config)
        self.config.chmod(0o600)
        self.child = None

    def command(self, *arguments):
        return ["nsenter", f"--net=/run/netns/{self.namespace}", "--", str(self.site.bins / "flotilla-agent"),
                *map(str, arguments), "--data-dir", str(self.data), "--config", str(self.config)]

    def start(self):
        log = open(self.site.folder / f"{self.name}.log", "ab")
        self.child = subprocess.Popen(self.command("run"), stdout=log, stderr=log)

    def stop(self, how=signal.SIGKILL):
        if self.child is not None:
            self.child.send_signal(how)
            self.child.wait(30)
            self.child = None

    def cli(self, *arguments, check=True):
        return run(self.site.bins / "flotilla", *arguments, "--site", SITE,
                   "--server", f"unix:{self.data / 'door.sock'}", check=check)

    def metric(self, series):
        """The value of a series, by the agent's own page; 0 for one that is not there yet."""
        log = (self.site.folder / f"{self.name}.log").read_text()
        address = log.rsplit("health and metrics are served address=", 1)[1].split()[0]
        page = run("nsenter", f"--net=/run/netns/{self.namespace}", "--", sys.executable, "-c", METRICS,
                   f"http://{address}/metrics")
        lines = (line for line in page.splitlines() if line.startswith(series + " "))
        return next((float(line.rsplit(" ", 1)[1]) for line in lines), 0.0)

    def switches(self, way):
        return self.metric(f'flotilla_way_switches_total{{way="{way}"}}')

    def frames(self):
        return {way: self.metric(f'flotilla_frames_sent_total{{way="{way}"}}') for way in ("nats", "mesh")}

    def status(self):
        text = self.cli("status", "-o", "json", "--timeout", "1s", check=False)
        return json.loads(text) if text.strip() else None

    def bench(self, clients, seconds):
        return json.loads(self.cli("bench", "--keep", "--clients", clients, "--seconds", seconds))


class Site:
    """Gateways, and a NATS server if `nats`; `more` is added to every configuration."""

    def __init__(self, bins, gateways, nats=True, more=""):
        self.bins, self.nats_child = bins, None
        self.folder = Path(tempfile.mkdtemp(prefix="flotilla-figures-", dir=FOLDER))
        self.lan, self.agents = Lan(), []
        self.config = MESH_ONLY + more
        try:
            if nats:
                self.nats_at = self.lan.add("nats")
                self.start_nats()
                self.config = f'[nats]\nurls = ["nats://{self.nats_at[1]}:4222"]\nallow_insecure = true\n' + more
            self.found(gateways)
        except BaseException:
            self.take_away()
            raise

    def start_nats(self):
        namespace, address = self.nats_at
        self.nats_child = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{namespace}", "--", os.environ["FLOTILLA_NATS_SERVER"],
             "-a", address, "-p", "4222"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill_nats(self):
        self.nats_child.kill()
        self.nats_child.wait()
        self.nats_child = None

    def found(self, gateways):
        first = self.add_agent()
        run(*first.command("init", "--site", SITE, "--name", first.name, "--voters", gateways))
        first.start()
        until("the first gateway answers", first.status)
        for _ in range(gateways - 1):
            made = until("a token that names a gateway",
                         lambda: (lambda t: t if t["mesh"] else None)(
                             json.loads(first.cli("token", "create", "-o", "json"))))
            agent = self.add_agent()
            run(*agent.command("join", made["token"], "--only", "--name", agent.name))
            agent.start()
        until("all vote", lambda: (first.status() or {}).get("site", {}).get("voters") == gateways)
        self.await_meshed()

    def add_agent(self):
        name = f"n{len(self.agents) + 1}"
        agent = Agent(self, name, self.lan.add(name)[0])
        self.agents.append(agent)
        return agent

    def nodes(self):
        for agent in self.agents:
            if agent.child is not None and (status := agent.status()):
                return status["nodes"]
        return []

    def standing(self):
        """The leader's agent and its term, when all agree."""
        nodes = self.nodes()
        leaders = {(node.get("leader"), node.get("term")) for node in nodes}
        if len(nodes) != len(self.agents) or len(leaders) != 1:
            return None
        leader, term = leaders.pop()
        name = next((node["name"] for node in nodes if node["node"] == leader), None)
        agent = next((agent for agent in self.agents if agent.name == name), None)
        return (agent, term) if agent else None

    def caught_up(self):
        """Everybody has applied the same, and nothing is under way."""
        nodes = self.nodes()
        return len(nodes) == len(self.agents) and len({node.get("applied") for node in nodes}) == 1

    def await_meshed(self):
        def whole():
            graph = self.agents[0].cli("mesh", "graph", "-o", "json", check=False)
            count = len(self.agents)
            return graph.strip() and len(json.loads(graph)["edges"]) == count * (count - 1)
        until("everybody is connected to everybody", whole)
        return until("all agree on a leader", self.standing)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.take_away()

    def take_away(self):
        for agent in self.agents:
            agent.stop()
        if self.nats_child is not None:
            self.kill_nats()
        self.lan.remove()
        shutil.rmtree(self.folder, ignore_errors=True)


class Load:
    """64 writers, shared out to the doors of some agents."""

    def __init__(self, agents, seconds):
        self.results, self.failed, self.threads = [], [], []
        for at, agent in enumerate(agents):
            share = WRITERS // len(agents) + (1 if at < WRITERS % len(agents) else 0)
            work = threading.Thread(target=self.write, args=(agent, share, seconds))
            work.start()
            self.threads.append(work)

    def write(self, agent, writers, seconds):
        try:
            self.results.append(agent.bench(writers, seconds))
        except (SystemExit, ValueError) as why:
            # It would end this thread alone, and in silence.
            self.failed.append(f"at {agent.name}: {why}")

    def end(self):
        """The worst door's longest gap, and all that was not answered as it should be."""
        for thread in self.threads:
            thread.join()
        if self.failed:
            sys.exit(f"a load has failed {'; '.join(self.failed)}")
        for result in self.results:
            if "last_error" in result:
                print(f"a writer met: {result['last_error']}", file=sys.stderr)
        worst = max(self.results, key=lambda r: r["longest_gap_ms"])
        print(f"longest gap {worst['longest_gap_ms']} ms, from {worst['longest_gap_at_s']} s on", file=sys.stderr)
        return {"gap_ms": worst["longest_gap_ms"],
                "unknown": sum(r["unknown"] for r in self.results),
                "errors": sum(r["errors"] for r in self.results),
                "ops": sum(r["ops"] for r in self.results)}


def spread(name, values):
    return {f"{name}_median": statistics.median(values), f"{name}_worst": max(values)}


def server(bins, rounds):
    killed, back, ended_badly, leaders = [], [], {"unknown": 0, "errors": 0}, set()

    def under_load(seconds, what, way, gaps):
        leader, term = until("all agree on a leader", site.standing)
        leaders.add((leader.name, term))
        before = leader.switches(way)
        load = Load(site.agents, seconds)
        time.sleep(1.5)
        what()
        ended = load.end()
        gaps.append(ended["gap_ms"])
        for end in ended_badly:
            ended_badly[end] += ended[end]
        until(f"the leader's frames to both others go over {way}",
              lambda: leader.switches(way) >= before + 2, 10)

    with Site(bins, 3) as site:
        site.await_meshed()
        for _ in range(rounds):
            under_load(4, site.kill_nats, "mesh", killed)
            under_load(6, site.start_nats, "nats", back)
        leader, term = until("all agree on a leader", site.standing)
        leaders.add((leader.name, term))
        # What an agent called unknown, and the writers asked again.
        told_unknown = sum(agent.metric('flotilla_commands_total{outcome="unknown"}') for agent in site.agents)
        memory = [round(usage_of(agent.child.pid)["resident_mib"], 1) for agent in site.agents]
    say("server", rounds=rounds, writers=WRITERS, **spread("killed_gap_ms", killed), **spread("back_gap_ms", back),
        killed_gaps_ms=sorted(killed), back_gaps_ms=sorted(back), leaders_and_terms=len(leaders),
        unknown_told_by_agents=told_unknown, resident_mib=memory, **ended_badly)


def failover(bins, rounds, nats):
    gaps, unknown, errors = [], 0, 0
    with Site(bins, 3, nats=nats) as site:
        for _ in range(rounds):
            leader, term = site.await_meshed()
            # One that has just come back has all that it missed to apply before anything new.
            until("all have applied the same", site.caught_up)
            load = Load([agent for agent in site.agents if agent is not leader], 4)
            time.sleep(1.5)
            leader.stop()
            ended = load.end()
            gaps.append(ended["gap_ms"])
            unknown += ended["unknown"]
            errors += ended["errors"]
            leader.start()
            _, after = until("all agree on a leader", site.standing)
            if after <= term:
                sys.exit("the leader was killed and none was elected")
    say("failover", ways="both" if nats else "mesh", rounds=rounds, writers=WRITERS,
        **spread("gap_ms", gaps), gaps_ms=sorted(gaps), unknown=unknown, errors=errors)


def latency(bins, seconds=5):
    for way in ("nats", "mesh"):
        with Site(bins, 3, more=f'[raft]\ntransport = "{way}"\n') as site:
            leader, _ = site.await_meshed()
            follower = next(agent for agent in site.agents if agent is not leader)
            for clients in (1, WRITERS):
                r = follower.bench(clients, seconds)
                say("latency", way=way, clients=clients, at="a follower's door", ops_per_s=r["ops_per_s"],
                    p50_ms=r["p50_ms"], p99_ms=r["p99_ms"], unknown=r["unknown"], errors=r["errors"])


def idle(bins, seconds):
    for nats in (True, False):
        with Site(bins, 5, nats=nats) as site:
            time.sleep(10)
            names = [agent.name for agent in site.agents]
            before = {name: site.lan.bytes_through(name) for name in names}
            frames = {agent.name: agent.frames() for agent in site.agents}
            leader, _ = until("all agree on a leader", site.standing)
            used = {agent.name: usage_of(agent.child.pid) for agent in site.agents}
            time.sleep(seconds)
            for agent in site.agents:
                (in0, out0), (in1, out1) = before[agent.name], site.lan.bytes_through(agent.name)
                now, sent = usage_of(agent.child.pid), agent.frames()
                say("idle", ways="both" if nats else "mesh", gateways=5, agent=agent.name,
                    role="leader" if agent is leader else "follower",
                    sent_bytes_per_s=round((out1 - out0) / seconds),
                    received_bytes_per_s=round((in1 - in0) / seconds),
                    frames_per_s={way: round((sent[way] - frames[agent.name][way]) / seconds, 1) for way in sent},
                    resident_mib=round(now["resident_mib"], 1),
                    cpu_percent_of_a_core=round(100 * (now["cpu_s"] - used[agent.name]["cpu_s"]) / seconds, 2))


def main():
    global FOLDER
    # Ended like that, it takes away what it made as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin-dir", default="target/release", type=Path)
    parser.add_argument("--rounds", default=20, type=int)
    parser.add_argument("--idle-seconds", default=60, type=int)
    parser.add_argument("--only", default="server,failover,latency,idle")
    parser.add_argument("--folder", default=FOLDER)
    options = parser.parse_args()
    FOLDER = options.folder
    bins = options.bin_dir.resolve()
    fetch = ROOT / "deploy" / "nats" / "fetch-nats-server.py"
    os.environ["FLOTILLA_NATS_SERVER"] = run(fetch).strip()
    figures = {"server": lambda: server(bins, options.rounds),
               "failover": lambda: [failover(bins, options.rounds, nats) for nats in (True, False)],
               "latency": lambda: latency(bins), "idle": lambda: idle(bins, options.idle_seconds)}
    for name in options.only.split(","):
        figures[name]()


if __name__ == "__main__":
    main()
