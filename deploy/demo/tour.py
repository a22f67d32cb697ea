#!/usr/bin/env python3
"""A tour of a local site of three agents: what it does, and what it does when things break.

    deploy/demo/tour.py [--bin-dir target/debug] [--no-nats] [--no-hall] [--keep]

Everything is real: processes, a nats-server, files, kill -9; and a hall of devices on a real MQTT
broker and a Modbus simulator, where deploy/counterparts/fetch-counterparts.py could fetch them
(FLOTILLA_MOSQUITTO and FLOTILLA_COUNTERPARTS name them). It prints what it measured and ends with
a code other than 0, and a reason, if anything is not as it should be.

`local_site` is what the steps share, `writers` are those who write while something breaks, `hall`
is the part with devices.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

sys.dont_write_bytecode = True  # It would litter the sources.
from bare_nats import BareNats
from hall import Hall
from local_site import SITE, LocalSite, Wrong, check
from writers import LOST, Door, DoorWriter, Writer

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "deploy" / "examples"
COPY = "annex"
# Nobody should be unable to write for longer; the goal is below a second.
GAP_S_MAX = 5.0


class Tour(LocalSite):
    """The steps, in the order of `run`."""

    def start(self):
        self.step("A site of three agents and a nats-server, all of them processes on this machine")
        begun = time.monotonic()
        self.cli("dev", "--site", SITE, "--agents", 3, "--data", self.data, "--detach")
        manifest = json.loads((self.data / "dev.json").read_text())
        self.url, self.agents = manifest["nats_url"], manifest["agents"]
        self.nats_pid = manifest["nats_pid"]
        self.nats_program = os.readlink(f"/proc/{self.nats_pid}/exe")
        self.nats = BareNats(self.url)
        self.measured("from nothing to three voters", f"{time.monotonic() - begun:.1f} s")
        print(self.cli("status"))

    def register(self):
        self.step("Links by bare NATS requests, the devices of a plant from a file")
        for link in json.loads((EXAMPLES / "links.json").read_text()):
            self.accepted(f"control.commands.link.register.{link.pop('id')}", link)
        self.cli("device", "register", "-f", EXAMPLES / "plant.yaml")
        facts = self.site_facts()
        self.measured("registered", f"{facts['links']} links, {facts['devices']} devices")
        check(facts["links"] == 4 and facts["devices"] == 10, f"4 links and 10 devices expected: {facts}")

    def command(self):
        self.step("Desired states and parameters; whichever agent gets a command relays it to the leader")
        before = self.served()
        self.cli("device", "set", "hall1.conveyor-1", "on=true", "speed_mm_s=250")
        self.cli("device", "set", "hall2.chiller-1", "on=true", "setpoint_c=-18.5")
        self.cli("param", "set", "line1.shift", '"early"')
        times = []
        for number in range(60):
            begun = time.monotonic()
            self.accepted("control.commands.param.set.line1.target", 1000 + number)
            times.append(time.monotonic() - begun)
        after = self.served()
        self.measured("60 writes, each durable on a majority, median",
                      f"{sorted(times)[30] * 1000:.1f} ms")
        taken = sorted(after[agent] - before.get(agent, 0) for agent in after)
        self.measured("requests taken by each agent", ", ".join(map(str, taken)))
        check(len(taken) == 3 and taken[0] > 0, "one agent took nothing; followers should relay")
        read = self.accepted("control.query.param.get.line1.target")
        check(read["item"]["value"] == 1059, f"the last write is not read: {read}")

    def bare(self):
        self.step("The same by a bare NATS request: the subject says what, the payload is the value")
        subject = "control.commands.device.update.hall2.lamp-1"
        print(f"   flotilla.{SITE}.{subject}  {{\"on\": true}}")
        reply = self.accepted(subject, {"on": True})
        print(f"   {json.dumps(reply)}")
        refused = self.request("control.commands.device.update.hall1.conveyor-1", {"speed_mm_s": 9000})
        check(refused["error"]["code"] == "schema", f"a model is enforced: {refused}")
        print(f"   and one that its model forbids: {refused['error']['message']}")

    def retry(self):
        self.step("A request id makes a retry safe: it gets the first answer")
        headers = {"Flotilla-Request-Id": str(uuid.uuid4())}
        first = self.accepted("control.commands.device.update.hall2.lamp-2", {"on": True}, headers)
        self.accepted("control.commands.device.update.hall2.lamp-2", {"on": False})
        again = self.accepted("control.commands.device.update.hall2.lamp-2", {"on": True}, headers)
        check(first["revision"] == again["revision"], f"{first} and then {again}")
        read = self.accepted("control.query.device.get.hall2.lamp-2")
        check(read["item"]["desired"] == {"on": False}, f"the retry must not act again: {read}")
        self.measured("answered twice with revision", first["revision"])

    def kill_leader(self):
        self.step("kill -9 of the leader while somebody writes without pause")
        leader = self.leader()
        writer = Writer(self.url, SITE)
        writer.start()
        self.until("the writer writes", lambda: writer.count > 200)
        os.kill(leader["pid"], signal.SIGKILL)
        killed = time.monotonic()
        self.until("another leads", lambda: self.site_facts()["leader"] not in (None, leader["node_id"]))
        self.until("the writer goes on", lambda: writer.last > killed + 1.0)
        writer.stop()
        self.measured(f"killed {leader['name']}; longest time without a successful write",
                      f"{writer.longest_gap * 1000:.0f} ms")
        check(writer.longest_gap < GAP_S_MAX, f"that is more than {GAP_S_MAX} s")
        read = self.accepted("control.query.param.get.tour.writer")
        check(read["item"]["value"] == writer.count,
              f"{writer.count} writes were acknowledged, {read['item']['value']} is there")
        self.measured("acknowledged writes, all of them there", writer.count)
        self.killed = leader

    def kill_nats(self):
        self.step("kill -9 of the nats-server in the middle of writes at the agents' own doors")
        terms = {it["term"] for it in map(self.status_at_door, self.agents)}
        writers = [DoorWriter(agent) for agent in self.agents]
        for writer in writers:
            writer.start()
        self.until("all of them write", lambda: all(writer.count > 50 for writer in writers))
        os.kill(self.nats_pid, signal.SIGKILL)
        killed = time.monotonic()
        self.until("all of them go on", lambda: all(
            writer.last > killed + 2.0 for writer in writers))
        for writer in writers:
            writer.stop()
        self.measured("longest time without a successful write, NATS gone",
                      f"{max(writer.longest_gap for writer in writers) * 1000:.0f} ms")
        self.measured("writes at three doors, unknown answers among them",
                      f"{sum(writer.count for writer in writers)}, "
                      f"{sum(writer.unknown for writer in writers)}")
        check(max(writer.longest_gap for writer in writers) < GAP_S_MAX,
              f"that is more than {GAP_S_MAX} s")
        after = {it["term"] for it in map(self.status_at_door, self.agents)}
        check(terms == after, f"the leader should have stayed: terms {terms}, then {after}")
        if self.url is not None:
            self.serve_again()

    def status_at_door(self, agent):
        item = Door(agent["socket"]).request("GET", f"/v1/node/{agent['name']}/status")
        check(item.get("ok") is True, f"the door of {agent['name']} says {item}")
        return item["item"]

    def serve_again(self):
        """Starts a nats-server where the killed one was."""
        port = self.url.rsplit(":", 1)[1]
        log = open(self.data / "logs" / "nats-server.log", "ab")
        # Named by its folder, it is found and stopped with the site.
        self.started.append(subprocess.Popen(
            [self.nats_program, "-a", "127.0.0.1", "-p", port],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True))
        def back():
            nats = BareNats(self.url)
            return self.request("control.query.site.get", nats=nats, timeout_s=1.0).get("ok") and nats
        self.nats = self.until("requests over NATS are answered again", back)

    def restart(self):
        self.step(f"Start {self.killed['name']} again: it comes back as a follower and catches up")
        begun = time.monotonic()
        self.start_again(self.killed)

        def equal():
            all_of_them = [self.status(agent["name"]) for agent in self.agents]
            if any(it is None for it in all_of_them) or len({it["applied"] for it in all_of_them}) > 1:
                return None
            check(len({it["digest"] for it in all_of_them}) == 1,
                  f"different digests at the same revision: {all_of_them}")
            return all_of_them[0]
        status = self.until("all three have applied the same", equal)
        self.measured("from its start to equal digests on all three", f"{time.monotonic() - begun:.1f} s")
        print(f"   revision {status['applied']}, digest {status['digest'][:16]}…")

    def backup(self):
        self.step("Save a snapshot, look into it, and make another site of it")
        file = self.folder / "plant.snapshot"
        self.cli("snapshot", "save", file)
        inspected = json.loads(self.cli("snapshot", "inspect", file, "-o", "json"))
        check(inspected["site"] == SITE, f"the snapshot says {inspected}")
        self.measured("snapshot", f"{file.stat().st_size} bytes at revision {inspected['index']}")
        data = self.folder / "annex"
        done = subprocess.run(
            [str(self.agent_bin), "restore", str(file), "--site", COPY, "--name", "a1",
             "--data-dir", str(data)], capture_output=True, text=True, timeout=60, check=False)
        check(done.returncode == 0, f"restore ended with {done.returncode}: {done.stderr.strip()}")
        log = open(self.folder / "annex.log", "ab")
        self.started.append(subprocess.Popen(
            [str(self.agent_bin), "run", "--data-dir", str(data), "--nats", self.url],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True))
        old, new = self.site_facts(), self.site_facts(COPY)
        params = old["digests"]["params"]
        check(params == new["digests"]["params"], f"parameters differ: {old} and {new}")
        print(f"   params: {params[:16]}… on both")
        # A restored site holds every device until somebody has looked, and no link has an owner.
        for noun in ("link", "device"):
            here, there = self.things(noun, SITE), self.things(noun, COPY)
            check(here == there, f"{noun}s differ: {here} and {there}")
            digest = hashlib.sha256(json.dumps(here, sort_keys=True).encode()).hexdigest()
            print(f"   {noun}s: {digest[:16]}… on both")
        held = [it["id"] for it in self.listed("device", COPY) if it.get("hold")]
        check(len(held) == len(self.listed("device", COPY)), f"only {held} are on hold")
        print(f"   on hold until they are released: all {len(held)} devices of the restored site")
        check(old["uid"] != new["uid"], "a restored site must be another one")
        written = self.accepted("control.commands.param.set.line1.shift", "late", site=COPY)
        check(written["revision"] > inspected["index"], f"revisions go on: {written}")
        self.measured("first revision of the restored site", written["revision"])

    def listed(self, noun, site):
        return json.loads(self.cli(noun, "ls", "-o", "json", site=site, shown=False))

    def things(self, noun, site):
        """What is known and wanted of everything of this noun, without who drives it and since when,
        and how far that got, which a restored site finds out anew."""
        passing = ("revision", "changed_wall_ms", "hold", "owner", "epoch", "releasing", "wanted",
                   "observed", "stage", "watermarks")
        things = [{key: value for key, value in thing.items() if key not in passing}
                  for thing in self.listed(noun, site)]
        for thing in things:
            for wish in thing.get("wishes", {}).values():
                wish.pop("stage", None)
        return things

    def hall(self):
        hall = Hall(self)
        if hall.missing():
            self.step("No hall of devices")
            self.measured("left out, the hall", hall.missing())
            return
        hall.run()

    def run(self, with_hall=True):
        for step in (self.start, self.register, self.command, self.bare, self.retry,
                     self.kill_leader, self.restart, self.kill_nats):
            step()
        if with_hall:
            self.hall()
        self.backup()

    def run_without_nats(self):
        """What a site shows where no nats-server can be had."""
        self.step("A site of three agents without NATS: they know each other over their mesh")
        begun = time.monotonic()
        self.cli("dev", "--site", SITE, "--agents", 3, "--data", self.data, "--detach", "--no-nats")
        manifest = json.loads((self.data / "dev.json").read_text())
        self.agents, self.url = manifest["agents"], None
        os.environ["FLOTILLA_SERVER"] = f"unix:{self.agents[0]['socket']}"
        self.measured("from nothing to three voters", f"{time.monotonic() - begun:.1f} s")
        print(self.cli("status"))
        self.step("The devices of a plant from files, commanded at a door")
        for link in json.loads((EXAMPLES / "links.json").read_text()):
            path = f"/v1/commands/link/register/{link.pop('id')}"
            said = Door(self.agents[1]["socket"]).request("POST", path, link)
            check(said.get("ok") is True, f"{path} was not accepted: {said}")
        self.cli("device", "register", "-f", EXAMPLES / "plant.yaml")
        self.cli("device", "set", "hall1.conveyor-1", "on=true", "speed_mm_s=250")
        print(self.cli("mesh", "peers"))
        self.step("kill -9 of the leader while somebody writes at another's door")
        node = next(self.status_at_door(agent)["leader"] for agent in self.agents)
        leader = next(agent for agent in self.agents if agent["node_id"] == node)
        others = [agent for agent in self.agents if agent is not leader]
        writer = DoorWriter(others[0])
        writer.start()
        self.until("the writer writes", lambda: writer.count > 100)
        os.kill(leader["pid"], signal.SIGKILL)
        killed = time.monotonic()
        self.until("the writer goes on", lambda: writer.last > killed + 1.0)
        writer.stop()
        self.measured(f"killed {leader['name']}; longest time without a successful write",
                      f"{writer.longest_gap * 1000:.0f} ms")
        check(writer.longest_gap < GAP_S_MAX, f"that is more than {GAP_S_MAX} s")
        said = Door(others[1]["socket"]).request("GET", f"/v1/query/param/get/{writer.key}")
        check(said["item"]["value"] == writer.count,
              f"{writer.count} writes were acknowledged, {said} is there")
        self.measured("acknowledged writes, all of them there", writer.count)

    def stop(self):
        """Ends everything, in whatever state it is."""
        for process in self.started:
            process.terminate()
        for process in self.started:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if (self.data / "dev.json").exists():
            self.cli("dev", "stop", "--data", self.data, shown=False)


def main():
    parser = argparse.ArgumentParser(description="A tour of a local site of three agents.")
    parser.add_argument("--bin-dir", type=Path, default=ROOT / "target" / "debug",
                        help="where flotilla and flotilla-agent are")
    parser.add_argument("--no-nats", action="store_true",
                        help="a shorter tour of a site that does without NATS")
    parser.add_argument("--no-hall", action="store_true", help="without devices")
    parser.add_argument("--keep", action="store_true", help="keep the files of the site")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="flotilla-tour-"))
    begun, failed, tour = time.monotonic(), None, None
    try:
        tour = Tour(options.bin_dir.resolve(), folder)
        tour.run_without_nats() if options.no_nats else tour.run(not options.no_hall)
    except (Wrong, KeyError, *LOST, subprocess.TimeoutExpired) as reason:
        failed = f"{type(reason).__name__}: {reason}"
    except KeyboardInterrupt:
        failed = "interrupted"
    finally:
        if tour is not None:
            try:
                tour.stop()
            except (Wrong, subprocess.TimeoutExpired) as reason:
                failed = failed or f"the site could not be stopped: {reason}"
    if failed:
        print(f"\nTHE TOUR FAILED: {failed}\nfiles and logs are kept in {folder}", file=sys.stderr)
        return 1
    print("\n== What was measured")
    for what, value in tour.facts:
        print(f"   {what}: {value}")
    print(f"   the whole tour: {time.monotonic() - begun:.1f} s")
    if options.keep:
        print(f"   files are kept in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
