"""Asks a name server one question, as any resolver would, and prints what it answers, a record a line.

Usage: ask_names.py SERVER NAME KIND [tcp]   where the kind is A or SRV.
"""

import socket
import struct
import sys

KINDS = {"A": 1, "SRV": 33}
PATIENCE_S = 5


def name_at(message, at):
    """The name at a place of a message, and what is behind it."""
    labels, behind = [], None
    while message[at]:
        if message[at] & 0xC0:
            behind = behind or at + 2
            at = struct.unpack_from("!H", message, at)[0] & 0x3FFF
            continue
        labels.append(message[at + 1 : at + 1 + message[at]].decode())
        at += 1 + message[at]
    return ".".join(labels), behind or at + 1


def main():
    server, name, kind = sys.argv[1:4]
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    head = struct.pack("!6H", 4711, 0x0100, 1, 0, 0, 0)
    question = head + labels + b"\0" + struct.pack("!2H", KINDS[kind], 1)
    if sys.argv[4:] == ["tcp"]:
        with socket.create_connection((server, 53), PATIENCE_S) as stream:
            stream.sendall(struct.pack("!H", len(question)) + question)
            file = stream.makefile("rb")
            message = file.read(struct.unpack("!H", file.read(2))[0])
    else:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.settimeout(PATIENCE_S)
            datagrams.sendto(question, (server, 53))
            message = datagrams.recv(65535)
    _, flags, _, answers, _, _ = struct.unpack_from("!6H", message)
    print("code", flags & 0xF)
    _, at = name_at(message, 12)
    at += 4
    for _ in range(answers):
        _, at = name_at(message, at)
        what, _, _, length = struct.unpack_from("!2HIH", message, at)
        at += 10
        if what == KINDS["A"]:
            print("A", socket.inet_ntoa(message[at : at + 4]))
        elif what == KINDS["SRV"]:
            priority, weight, port = struct.unpack_from("!3H", message, at)
            print("SRV", priority, weight, port, name_at(message, at + 6)[0])
        at += length


main()
