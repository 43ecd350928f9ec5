#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""DISCONNECT does not refuse a device that is in use, nor does it write anything back: it succeeds, and
who has the device open gets errors."""
import os

from driver import NODE, Netlink, Server, conclude

control, server = Netlink(), Server()
control.connect(server.kernel_end)
node = os.open(NODE, os.O_RDONLY)
control.disconnect()
server.closed.wait(10)
try:
    os.pread(node, 4096, 1 << 20)
    error = 0
except OSError as caught:
    error = caught.errno
conclude(error == 5, f"success was told; a read by who had it open: errno {error}")
