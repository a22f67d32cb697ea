"""The part of the tour with devices: a hall, what is commanded there, and what really happened.

Three lamps and a wall switch on a mosquitto (`lamps.py`, a program of its own with a journal), a
drive that speaks Modbus (pymodbus' simulator, which has a journal too), two simulated sensors. At
the end every command's end is held against what the device's own journal says.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

from local_site import check

ROOT = Path(__file__).resolve().parent.parent.parent
DRIVE_PROGRAM = ROOT / "agent" / "tests" / "counterparts" / "modbus_device.py"
AREA = "hall3"
LAMPS = ("lamp-1", "lamp-2", "lamp-3")
# A dead gateway's links go to another one within four seconds of its last word.
TAKEOVER_S_MAX = 4.0
LAMP = {
    "base": "hall",
    "properties": {
        name: {"type": kind,
               "read": {"topic": "{{ base }}/{{ address }}/state", "key": name},
               "write": {"topic": "{{ base }}/{{ address }}/set", "key": name},
               "get": {"topic": "{{ base }}/{{ address }}/get", "payload": ""}}
        for name, kind in (("on", "boolean"), ("level", "number"))},
    "actions": {"flash": {"topic": "{{ base }}/{{ address }}/flash",
                          "payload": "{{ args.times | int }}"}},
    "availability": {"topic": "{{ base }}/{{ address }}/alive", "online": "online",
                     "offline": "offline"},
}
DRIVE = {"groups": {"default": {"interval_ms": 200}},
         "registers": {"speed": {"table": "holding", "address": 100, "type": "u16",
                                 "access": "read_write"}}}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Program:
    """A program of the hall, with a journal that it writes itself."""

    def __init__(self, site, name, words, environment, journal_is_output):
        self.site, self.name = site, name
        self.path = site.folder / f"{name}.journal"
        log = open(site.folder / f"{name}.log", "ab")
        out = open(self.path, "ab") if journal_is_output else log
        self.process = subprocess.Popen([str(word) for word in words], stdin=subprocess.PIPE, stdout=out,
                                        stderr=log, env=environment, start_new_session=True)
        site.started.append(self.process)

    def journal(self):
        if not self.path.exists():
            return []
        # The last line may be half written.
        text = self.path.read_text(encoding="utf-8")
        return [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]

    def count(self, wanted):
        return sum(1 for entry in self.journal() if wanted(entry))

    def until(self, what, wanted):
        self.site.until(f"{self.name}: {what}", lambda: self.process.poll() is not None or self.count(wanted))
        check(self.process.poll() is None, f"{self.name} has ended; see {self.site.folder}/{self.name}.log")

    def tell(self, **command):
        before = self.count(lambda entry: "done" in entry)
        self.process.stdin.write((json.dumps(command) + "\n").encode())
        self.process.stdin.flush()
        self.site.until(f"{self.name} does {command}",
                        lambda: self.count(lambda entry: "done" in entry) > before)


class Hall:
    def __init__(self, site):
        self.site = site
        self.broker = os.environ.get("FLOTILLA_MOSQUITTO")
        self.packages = os.environ.get("FLOTILLA_COUNTERPARTS")
        # What was commanded: (words, how it ended, how it should have, program, its journal's entry).
        self.commanded = []

    def missing(self):
        """Why there can be no hall here; empty when there can."""
        if self.broker and self.packages:
            return ""
        return "no mosquitto, paho-mqtt and pymodbus could be fetched here"

    # --- the hall itself ---

    def build(self):
        site = self.site
        site.step("A hall: three lamps and a wall switch on an MQTT broker, a Modbus drive, two sensors")
        port, drive_port = free_port(), free_port()
        config = site.folder / "mosquitto.conf"
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        environment = dict(os.environ, PYTHONPATH=self.packages, PYTHONDONTWRITEBYTECODE="1")
        Program(site, "mosquitto", [self.broker, "-c", config], environment, True)
        self.wait_for_port(port)
        lamps = [sys.executable, Path(__file__).with_name("lamps.py"), port,
                 site.folder / "lamps.journal"]
        self.lamps = Program(site, "lamps", lamps, environment, False)
        drive = [sys.executable, DRIVE_PROGRAM, drive_port, "socket"]
        self.drive = Program(site, "drive", drive, environment, True)
        for program in (self.lamps, self.drive):
            program.until("it is ready", lambda entry: entry.get("ready"))
        links = [("lamps", "mqtt", f"mqtt://127.0.0.1:{port}"),
                 ("drives", "modbus", f"tcp://127.0.0.1:{drive_port}"),
                 ("sensors", "simulated", "sensors.journal")]
        for name, connector, address in links:
            site.cli("link", "register", f"{AREA}.{name}", "--connector", connector,
                     "--address", address, shown=False)
        for lamp in LAMPS:
            self.register(lamp, "lamps", lamp, LAMP)
        self.register("drive-1", "drives", "1", DRIVE)
        for sensor in ("sensor-1", "sensor-2"):
            self.register(sensor, "sensors", sensor, {})
            with open(site.data / "sensors.journal", "a", encoding="utf-8") as journal:
                journal.write(json.dumps({"device": f"{AREA}.{sensor}", "did": "hand",
                                          "values": {"temperature": 21.5}}) + "\n")
        driven = [f"{AREA}.{name}" for name in (*LAMPS, "drive-1")]
        site.cli("device", "mode", "auto", *driven)
        for device in driven:
            self.until_seen(device, lambda seen: seen.get("availability") == "online")
        self.until_seen(f"{AREA}.sensor-2", lambda seen: "temperature" in seen.get("reported", {}))
        print(site.cli("device", "ls", AREA))

    def wait_for_port(self, port):
        def there():
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        self.site.until(f"something listens on port {port}", there)

    def register(self, name, link, address, settings):
        self.site.cli("device", "register", f"{AREA}.{name}", "--link", f"{AREA}.{link}",
                      "--address", address, "--settings", json.dumps(settings), shown=False)

    def until_seen(self, device, wanted):
        def look():
            done = self.site.try_cli("device", "get", device, "-o", "json", shown=False)
            if done.returncode != 0:
                return None
            seen = json.loads(done.stdout)
            return seen if wanted(seen.get("observed") or {}) else None
        return self.site.until(f"{device} is seen so", look)

    # --- commanding ---

    def command(self, words, entry, program, ends="verified", options=(), code=0):
        """Commands, and notes what the device's journal should say of it: `entry` once, or not at
        all where the command should end otherwise."""
        request_id = str(uuid.uuid4())
        done = self.site.try_cli("device", *words, *options, "--request-id", request_id)
        told = (done.stdout.strip() or done.stderr.strip()).splitlines()
        print(f"   {told[0] if told else ''}", flush=True)
        check(done.returncode == code,
              f"flotilla device {words} ended with {done.returncode}: {done.stderr.strip()}")
        # Asked now: a wish that is replaced later on is called superseded from then on.
        stage = self.site.item("command", "get", request_id)["stage"]
        self.commanded.append((" ".join(words), stage, ends, program, entry))
        return done.stdout

    def set(self, device, values, **how):
        """Sets a device and waits until the device itself says that it is so."""
        words = [f"{name}={json.dumps(value)}" for name, value in values.items()]
        options = ("--wait", "verified", "--timeout", "25s", *how.pop("options", ()))
        if device == "drive-1":
            program, entry = self.drive, lambda it: it.get("write") and it["values"] == [values["speed"]]
        else:
            program = self.lamps
            def entry(it):
                return it.get("lamp") == device and (it.get("set") or {}).get("level") == values["level"]
        return self.command(["set", f"{AREA}.{device}", *words], entry, program, options=options, **how)

    def use(self):
        self.site.step("Set, and see how far it got: the device's own word makes it verified")
        said = self.set("lamp-1", {"on": True, "level": 11})
        check("committed r" in said and " · sent · verified " in said, f"it should say the way: {said}")
        self.set("lamp-3", {"on": True, "level": 31})
        self.set("drive-1", {"speed": 410})
        flash = lambda it: it.get("lamp") == "lamp-1" and it.get("flash") == 3
        self.command(["invoke", f"{AREA}.lamp-1", "flash", "times=3"], flash, self.lamps, ends="sent",
                     options=("--wait", "sent", "--timeout", "10s"))

    def kill_leader(self):
        self.site.step("kill -9 of the leader, and again")
        leader = self.site.leader()
        os.kill(leader["pid"], signal.SIGKILL)
        self.set("lamp-1", {"on": True, "level": 12})
        self.set("drive-1", {"speed": 420})
        self.site.start_again(leader)

    def unplug(self):
        self.site.step("Unplug a lamp: what is wanted for 5 s ends when they are over, and stays ended")
        self.lamps.tell(unplug="lamp-2")
        self.until_seen(f"{AREA}.lamp-2", lambda seen: seen.get("availability") == "offline")
        self.set("lamp-2", {"on": True, "level": 21}, ends="expired", options=("--ttl", "5s"), code=10)
        asked = lambda it: it.get("lamp") == "lamp-2" and it.get("asked")
        before = self.lamps.count(asked)
        self.lamps.tell(plug="lamp-2")
        self.until_seen(f"{AREA}.lamp-2", lambda seen: seen.get("availability") == "online")
        # It was read since it is back, and another command has gone the whole way since.
        self.site.until("the lamp is read again", lambda: self.lamps.count(asked) > before)
        self.set("lamp-1", {"on": False, "level": 13})
        moved = self.lamps.count(lambda it: it.get("lamp") == "lamp-2" and "set" in it)
        check(moved == 0, f"lamp-2 was told something {moved} times after it came back")
        self.site.measured("told to the lamp that is plugged in again", "nothing")

    def flip(self):
        self.site.step("Flip the wall switch: drift is shown, not fought")
        told = lambda it: it.get("lamp") == "lamp-3" and "set" in it
        before = self.lamps.count(told)
        self.lamps.tell(flip="lamp-3")
        self.until_seen(f"{AREA}.lamp-3", lambda seen: "on" in seen.get("drift", {}))
        shown = self.site.cli("device", "ls", AREA, "--drift")
        print(shown)
        check("on is false, not true" in shown, "the drift is not shown")
        self.set("lamp-1", {"on": True, "level": 14})
        check(self.lamps.count(told) == before, "the switch on the wall was fought")

    def kill_owner(self):
        site = self.site
        site.step("kill -9 of the gateway that owns the lamps: another takes over, nothing is written twice")
        told = lambda it: "set" in it or "flash" in it
        before = self.lamps.count(told)
        link = site.item("link", "get", f"{AREA}.lamps")
        owner = next(agent for agent in site.agents if agent["node_id"] == link["owner"])
        os.kill(owner["pid"], signal.SIGKILL)
        killed = time.monotonic()

        def taken():
            done = site.try_cli("link", "get", f"{AREA}.lamps", "-o", "json", shown=False)
            found = json.loads(done.stdout) if done.returncode == 0 else {}
            return found.get("owner") not in (None, owner["node_id"]) and found
        found = site.until("another gateway owns the lamps", taken)
        took = time.monotonic() - killed
        site.measured(f"killed {owner['name']}; until another owns its lamps", f"{took:.1f} s")
        check(took < TAKEOVER_S_MAX, f"that is more than {TAKEOVER_S_MAX} s")
        check(found["epoch"] > link["epoch"], f"the epoch should have grown: {link}, then {found}")
        self.until_seen(f"{AREA}.lamp-3", lambda seen: seen.get("epoch") == found["epoch"]
                        and seen.get("availability") == "online")
        check(self.lamps.count(told) == before, "something was written again by the new owner")
        self.set("lamp-1", {"on": False, "level": 15})
        site.start_again(owner)

    # --- the truth ---

    def table(self):
        site = self.site
        site.step("Each command, how it ended, and what the device's own journal says")
        rows, wrong = [("COMMAND", "ENDED", "THE DEVICE WAS TOLD")], []
        for words, stage, ends, program, entry in self.commanded:
            times = program.count(entry)
            rows.append((words.replace(f"{AREA}.", ""), stage, {0: "never", 1: "once"}.get(times, f"{times} times")))
            if stage != ends or times != (0 if ends == "expired" else 1):
                wrong.append(words)
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        for row in rows:
            print(f"   {row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}")
        check(not wrong, f"what was said and what happened disagree: {wrong}")
        site.measured("commands to devices, all ended as the devices' journals say", len(self.commanded))

    def run(self):
        begun = time.monotonic()
        for step in (self.build, self.use, self.kill_leader, self.unplug, self.flip, self.kill_owner,
                     self.table):
            step()
        self.site.measured("the hall", f"{time.monotonic() - begun:.1f} s")
