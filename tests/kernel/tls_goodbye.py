# SPDX-License-Identifier: BSD-3-Clause
"""tls_goodbye.py FOLDER: the server on port 10809 ends its side of TLS in good order."""

import socket
import ssl
import struct
import sys

OPTION = b"IHAVEOPT" + struct.pack(">II", 5, 0)
ABORT = b"IHAVEOPT" + struct.pack(">II", 2, 0)


def receive(connection, length):
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        assert more, "too early an end"
        data += more
    return data


context = ssl.create_default_context(cafile=f"{sys.argv[1]}/ca-cert.pem")
plain = socket.create_connection(("127.0.0.1", 10809))
receive(plain, 18)
plain.sendall(struct.pack(">I", 3) + OPTION)
assert receive(plain, 20)[12:16] == b"\0\0\0\1", "STARTTLS is refused"
# An end without a goodbye raises SSLEOFError.
with context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as tls:
    tls.sendall(ABORT)
    assert receive(tls, 20)[12:16] == b"\0\0\0\1", "ABORT is refused"
    assert tls.recv(1) == b"", "more than was asked for"
