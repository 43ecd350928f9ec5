#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""RECONFIGURE drops a socket without a word when none of the device's is dead. The other end of it
sees the end of the stream: the one way to know."""
from driver import Netlink, Read, Server, conclude

control, first, second = Netlink(), Server(), Server()
control.connect(first.kernel_end)
control.reconfigure(second.kernel_end)
second.kernel_end.close()
dropped = second.closed.wait(10)
fine = Read().result().error is None
control.disconnect()
conclude(dropped and fine and second.requests == 0, f"success was told, the new socket was closed: {dropped}")
