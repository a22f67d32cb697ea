"""A NATS client in a page, to show that Flotilla needs no client of its own.

Requests with headers over one connection, nothing else. The protocol is lines of text:
https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

import json
import os
import socket
import time


class NoResponders(Exception):
    """The server says that nobody listens to the subject."""


class BareNats:
    """One connection to a server without credentials."""

    def __init__(self, url, timeout_s=5.0):
        host, port = url.removeprefix("nats://").rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.inbox = f"_INBOX.{os.urandom(12).hex()}"
        self.sent = 0
        self._line(time.monotonic() + timeout_s)  # INFO, of which we need nothing
        options = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True,
                   "lang": "python", "version": "0"}
        self._send(f"CONNECT {json.dumps(options)}\r\nSUB {self.inbox}.* 1\r\n".encode())

    def close(self):
        self.socket.close()

    def request(self, subject, body=b"", headers=None, timeout_s=5.0):
        """The reply's JSON. TimeoutError if none came, NoResponders if nobody listens."""
        self.sent += 1
        reply = f"{self.inbox}.{self.sent}"
        if headers:
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            head = f"NATS/1.0\r\n{lines}\r\n".encode()
            start = f"HPUB {subject} {reply} {len(head)} {len(head) + len(body)}\r\n"
        else:
            head, start = b"", f"PUB {subject} {reply} {len(body)}\r\n"
        self._send(start.encode() + head + body + b"\r\n")
        deadline = time.monotonic() + timeout_s
        while True:
            to, status, payload = self._message(deadline)
            if to != reply:
                continue  # A late reply to a request that was given up.
            if status == "503":
                raise NoResponders(subject)
            return json.loads(payload)

    def gather(self, subject, count, timeout_s=5.0):
        """The first `count` replies to a question that many answer."""
        self.sent += 1
        reply = f"{self.inbox}.{self.sent}"
        self._send(f"PUB {subject} {reply} 0\r\n\r\n".encode())
        deadline = time.monotonic() + timeout_s
        found = []
        while len(found) < count:
            to, _, payload = self._message(deadline)
            if to == reply:
                found.append(json.loads(payload))
        return found

    def _message(self, deadline):
        """The next message for us: its subject, the status in its headers, its payload."""
        while True:
            words = self._line(deadline).split(b" ")
            if words[0] == b"PING":
                self._send(b"PONG\r\n")
            elif words[0] == b"MSG":
                return words[1].decode(), None, self._bytes(int(words[-1]), deadline)
            elif words[0] == b"HMSG":
                head = self._bytes(int(words[-2]), deadline, ended=False)
                payload = self._bytes(int(words[-1]) - int(words[-2]), deadline)
                first = head.split(b"\r\n", 1)[0].split(b" ")
                return words[1].decode(), first[1].decode() if len(first) > 1 else None, payload
            elif words[0] == b"-ERR":
                raise ConnectionError(b" ".join(words).decode())

    def _send(self, data):
        self.socket.sendall(data)

    def _fill(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no reply in time")
        self.socket.settimeout(left)
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        self.buffer += data

    def _line(self, deadline):
        while b"\r\n" not in self.buffer:
            self._fill(deadline)
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def _bytes(self, count, deadline, ended=True):
        whole = count + 2 if ended else count
        while len(self.buffer) < whole:
            self._fill(deadline)
        data, self.buffer = self.buffer[:count], self.buffer[whole:]
        return data
