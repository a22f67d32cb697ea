"""A device on an MQTT broker, independent of Flotilla's code: paho-mqtt and nothing of ours.

    mqtt_device.py PORT KIND NAME [5]

With 5 it speaks MQTT 5, has a session that the broker keeps for it while it is away, and says how many
seconds each message had left. Otherwise it speaks 3.1.1.
KIND is `plug` (Tasmota's topics), `lamp` (Zigbee2MQTT with one lamp), `tank` (a level that is set,
asked for and reported, and a one-shot: NAME/set, /get, /level, /go, /alive) or `mute` (connected,
and answers nothing). Everything it receives goes to stdout, one JSON object per line, beginning with
{"ready": true}. Commands come over stdin, one JSON object per line, and each is confirmed by
{"done": true}:

    {"publish": {"topic": …, "payload": …, "retain": …, "qos": …, "hex": …, "times": …}}   say something
    {"stubborn": true}      don't do what is told (and go on repeating it, as the bridge does)
    {"rename": "new name"}  the lamp's friendly name
    {"remove": true}        the lamp leaves the bridge
    {"switch": true}        somebody uses the wall switch
    {"leave": true}         vanish without a goodbye, so that the last will is published
"""

import json
import os
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

ADDRESS = "0x00158d00018255df"
EXPOSES = [{"type": "light", "features": [
    {"type": "binary", "name": "state", "property": "state", "access": 7,
     "value_on": "ON", "value_off": "OFF", "value_toggle": "TOGGLE"}]}]
LOCK = threading.Lock()
# Nobody reads a journal while it writes a million bytes.
SHOWN_MAX = 200


def journal(**entry):
    with LOCK:
        print(json.dumps(entry, sort_keys=True), flush=True)


class Device:
    def __init__(self, port, kind, name, keeps):
        self.kind, self.name = kind, name
        self.on, self.stubborn, self.level = False, False, 0
        version = mqtt.MQTTv5 if keeps else mqtt.MQTTv311
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"device-{name}", protocol=version)
        if kind == "plug":
            self.client.will_set(f"tele/{name}/LWT", "Offline", qos=1, retain=True)
        if kind == "tank":
            self.client.will_set(f"{name}/alive", "down", qos=1, retain=True)
        if kind == "lamp":
            self.client.will_set("zigbee2mqtt/bridge/state", '{"state":"offline"}', qos=1, retain=True)
        self.client.on_connect = self.connected
        self.client.on_message = self.received
        self.subscribing = 0
        self.client.on_subscribe = self.subscribed
        if keeps:
            session = Properties(PacketTypes.CONNECT)
            session.SessionExpiryInterval = 600
            self.client.connect("127.0.0.1", port, keepalive=5, clean_start=False, properties=session)
        else:
            self.client.connect("127.0.0.1", port, keepalive=5)

    def topics(self):
        return {"plug": [f"cmnd/{self.name}/#"], "lamp": [f"zigbee2mqtt/{name}/{what}" for name in ("+", "+/+") for what in ("set", "get")],
                "tank": [f"{self.name}/{what}" for what in ("set", "get", "go")],
                "mute": [f"{self.name}/#"]}[self.kind]

    def connected(self, client, _data, _flags, _reason, _properties=None):
        # What a broker has not confirmed before it died it never will.
        self.subscribing = 0
        for topic in self.topics():
            self.subscribing += 1
            client.subscribe(topic, qos=1)

    def subscribed(self, *_):
        self.subscribing -= 1
        if self.subscribing == 0:
            self.announce()
            journal(ready=True)

    def say(self, topic, payload, retain=False):
        self.client.publish(topic, payload, qos=1, retain=retain)

    def announce(self):
        if self.kind == "plug":
            self.say(f"tele/{self.name}/LWT", "Online", retain=True)
        if self.kind == "tank":
            self.say(f"{self.name}/alive", "up", retain=True)
        if self.kind == "lamp":
            self.say("zigbee2mqtt/bridge/state", '{"state":"online"}', retain=True)
            self.say(f"zigbee2mqtt/{self.name}/availability", '{"state":"online"}', retain=True)
            info = {"version": "2.1.3", "config": {"availability": {"enabled": True}}}
            self.say("zigbee2mqtt/bridge/info", json.dumps(info), retain=True)
            self.bridge_devices(True)

    def bridge_devices(self, present):
        devices = [{"ieee_address": "0x00124b00120144ae", "type": "Coordinator",
                    "friendly_name": "Coordinator"}]
        if present:
            devices.append({"ieee_address": ADDRESS, "type": "Router", "friendly_name": self.name,
                            "supported": True, "disabled": False, "interview_completed": True,
                            "power_source": "Mains (single phase)",
                            "definition": {"model": "LED1545G12", "vendor": "IKEA", "exposes": EXPOSES}})
        self.say("zigbee2mqtt/bridge/devices", json.dumps(devices), retain=True)

    def state(self):
        return "ON" if self.on else "OFF"

    def report(self, state=None):
        state = state or self.state()
        if self.kind == "plug":
            self.say(f"stat/{self.name}/RESULT", json.dumps({"POWER": state}))
        if self.kind == "lamp":
            self.say(f"zigbee2mqtt/{self.name}", json.dumps({"state": state, "linkquality": 98}))

    def received(self, _client, _data, message):
        text = message.payload.decode("utf-8", "backslashreplace")
        journal(topic=message.topic, payload=text[:SHOWN_MAX], qos=message.qos, retain=message.retain,
                left_s=getattr(getattr(message, "properties", None), "MessageExpiryInterval", None))
        if self.kind == "plug" and message.topic.endswith("/POWER"):
            if text in ("ON", "OFF", "TOGGLE") and not self.stubborn:
                self.on = not self.on if text == "TOGGLE" else text == "ON"
            self.report()
        if self.kind == "tank" and message.topic != f"{self.name}/go":
            if message.topic == f"{self.name}/set":
                self.level = int(text)
            self.say(f"{self.name}/level", str(self.level))
        if self.kind == "lamp" and message.topic == f"zigbee2mqtt/{self.name}/set":
            wish = json.loads(text).get("state")
            if not self.stubborn:
                self.on = wish == "ON"
            # The bridge repeats what it was told, whatever the lamp does.
            self.report(wish)
        if self.kind == "lamp" and message.topic == f"zigbee2mqtt/{self.name}/get":
            self.report()

    def command(self, command):
        """Does what a test says; main() confirms it afterwards."""
        if "publish" in command:
            wish = command["publish"]
            payload = bytes.fromhex(wish["hex"]) if "hex" in wish else wish.get("payload", "")
            if "size" in wish:
                payload = " " * wish["size"]
            for _ in range(wish.get("times", 1)):
                self.client.publish(wish["topic"], payload, qos=wish.get("qos", 0),
                                    retain=wish.get("retain", False))
        if "stubborn" in command:
            self.stubborn = command["stubborn"]
        if "rename" in command:
            self.name = command["rename"]
            self.announce()
        if "remove" in command:
            self.bridge_devices(False)
        if "switch" in command:
            self.on = command["switch"]
            self.report()
        if "leave" in command:
            journal(done=True)
            os._exit(0)


def main():
    device = Device(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:] == ["5"])
    device.client.loop_start()
    for line in sys.stdin:
        device.command(json.loads(line))
        journal(done=True)


main()
