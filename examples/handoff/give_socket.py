#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Gives a server one end of a socket pair and talks to its disk through the other, without any handshake.

  nbdkit --handoff=/tmp/control memory 1M &
  give_socket.py /tmp/control

All that is needed is in docs/handoff-protocol.md.
"""

import json
import socket
import struct
import sys

control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
control.connect(sys.argv[1])


def ask(body, *descriptors):
    """Sends a request; the body of its answer. An error of the server ends the program."""
    text = json.dumps(body).encode()
    header = struct.pack(">4sHHIIQ", b"NBDH", 1, 1, len(descriptors), len(text), 1)
    socket.send_fds(control, [header + text], descriptors)
    packet = control.recv(65536)
    kind = struct.unpack_from(">4sHHIIQ", packet)[2]
    answer = json.loads(packet[24:])
    if kind != 2:
        sys.exit(f"{answer['code']}: {answer['message']}")
    return answer


ours, theirs = socket.socketpair()
export = ask({"verb": "serve", "mode": "transmission"}, theirs.fileno())
theirs.close()
print(f"connection {export['id']} to a disk of {export['size']} bytes")

# From here on this is NBD's transmission phase: a write of 5 bytes at offset 0, then a read of them.
ours.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 1, 1, 0, 5) + b"hello")
assert struct.unpack(">IIQ", ours.recv(16, socket.MSG_WAITALL)) == (0x67446698, 0, 1)
ours.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 2, 0, 5))
assert struct.unpack(">IIQ", ours.recv(16, socket.MSG_WAITALL)) == (0x67446698, 0, 2)
print("read back:", ours.recv(5, socket.MSG_WAITALL).decode())
