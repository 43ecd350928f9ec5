#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""STATUS says "connected" of a device that somebody has merely opened, and CONNECT finds it busy."""
import os

from driver import NODE, Netlink, Server, conclude

control, server = Netlink(), Server()
before = control.connected()
node = os.open(NODE, os.O_RDONLY)
opened = control.connected()
try:
    control.connect(server.kernel_end)
    error = 0
except OSError as caught:
    error = caught.errno
conclude((before, opened, error) == (0, 1, 16), f"connected={before}, opened: connected={opened}, CONNECT: errno {error}")
