#!/usr/bin/env python3
"""What commands to devices cost: figures beside those of figures.py.

    deploy/bench/devices.py [--bin-dir target/release] [--only mqtt,takeover,many] [--changes 10000] [--devices 2000]

Each is measured on a site of three agents that `flotilla dev` starts on this machine:

- mqtt   from the start of `flotilla device set` to the message at the device on a mosquitto, and
         from the command's end as a bare NATS request until the device's word has verified it
- takeover  the agent that owns the link of that device is killed: from the kill until the device is
         told by the next owner what was wished right after it, again and again
- many   changes to simulated devices, each property of each device in turn, as fast as the site
         takes them: rate, until all are verified, memory, bytes of log per command with its stages

The mosquitto and paho-mqtt come from deploy/counterparts/fetch-counterparts.py; without them `mqtt`
and `takeover` are not run, which is said. JSON lines on stdout, talk on stderr. It stops what it started.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "deploy" / "demo"))
from bare_nats import BareNats  # noqa: E402
from figures import SITE, Site, say  # noqa: E402

LIMIT_S = 120
COMMANDS = 60
TAKEOVERS = 10
# Commands that wait for their answers at a time, each on a connection of its own.
WRITERS = 32
LINKS = 6
LAMP = {"properties": {"level": {
    "type": "number", "read": {"topic": "{{ address }}/state", "key": "level"},
    "write": {"topic": "{{ address }}/set", "key": "level"}}},
    "availability": {"topic": "{{ address }}/alive", "online": "online", "offline": "offline"}}


def until(what, look):
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    sys.exit(f"after {LIMIT_S} s still not so: {what}")


class Nats(BareNats):
    """Requests of this site that must be accepted."""

    def accepted(self, rest, body=None, headers=None):
        payload = b"" if body is None else json.dumps(body).encode()
        reply = self.request(f"flotilla.{SITE}.{rest}", payload, headers, timeout_s=30)
        if not reply.get("ok"):
            sys.exit(f"{rest}: {reply}")
        return reply


def counterparts():
    """The broker's program and the folder of paho-mqtt; None where they can't be had."""
    fetch = ROOT / "deploy" / "counterparts" / "fetch-counterparts.py"
    done = subprocess.run([fetch], capture_output=True, text=True)
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr)
        return None
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    return found["FLOTILLA_MOSQUITTO"], found["FLOTILLA_COUNTERPARTS"]


class Device:
    """A lamp that notes when it was told what, and does it."""

    def __init__(self, port):
        import paho.mqtt.client as paho
        self.at, self.ready = {}, threading.Event()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="lamp", protocol=paho.MQTTv5)
        self.client.on_connect = lambda client, *_: client.subscribe("lamp/set", qos=1)
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.on_message = self.told
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        if not self.ready.wait(10):
            sys.exit("the lamp could not connect to the broker")
        self.client.publish("lamp/alive", "online", qos=1, retain=True)
        self.client.publish("lamp/state", '{"level": 0}', qos=1)

    def told(self, client, _data, message):
        level = json.loads(message.payload)["level"]
        self.at.setdefault(level, time.monotonic())
        client.publish("lamp/state", json.dumps({"level": level}), qos=1)


def in_ms(times):
    ordered = sorted(time * 1000 for time in times)
    return {"median_ms": round(statistics.median(ordered), 1),
            "p90_ms": round(ordered[len(ordered) * 9 // 10], 1), "worst_ms": round(ordered[-1], 1)}


@contextlib.contextmanager
def lamp_site(bins, figure):
    """A site with a broker and the lamp on it, online: (site, lamp, connection). None where it can't be."""
    found = counterparts()
    if found is None:
        print(f"NOT RUN: {figure}, because no mosquitto or paho-mqtt could be fetched", file=sys.stderr)
        yield None
        return
    broker, packages = found
    sys.path.insert(0, packages)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Site(bins) as site:
        config = site.data / "mosquitto.conf"
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
        site.children.append(subprocess.Popen([broker, "-c", config], stderr=subprocess.DEVNULL))
        until("the broker listens", lambda: listens(port))
        lamp = Device(port)
        nats = Nats(site.nats_url, timeout_s=30)
        link = {"connector": "mqtt", "address": f"mqtt://127.0.0.1:{port}", "placement": "any"}
        nats.accepted("control.commands.link.register.broker", link)
        device = {"link": "broker", "address": "lamp", "settings": LAMP}
        nats.accepted("control.commands.device.register.lamp", device)
        nats.accepted("control.commands.device.mode.lamp", "auto")
        until("the lamp is online", lambda: (nats.accepted("control.query.device.get.lamp")["item"]
                                             .get("observed") or {}).get("availability") == "online")
        yield site, lamp, nats
        lamp.client.disconnect()


def mqtt(bins, _options):
    with lamp_site(bins, "mqtt") as made:
        if made is None:
            return
        site, lamp, nats = made
        told, verified, bare = [], [], []
        for level in range(1, COMMANDS + 1):
            began = time.monotonic()
            site.cli("device", "set", "lamp", f"level={level}")
            told.append(until("the lamp is told", lambda: lamp.at.get(level)) - began)
        for level in range(COMMANDS + 1, 2 * COMMANDS + 1):
            began = time.monotonic()
            answer = nats.accepted("control.commands.device.update.lamp", {"level": level},
                                   {"Flotilla-Wait": "verified", "Flotilla-Timeout": "30s"})
            if answer["stage"] != "verified":
                sys.exit(f"a command was not verified: {answer}")
            verified.append(time.monotonic() - began)
            bare.append(lamp.at[level] - began)
    say("cli_to_device", commands=COMMANDS, **in_ms(told))
    say("nats_to_device", commands=COMMANDS, **in_ms(bare))
    say("nats_to_verified", commands=COMMANDS, **in_ms(verified))


