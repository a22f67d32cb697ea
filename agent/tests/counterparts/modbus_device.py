"""A Modbus endpoint, independent of Flotilla's code: the simulator of pymodbus.

    modbus_device.py PORT FRAMER

FRAMER is `socket`, `rtu` (a serial bus behind a server), or `serial`: then PORT is the path of a link
that is made to the serial port where the bus begins, at 19200 baud. Unit 1 is a drive: coils and discrete
inputs 0-31, holding and input registers 0-199. Unit 2 is never there. What is written goes to
stdout, one JSON object per line, beginning with {"ready": true}. Commands come over stdin, one
JSON object per line, each confirmed by {"done": true}:

    {"set": {"table": "holding", "address": 0, "values": [1, 2]}}
    {"exception": 6}       answer everything so, until {"exception": 0}
    {"read_exception": 6}  answer questions so, until {"read_exception": 0}
    {"silent": true}       answer nothing
    {"handshake": true}    whatever is written to holding 50 appears in holding 51
    {"watchdog": 60}       when holding 60 was written once and then isn't for as many tenths of a
                           second as holding 61 says, {"tripped": true}, and holding 100 is 0
"""

import asyncio
import json
import os
import pty
import sys
import threading
import tty

from pymodbus import FramerType, ModbusDeviceIdentification
from pymodbus.constants import ExcCodes
from pymodbus.exceptions import NoSuchIdException
from pymodbus.pdu.mei_message import ReadDeviceInformationRequest
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

TABLES = {1: "coil", 5: "coil", 15: "coil", 2: "discrete", 3: "holding", 6: "holding",
          16: "holding", 22: "holding", 4: "input"}


def journal(**entry):
    print(json.dumps(entry, sort_keys=True), flush=True)


class Faults:
    exception = 0
    read_exception = 0
    silent = False
    handshake = False
    # The register of the watchdog, how long it waits, and its timer.
    watchdog = None
    tenths = 0
    timer = None
    # Whether anything was ever read or written; told once.
    touched = False
    # This program itself sets a value.
    own = False


def line():
    """A serial line of two pseudo terminals; the names of its ends."""
    ends = [pty.openpty(), pty.openpty()]

    def carry(source, sink):
        while True:
            try:
                os.write(sink, os.read(source, 512))
            except OSError:
                # Nobody has that end open now; the descriptor of ours below keeps it there.
                return
    for (master, slave), (other, _) in (ends, ends[::-1]):
        tty.setraw(slave)
        threading.Thread(target=carry, args=(master, other), daemon=True).start()
    return [os.ttyname(slave) for _, slave in ends]


async def identify(request, context, unit):
    """Who is there. The simulator answers this one for every unit, also for those it hasn't."""
    if unit != 1:
        raise NoSuchIdException
    return await ANSWER_IDENTITY(request, context, unit)


ANSWER_IDENTITY = ReadDeviceInformationRequest.datastore_update
ReadDeviceInformationRequest.datastore_update = identify


def serve(drive, framer):
    identity = ModbusDeviceIdentification(info_name={
        "VendorName": "ACME", "ProductCode": "AX-200", "MajorMinorRevision": "1.4"})
    if framer == "serial":
        ours, theirs = line()
        os.symlink(theirs, sys.argv[1])
        # On a bus nobody answers for a unit that isn't there.
        return ModbusSerialServer(drive, framer=FramerType.RTU, port=ours, baudrate=19200,
                                  identity=identity, ignore_missing_devices=True)
    return ModbusTcpServer(drive, framer=FramerType(framer), identity=identity,
                           address=("127.0.0.1", int(sys.argv[1])))


async def main():
    framer = sys.argv[2]
    server = None

    async def put(function, address, values):
        Faults.own = True
        await server.async_setValues(1, function, address, values)
        Faults.own = False

    async def trip():
        journal(tripped=True)
        await put(16, 100, [0])

    async def heard_of():
        """The watchdog's own word: it starts anew, for as long as it is set to."""
        if Faults.timer:
            Faults.timer.cancel()
        Faults.timer = asyncio.get_running_loop().call_later(
            Faults.tenths / 10, lambda: asyncio.ensure_future(trip()))

    async def action(function, _start, address, _count, _current, new):
        if Faults.own:
            return None
        if not Faults.touched:
            Faults.touched = True
            journal(touched=True)
        if Faults.silent:
            await asyncio.sleep(3600)
        if Faults.exception:
            return ExcCodes(Faults.exception)
        if Faults.read_exception and new is None:
            return ExcCodes(Faults.read_exception)
        if new is not None:
            values = [int(value) for value in new]
            journal(write=TABLES.get(function, function), function=function, address=address, values=values)
            if Faults.watchdog and address == Faults.watchdog + 1:
                Faults.tenths = values[0]
            if address == Faults.watchdog:
                await heard_of()
            if Faults.handshake and address == 50 and values:
                asyncio.get_running_loop().call_later(
                    0.1, lambda: asyncio.ensure_future(put(16, 51, values[:1])))
        return None

    bits = [SimData(0, count=32, values=False, datatype=DataType.BITS)]
    words = [SimData(0, count=200, values=0, datatype=DataType.REGISTERS)]
    drive = SimDevice(1, simdata=(bits, list(bits), words, list(words)), action=action)
    server = serve(drive, framer)
    await server.serve_forever(background=True)
    journal(ready=True)
    functions = {"coil": 15, "discrete": 2, "holding": 16, "input": 4}
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        if "set" in command:
            wish = command["set"]
            await put(functions[wish["table"]], wish["address"], wish["values"])
        Faults.exception = command.get("exception", Faults.exception)
        Faults.read_exception = command.get("read_exception", Faults.read_exception)
        Faults.silent = command.get("silent", Faults.silent)
        Faults.handshake = command.get("handshake", Faults.handshake)
        Faults.watchdog = command.get("watchdog", Faults.watchdog)
        journal(done=True)


asyncio.run(main())
