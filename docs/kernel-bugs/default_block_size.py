#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Who says no block size gets 1024 bytes: a partition table that was written with 512 is not found."""
from driver import Netlink, Server, conclude, queue

control, server = Netlink(), Server()
control.connect(server.kernel_end)
size = queue("logical_block_size")
control.disconnect()
conclude(size == "1024", f"the logical block size is {size}")
