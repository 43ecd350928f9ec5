#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""DISCONNECT sends a message to each server and waits when a socket's buffer is full, with the lock
that every generic netlink user needs: whoever asks for the status waits, too. Shutting down the
server's end first is the way out."""
import contextlib
import os
import socket
import threading
import time

from driver import BLOCK_SIZE_BYTES, HAS_FLAGS, NODE, SERVER_FLAGS, TIMEOUT, Netlink, Server, conclude, u64

control, server = Netlink(), Server()
server.kernel_end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
control.connect(server.kernel_end, settings=u64(TIMEOUT, 0) + u64(BLOCK_SIZE_BYTES, 4096) + u64(SERVER_FLAGS, HAS_FLAGS))


def write_much():
    with contextlib.suppress(OSError):
        node = os.open(NODE, os.O_RDWR)
        os.pwrite(node, bytes(8 << 20), 0)
        os.fsync(node)


server.fall_silent()
threading.Thread(target=write_much, daemon=True).start()
server.arrived.wait()
# With a request unanswered the server reads nothing more, and the kernel goes on sending.
time.sleep(2)
threading.Thread(target=control.disconnect, daemon=True).start()
time.sleep(1)
other = threading.Thread(target=lambda: Netlink().connected(), daemon=True)
other.start()
other.join(2)
hung = other.is_alive()
server.die()
other.join(60)
conclude(hung and not other.is_alive(), "the status was answered only when the server's end had been shut down")