def takeover(bins, _options):
    with lamp_site(bins, "takeover") as made:
        if made is None:
            return
        site, lamp, nats = made
        times, led = [], 0
        for level in range(1, TAKEOVERS + 1):
            owner = nats.accepted("control.query.link.get.broker")["item"]["owner"]
            name = next(name for name in site.agents if site.node(name)["node"] == owner)
            led += site.leader() == name
            began = time.monotonic()
            site.kill(name)
            # It asks again by itself where the server handed the request to the one that is gone.
            site.cli("device", "set", "lamp", f"level={level}")
            times.append(until("the lamp is told", lambda: lamp.at.get(level)) - began)
            after = nats.accepted("control.query.link.get.broker")["item"]["owner"]
            if after == owner:
                sys.exit(f"node {owner} was killed and still owns the link")
            site.start(name)
            site.await_caught_up(name)
    say("takeover", times=TAKEOVERS, of_them_leaders=led, **in_ms(times))


def log_bytes(agent):
    """Bytes of records in an agent's log; its segments are longer, since they are preallocated."""
    segments = (Path(agent["data_dir"]) / "log").iterdir()
    return sum(len(segment.read_bytes().rstrip(b"\0")) for segment in segments if segment.is_file())


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


class Writer(threading.Thread):
    """Changes its share of the devices, one command after the other."""

    def __init__(self, url, changes):
        super().__init__(daemon=True)
        self.url, self.changes, self.failed = url, changes, None

    def run(self):
        nats = BareNats(self.url, timeout_s=30)
        for device, level in self.changes:
            subject = f"flotilla.{SITE}.control.commands.device.update.{device}"
            reply = nats.request(subject, json.dumps({"level": level}).encode(), timeout_s=30)
            if not reply.get("ok"):
                self.failed = reply
                return


def many(bins, options):
    ids = [f"hall{n % 20}.device-{n}" for n in range(options.devices)]
    with Site(bins) as site:
        nats = Nats(site.nats_url, timeout_s=30)
        for n in range(LINKS):
            # The journal of a simulated link is what its devices are.
            address = f"link-{n}.journal"
            nats.accepted(f"control.commands.link.register.sim{n}",
                          {"connector": "simulated", "address": address, "placement": "any"})
        for first in range(0, len(ids), 100):
            group = list(enumerate(ids))[first:first + 100]
            batch = [{"op": "device.register", "id": device, "body": {"link": f"sim{n % LINKS}"}}
                     for n, device in group]
            batch += [{"op": "device.mode", "id": device, "body": "auto"} for _, device in group]
            nats.accepted("control.commands.batch", batch)
        nats.accepted("control.commands.device.update." + ids[-1], {"level": 0},
                      {"Flotilla-Wait": "verified", "Flotilla-Timeout": "1m"})
        before, applied = site.usage(), {name: site.node(name) for name in site.agents}
        logged = {name: log_bytes(agent) for name, agent in site.agents.items()}
        shares = [[] for _ in range(WRITERS)]
        last = {}
        for n in range(options.changes):
            # A device's changes stay in one writer's hands, so that the last one is known.
            place = n % len(ids)
            last[ids[place]] = n + 1
            shares[place % WRITERS].append((ids[place], n + 1))
        writers = [Writer(site.nats_url, share) for share in shares if share]
        began = time.monotonic()
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
            if writer.failed:
                sys.exit(f"a change was refused: {writer.failed}")
        committed = time.monotonic() - began
        until("all of them are verified", lambda: all_verified(nats, last))
        verified = time.monotonic() - began
        for name, used in site.usage().items():
            node = site.node(name)
            entries = node["applied"] - applied[name]["applied"]
            grown = log_bytes(site.agents[name]) - logged[name]
            say("many_agent", agent=name, resident_mib_before=round(before[name]["resident_mib"], 1),
                resident_mib=round(used["resident_mib"], 1),
                cpu_s=round(used["cpu_s"] - before[name]["cpu_s"], 1),
                entries_per_change=round(entries / options.changes, 2),
                log_bytes_per_change=round(grown / options.changes),
                # A snapshot meanwhile makes the log shorter, and the bytes say nothing then.
                snapshot_meanwhile=node["snapshot_index"] != applied[name]["snapshot_index"])
        say("many", devices=len(ids), changes=options.changes, links=LINKS,
            changes_per_s=round(options.changes / committed), committed_s=round(committed, 1),
            verified_s=round(verified, 1), verified_per_s=round(options.changes / verified))


def all_verified(nats, last):
    """Whether every device is, by its own word, as it was wished last."""
    seen, body = 0, {"limit": 1000}
    while True:
        page = nats.accepted("control.query.device.list", body)
        for device in page["items"]:
            wished = last.get(device["id"])
            if wished is None:
                continue
            reported = ((device.get("observed") or {}).get("reported") or {}).get("level") or {}
            if device["stage"] != "verified" or reported.get("value") != wished:
                return False
            seen += 1
        if "next" not in page:
            return seen == len(last)
        body["after"] = page["next"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin-dir", default="target/release", type=Path)
    parser.add_argument("--only", default="mqtt,takeover,many")
    parser.add_argument("--changes", default=10_000, type=int)
    parser.add_argument("--devices", default=2_000, type=int)
    options = parser.parse_args()
    fetch = ROOT / "deploy" / "nats" / "fetch-nats-server.py"
    os.environ["FLOTILLA_NATS_SERVER"] = subprocess.run(
        [fetch], check=True, capture_output=True, text=True).stdout.strip()
    figures = {"mqtt": mqtt, "takeover": takeover, "many": many}
    for name in options.only.split(","):
        figures[name](options.bin_dir.resolve(), options)


if __name__ == "__main__":
    main()
