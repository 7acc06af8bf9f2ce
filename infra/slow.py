#!/usr/bin/env python3
"""A slow wire between two interfaces, for machines whose kernel has no netem.

    slow.py plain INTERFACE                 have an interface send finished frames: none too large, all with sums
    slow.py wire INTERFACE TAP MS PIDFILE   carry frames between them, each way after MS milliseconds, until killed

INTERFACE is one end of a pair whose other end is plain, TAP a tap that exists. infra/engines.sh slow uses both.
"""

import array
import collections
import fcntl
import os
import select
import socket
import struct
import sys
import time

SIOCETHTOOL = 0x8946
# Sums of sent frames, segmentation for TCP, and segmentation as such.
SET_OFF = (0x17, 0x1F, 0x24)
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
ALL_PROTOCOLS = 0x0003
FRAME = 65_536


def plain(interface):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for what in SET_OFF:
            value = array.array("B", struct.pack("II", what, 0))
            address, _ = value.buffer_info()
            fcntl.ioctl(control, SIOCETHTOOL, struct.pack("16sP", interface.encode(), address))


def wire(interface, tap, delay):
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
    port.bind((interface, 0))
    other = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(other, TUNSETIFF, struct.pack("16sH", tap.encode(), IFF_TAP | IFF_NO_PI))
    waiting = collections.deque()
    while True:
        left = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        ready, _, _ = select.select([port, other], [], [], left)
        due = time.monotonic() + delay
        for source in ready:
            try:
                if source is port:
                    frame, (_, _, kind, *_) = port.recvfrom(FRAME)
                    if kind != socket.PACKET_OUTGOING:
                        waiting.append((due, True, frame))
                else:
                    waiting.append((due, False, os.read(other, FRAME)))
            except OSError:
                # A link that is down carries nothing, and comes up again.
                time.sleep(0.01)
        while waiting and waiting[0][0] <= time.monotonic():
            _, to_tap, frame = waiting.popleft()
            try:
                os.write(other, frame) if to_tap else port.send(frame)
            except OSError:
                pass


def main(arguments):
    match arguments:
        case ["plain", interface]:
            plain(interface)
        case ["wire", interface, tap, ms, pidfile]:
            with open(pidfile, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
            wire(interface, tap, float(ms) / 1_000)
        case _:
            sys.exit(__doc__)


main(sys.argv[1:])
