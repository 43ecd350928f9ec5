#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Since 6.9 RECONFIGURE with another size waits for all requests. When one of them is on a socket that
is dead it waits for ever, with the lock that every generic netlink user needs. Only a reboot helps:
nothing but this is to run on that kernel."""
import threading
import time

from driver import DEAD_CONN_TIMEOUT, SIZE, SIZE_BYTES, TIMEOUT, Netlink, Read, Server, conclude, u64

control, first, second = Netlink(), Server(), Server()
control.connect(first.kernel_end, settings=u64(TIMEOUT, 0) + u64(DEAD_CONN_TIMEOUT, 3600))
first.fall_silent()
Read()
first.arrived.wait()
first.die()
threading.Thread(target=lambda: control.reconfigure(second.kernel_end, settings=u64(SIZE_BYTES, 2 * SIZE)), daemon=True).start()
time.sleep(1)
other = threading.Thread(target=lambda: Netlink().connected(), daemon=True)
other.start()
other.join(90)
conclude(other.is_alive(), "who only asks for the status " + ("hangs" if other.is_alive() else "is answered"))
