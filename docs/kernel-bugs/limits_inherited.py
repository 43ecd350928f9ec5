#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What one user set for a device is still there for the next one who says nothing: here the timer."""
from driver import TIMEOUT, Netlink, Server, conclude, queue, u64, wait_until_free

control, first, second = Netlink(), Server(), Server()
control.connect(first.kernel_end, settings=u64(TIMEOUT, 7))
control.disconnect()
wait_until_free()
control.connect(second.kernel_end)
timer = queue("io_timeout")
control.disconnect()
wait_until_free()
control.connect(Server().kernel_end, settings=u64(TIMEOUT, 0))
reset = queue("io_timeout")
control.disconnect()
conclude((timer, reset) == ("7000", "30000"), f"io_timeout is {timer} ms for who says nothing, {reset} for who says 0")
