#!/usr/bin/env python3
"""Three lamps on an MQTT broker, and a wall switch: devices that know nothing of Flotilla.

    lamps.py PORT JOURNAL

The lamps are `lamp-1` to `lamp-3`, each with a connection of its own. A lamp hears
`hall/<lamp>/set` ({"on": …, "level": …}), `hall/<lamp>/get` and `hall/<lamp>/flash`, tells its
state on `hall/<lamp>/state` and whether it is there on `hall/<lamp>/alive`. Everything that a
lamp is told, and everything that a hand does, is written into the journal, one JSON object per
line: it is what really happened, whoever says otherwise.

Commands come over stdin, one JSON object per line, each confirmed by a line in the journal:

    {"unplug": "lamp-2"}   it vanishes without a goodbye
    {"plug": "lamp-2"}     it is there again, as it was
    {"flip": "lamp-3"}     somebody uses the wall switch, which is wired to the lamp
"""

import json
import sys
import threading

import paho.mqtt.client as mqtt

LAMPS = ("lamp-1", "lamp-2", "lamp-3")
CONNECT_S_MAX = 20.0


class Journal:
    def __init__(self, path):
        self.lock = threading.Lock()
        self.file = open(path, "a", encoding="utf-8")

    def note(self, **entry):
        with self.lock:
            self.file.write(json.dumps(entry, sort_keys=True) + "\n")
            self.file.flush()


class Lamp:
    """What it is stays when it is unplugged; what it is told meanwhile is lost."""

    def __init__(self, name, port, journal):
        self.name, self.port, self.journal = name, port, journal
        self.state = {"on": False, "level": 0}
        self.client = None

    def plug(self):
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"hall-{self.name}",
                             protocol=mqtt.MQTTv5)
        client.will_set(f"hall/{self.name}/alive", "offline", qos=1, retain=True)
        ready = threading.Event()
        client.on_connect = lambda *_: client.subscribe(
            [(f"hall/{self.name}/{word}", 1) for word in ("set", "get", "flash")])
        client.on_subscribe = lambda *_: ready.set()
        client.on_message = self.heard
        client.connect("127.0.0.1", self.port, keepalive=5)
        client.loop_start()
        if not ready.wait(CONNECT_S_MAX):
            raise SystemExit(f"{self.name} could not connect to the broker")
        self.client = client
        client.publish(f"hall/{self.name}/alive", "online", qos=1, retain=True)
        self.tell()

    def unplug(self):
        # A socket that is closed without a word: the broker publishes the last will.
        client, self.client = self.client, None
        client.on_message = None
        client.socket().shutdown(2)
        client.loop_stop()

    def tell(self):
        self.client.publish(f"hall/{self.name}/state", json.dumps(self.state), qos=1)

    def heard(self, _client, _data, message):
        word = message.topic.rsplit("/", 1)[1]
        if word == "get":
            self.journal.note(lamp=self.name, asked=True)
        elif word == "flash":
            self.journal.note(lamp=self.name, flash=json.loads(message.payload))
        else:
            wish = json.loads(message.payload)
            self.state.update(wish)
            self.journal.note(lamp=self.name, set=wish, retained=message.retain)
        self.tell()

    def flip(self):
        self.state["on"] = not self.state["on"]
        self.tell()


def main():
    port, journal = int(sys.argv[1]), Journal(sys.argv[2])
    lamps = {name: Lamp(name, port, journal) for name in LAMPS}
    for lamp in lamps.values():
        lamp.plug()
    journal.note(ready=True)
    for line in sys.stdin:
        for word, name in json.loads(line).items():
            {"plug": Lamp.plug, "unplug": Lamp.unplug, "flip": Lamp.flip}[word](lamps[name])
            journal.note(done=word, lamp=name)


if __name__ == "__main__":
    main()
