"""Those who write without pause while the tour breaks something, and count what was acknowledged."""

import http.client
import json
import socket
import threading
import time
import uuid

from bare_nats import BareNats, NoResponders

# A writer gives a command up after this, and the tour fails.
GIVE_UP_S = 60.0
LOST = (TimeoutError, NoResponders, ConnectionError, OSError)


class Door(http.client.HTTPConnection):
    """An agent's own door: HTTP over the Unix socket in its data directory."""

    def __init__(self, socket_path, timeout_s=5.0):
        super().__init__("flotilla", timeout=timeout_s)
        self.socket_path = socket_path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.socket_path)

    def request(self, method, path, body=None, headers=None):
        """One request; gives what the agent says."""
        payload = None if body is None else json.dumps(body).encode()
        super().request(method, path, payload, headers or {})
        return json.loads(self.getresponse().read())


class DoorWriter(threading.Thread):
    """Counts a parameter upwards at one door, under the same request id until answered."""

    def __init__(self, agent):
        super().__init__(daemon=True)
        self.agent, self.key = agent, f"tour.{agent['name']}"
        self.count, self.unknown = 0, 0
        self.last = time.monotonic()
        self.longest_gap = 0.0
        self.stopped = threading.Event()

    def run(self):
        door = Door(self.agent["socket"])
        while not self.stopped.is_set():
            headers = {"Flotilla-Request-Id": str(uuid.uuid4())}
            give_up = time.monotonic() + GIVE_UP_S
            while time.monotonic() < give_up:
                try:
                    said = door.request("POST", f"/v1/commands/param/set/{self.key}",
                                        self.count + 1, headers)
                except (OSError, ValueError, http.client.HTTPException):
                    door = Door(self.agent["socket"])
                    time.sleep(0.005)
                    continue
                if said.get("ok"):
                    now = time.monotonic()
                    if self.count:
                        self.longest_gap = max(self.longest_gap, now - self.last)
                    self.count, self.last = self.count + 1, now
                    break
                self.unknown += said["error"]["code"] == "unknown"
                time.sleep(0.005)

    def stop(self):
        self.stopped.set()
        self.join()


class Writer(threading.Thread):
    """Counts one parameter upwards, retrying under the same request id until answered."""

    def __init__(self, url, site):
        super().__init__(daemon=True)
        self.url, self.site = url, site
        self.count = 0
        self.last = time.monotonic()
        self.longest_gap = 0.0
        self.stopped = threading.Event()

    def run(self):
        nats = BareNats(self.url)
        while not self.stopped.is_set():
            headers = {"Flotilla-Request-Id": str(uuid.uuid4())}
            body = json.dumps(self.count + 1).encode()
            # Also when it is stopped: the last command gets its answer, so the count is exact.
            give_up = time.monotonic() + GIVE_UP_S
            while time.monotonic() < give_up:
                try:
                    reply = nats.request(f"flotilla.{self.site}.control.commands.param.set.tour.writer",
                                         body, headers, timeout_s=0.25)
                except LOST:
                    time.sleep(0.005)
                    continue
                if reply.get("ok"):
                    now = time.monotonic()
                    if self.count:
                        self.longest_gap = max(self.longest_gap, now - self.last)
                    self.count, self.last = self.count + 1, now
                    break

    def stop(self):
        self.stopped.set()
        self.join()
