#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""With several sockets a request that is slower than the timer kills its socket, then the next one it
is sent on, and ends with EIO, though every server is well."""
from driver import CAN_MULTI_CONN, SERVER_FLAGS, TIMEOUT, Netlink, Read, Server, conclude, u64

control, servers = Netlink(), [Server(), Server()]
control.connect(*[server.kernel_end for server in servers], settings=u64(TIMEOUT, 1) + u64(SERVER_FLAGS, CAN_MULTI_CONN))
for server in servers:
    server.delay = 4
read = Read().result()
control.disconnect()
conclude(read.error == 5, f"a read that takes 4 s and has a timer of 1 s: errno {read.error} after {read.took:.1f} s")
