"""A house of Zigbee devices behind a bridge, independent of Flotilla's code: paho-mqtt alone.

    zigbee_house.py PORT

It says what Zigbee2MQTT says, in the form of its documentation: `bridge/state`, `bridge/info`,
`bridge/devices` with the definitions of 150 devices, `<name>/availability`, and reports on
`<name>`. What it hears goes to stdout, one JSON object per line: {"set": topic, "payload": …} for
every command, after {"export": [the list of devices]} and {"ready": true}. A question (`/get`) is
counted, and answered as a device would: those on batteries sleep and hear none. Commands come over stdin:

    {"days": 30, "reports_per_day": 8}   play so many days in fast motion, confirmed by
                                         {"done": true, "reports": …, "gets": …}
"""

import json
import os
import random
import sys
import threading

import paho.mqtt.client as mqtt

BASE = "zigbee2mqtt"
LOCK = threading.Lock()


def journal(**entry):
    with LOCK:
        print(json.dumps(entry), flush=True)


def binary(name, access, on, off, prop=None):
    return {"type": "binary", "name": name, "property": prop or name, "access": access,
            "value_on": on, "value_off": off}


def numeric(name, access, low=None, high=None, unit=None):
    expose = {"type": "numeric", "name": name, "property": name, "access": access}
    for key, value in (("value_min", low), ("value_max", high), ("unit", unit)):
        if value is not None:
            expose[key] = value
    return expose


SIGNAL = numeric("linkquality", 1, 0, 255, "lqi")
BATTERY = numeric("battery", 1, 0, 100, "%")

# What there is in a real house: (how many, model, power, exposes).
KINDS = [
    (48, "LED1545G12", "Mains (single phase)", [
        {"type": "light", "features": [binary("state", 7, "ON", "OFF"),
                                       numeric("brightness", 7, 0, 254),
                                       numeric("color_temp", 7, 250, 454, "mired")]},
        {"type": "enum", "name": "effect", "property": "effect", "access": 2,
         "values": ["blink", "breathe", "okay"]}, SIGNAL]),
    (22, "TS011F", "Mains (single phase)", [
        {"type": "switch", "features": [binary("state", 7, "ON", "OFF")]},
        numeric("power", 5, unit="W"), numeric("energy", 1, unit="kWh"), SIGNAL]),
    (26, "WSDCGQ11LM", "Battery", [
        BATTERY, numeric("temperature", 1, unit="°C"), numeric("humidity", 1, unit="%"),
        numeric("pressure", 1, unit="hPa"), SIGNAL]),
    (24, "MCCGQ11LM", "Battery", [BATTERY, binary("contact", 1, False, True), SIGNAL]),
    (14, "RTCGQ11LM", "Battery", [
        BATTERY, binary("occupancy", 1, True, False), numeric("illuminance", 1, unit="lx"), SIGNAL]),
    (10, "TS0601_thermostat", "Battery", [
        {"type": "climate", "features": [
            numeric("current_heating_setpoint", 3, 5, 30, "°C"),
            numeric("local_temperature", 1, unit="°C")]}, BATTERY, SIGNAL]),
    (6, "E1757", "Battery", [
        {"type": "cover", "features": [numeric("position", 7, 0, 100)]}, BATTERY, SIGNAL]),
]


class House:
    def __init__(self, port):
        self.random = random.Random(1507)
        self.devices, self.states, self.gets = [], {}, 0
        self.asleep = set()
        for count, model, power, exposes in KINDS:
            for number in range(count):
                self.add(f"{model.lower()}-{number + 1}", model, power, exposes)
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="zigbee2mqtt-bridge",
                                  protocol=mqtt.MQTTv311)
        self.client.max_queued_messages_set(0)
        self.client.on_connect = self.connected
        self.client.on_message = self.received
        self.client.on_subscribe = lambda *_: self.announce()
        self.client.connect("127.0.0.1", port)

    def add(self, name, model, power, exposes):
        address = f"0x00158d{len(self.devices):010x}"
        self.devices.append({
            "ieee_address": address, "friendly_name": name, "type": "EndDevice",
            "network_address": 1000 + len(self.devices), "supported": True, "disabled": False,
            "interview_completed": True, "interviewing": False, "power_source": power,
            "definition": {"model": model, "vendor": "house", "description": model,
                           "exposes": exposes}})
        self.states[name] = {}
        if power == "Battery":
            self.asleep.add(name)
        for expose in exposes:
            for feature in expose.get("features", [expose]):
                if feature["access"] & 1:
                    self.states[name][feature["property"]] = self.value(feature)

    def value(self, feature):
        if feature["type"] == "binary":
            return self.random.choice([feature["value_on"], feature["value_off"]])
        low, high = feature.get("value_min", 0), feature.get("value_max", 100)
        return self.random.randint(low, high)

    def connected(self, client, *_):
        client.subscribe([(f"{BASE}/+/set", 1), (f"{BASE}/+/set/#", 1), (f"{BASE}/+/get", 1),
                          (f"{BASE}/bridge/request/#", 1)])

    def say(self, topic, value, retain=False, qos=0):
        return self.client.publish(f"{BASE}/{topic}", json.dumps(value), qos=qos, retain=retain)

    def announce(self):
        self.say("bridge/info", {"version": "2.1.3", "config": {"availability": {"enabled": True}}},
                 retain=True)
        coordinator = {"ieee_address": "0x00124b0000000001", "friendly_name": "Coordinator",
                       "type": "Coordinator", "supported": True, "definition": None}
        self.say("bridge/devices", [coordinator, *self.devices], retain=True)
        for device in self.devices:
            self.say(f"{device['friendly_name']}/availability", {"state": "online"}, retain=True)
            self.report(device["friendly_name"])
        self.say("bridge/state", {"state": "online"}, retain=True, qos=1)
        journal(export=self.devices)
        journal(ready=True)

    def report(self, name):
        return self.say(name, self.states[name])

    def received(self, _client, _data, message):
        name = message.topic.split("/")[1]
        if message.topic.endswith("/get"):
            self.gets += 1
            if name not in self.asleep:
                self.report(name)
        else:
            journal(set=message.topic, payload=message.payload.decode("utf-8", "replace"))

    def live(self, days, per_day):
        reports, last = 0, None
        for _ in range(days * per_day):
            for device in self.devices:
                name = device["friendly_name"]
                for expose in device["definition"]["exposes"]:
                    for feature in expose.get("features", [expose]):
                        if feature["access"] & 1 and self.random.random() < 0.5:
                            self.states[name][feature["property"]] = self.value(feature)
                last = self.report(name)
                reports += 1
        # Batteries run empty and lamps are switched off at the wall; both come back.
        for state in ("offline", "online"):
            for device in self.random.sample(self.devices, 20):
                self.say(f"{device['friendly_name']}/availability", {"state": state}, retain=True)
        last.wait_for_publish()
        journal(done=True, reports=reports, gets=self.gets)


def main():
    house = House(int(sys.argv[1]))
    house.client.loop_start()
    for line in sys.stdin:
        command = json.loads(line)
        house.live(command["days"], command["reports_per_day"])
    os._exit(0)


main()
