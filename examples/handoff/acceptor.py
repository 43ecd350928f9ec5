#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Accepts TCP connections and hands each on to a server, which serves it without a handshake.

  nbdkit --handoff=/tmp/control file disk.img &
  acceptor.py /tmp/control 10810 &
  nbd-client -preinit -size $(stat -c %s disk.img) localhost 10810 /dev/nbd0
"""

import json
import socket
import struct
import sys

control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
control.connect(sys.argv[1])
request = json.dumps({"verb": "serve", "mode": "transmission", "peer": "kernel"}).encode()
header = struct.pack(">4sHHIIQ", b"NBDH", 1, 1, 1, len(request), 1)
with socket.create_server(("127.0.0.1", int(sys.argv[2]))) as listener:
    print("ready", flush=True)
    while True:
        with listener.accept()[0] as client:
            socket.send_fds(control, [header + request], [client.fileno()])
        print(control.recv(65536)[24:].decode(), flush=True)
