#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A request that was sent on a socket which dies is not sent again when there is a new socket: it
waits for its own timer (queue/io_timeout, 30 s by default). New requests go on at once."""
from driver import DEAD_CONN_TIMEOUT, TIMEOUT, Netlink, Read, Server, conclude, queue, u64

control, first = Netlink(), Server()
control.connect(first.kernel_end, settings=u64(TIMEOUT, 0) + u64(DEAD_CONN_TIMEOUT, 60))
queue("io_timeout", 4000)
first.fall_silent()
sent = Read()
first.arrived.wait()
first.die()
control.replace_dead()
newer = Read(1 << 20).result()
sent.result()
control.disconnect()
conclude(newer.error is None and sent.error is None and newer.took < sent.took > 2,
         f"a newer read took {newer.took:.1f} s, the one that had been sent {sent.took:.1f} s")
