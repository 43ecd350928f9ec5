# SPDX-License-Identifier: BSD-3-Clause
"""What the reproducers share: the driver's netlink family by hand (linux/nbd-netlink.h), and the
smallest server there is. As root, on a kernel with nbd; nothing but Python is needed."""

import contextlib
import mmap
import os
import socket
import struct
import sys
import threading
import time

CONNECT, DISCONNECT, RECONFIGURE, STATUS = 1, 2, 3, 5
INDEX, SIZE_BYTES, BLOCK_SIZE_BYTES, TIMEOUT, SERVER_FLAGS, SOCKETS, DEAD_CONN_TIMEOUT, DEVICE_LIST = 1, 2, 3, 4, 5, 7, 8, 9
_GENERIC, _CONTROL_FAMILY, _ERROR, _DONE = 16, 16, 2, 3
HAS_FLAGS, CAN_MULTI_CONN = 1, 1 | 1 << 8  # transmission flags, as in SERVER_FLAGS
SIZE = 16 << 20
NUMBER = 0  # /dev/nbd0
NODE = f"/dev/nbd{NUMBER}"


def attribute(kind, value):
    text = struct.pack("=HH", len(value) + 4, kind) + value
    return text + bytes(-len(text) % 4)


def u32(kind, value):
    return attribute(kind, struct.pack("=I", value))


def u64(kind, value):
    return attribute(kind, struct.pack("=Q", value))


def sockets(*ends):
    items = [attribute(1, u32(1, end.fileno())) for end in ends]
    return attribute(SOCKETS, b"".join(items))


class Netlink:
    """One request and its answers at a time. Raises OSError with the kernel's number."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _GENERIC)
        answer = self.ask(_CONTROL_FAMILY, 3, attribute(2, b"nbd\0"))
        self.family = struct.unpack("=H", dict(self.attributes(answer[0]))[1][:2])[0]

    def ask(self, family, command, text=b""):
        head = struct.pack("=BBH", command, 1, 0) + text
        self.socket.send(struct.pack("=IHHII", 16 + len(head), family, 0x5, 1, 0) + head)
        answers = []
        while True:
            packet = self.socket.recv(1 << 16)
            while packet:
                length, kind = struct.unpack_from("=IH", packet)
                if kind == _ERROR:
                    number = -struct.unpack_from("=i", packet, 16)[0]
                    if number:
                        raise OSError(number, os.strerror(number))
                    return answers
                answers.append(packet[20:length])
                packet = packet[(length + 3) & ~3:]

    @staticmethod
    def attributes(text):
        while text:
            length, kind = struct.unpack_from("=HH", text)
            yield kind & 0x3FFF, text[4:length]
            text = text[(length + 3) & ~3:]

    def connect(self, *ends, settings=b""):
        """The servers must answer: the kernel looks for partitions when the device is first opened."""
        self.ask(self.family, CONNECT, u32(INDEX, NUMBER) + u64(SIZE_BYTES, SIZE) + sockets(*ends) + settings)
        Read().result()

    def reconfigure(self, *ends, settings=b""):
        self.ask(self.family, RECONFIGURE, u32(INDEX, NUMBER) + (sockets(*ends) if ends else b"") + settings)

    def replace_dead(self):
        """The server on a new socket. Until the driver has noticed that the old one is dead, it drops it."""
        while True:
            server = Server()
            self.reconfigure(server.kernel_end)
            server.kernel_end.close()
            if not server.closed.wait(1):
                return server

    def disconnect(self):
        self.ask(self.family, DISCONNECT, u32(INDEX, NUMBER))

    def connected(self):
        (answer,) = self.ask(self.family, STATUS, u32(INDEX, NUMBER))
        for kind, devices in self.attributes(answer):
            if kind == DEVICE_LIST:
                for _, device in self.attributes(devices):
                    return dict(self.attributes(device))[2][0]
        return None


class Server(threading.Thread):
    """Answers reads with zeroes and says yes to everything else, each after `delay` seconds."""

    def __init__(self):
        super().__init__(daemon=True)
        self.kernel_end, self.end = socket.socketpair()
        self.delay = 0
        self.requests, self.closed = 0, threading.Event()
        self.arrived = threading.Event()
        self.answers = threading.Event()  # Cleared: it goes on reading and answers no more.
        self.answers.set()
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while len(request := self.end.recv(28, socket.MSG_WAITALL)) == 28:
                _, kind, cookie, _, length = struct.unpack(">IIQQI", request)
                if kind & 0xFFFF == 1:
                    self.end.recv(length, socket.MSG_WAITALL)
                self.requests += 1
                self.arrived.set()
                time.sleep(self.delay)
                self.answers.wait()
                self.end.sendall(struct.pack(">IIQ", 0x67446698, 0, cookie) + bytes(length if kind & 0xFFFF == 0 else 0))
        self.closed.set()

    def fall_silent(self):
        self.answers.clear()
        self.arrived.clear()

    def die(self):
        self.end.shutdown(socket.SHUT_RDWR)
        self.answers.set()
        self.closed.wait()


class Read(threading.Thread):
    """4 KiB of the device, past its page cache; `took` seconds, and the error's number."""

    def __init__(self, offset=0):
        super().__init__(daemon=True)
        self.offset, self.took, self.error = offset, None, None
        self.start()

    def run(self):
        start = time.monotonic()
        node = os.open(NODE, os.O_RDONLY | os.O_DIRECT)
        try:
            os.preadv(node, [mmap.mmap(-1, 4096)], self.offset)
        except OSError as error:
            self.error = error.errno
        finally:
            os.close(node)
        self.took = time.monotonic() - start

    def result(self):
        self.join(90)
        assert self.took is not None, "the read hangs"
        return self


def queue(name, value=None):
    with open(f"/sys/block/nbd{NUMBER}/queue/{name}", "r" if value is None else "w") as file:
        return file.read().strip() if value is None else file.write(str(value))


def wait_until_free():
    deadline = time.monotonic() + 60
    while os.path.exists(f"/sys/block/nbd{NUMBER}/pid"):
        assert time.monotonic() < deadline, "the device is not given back"
        time.sleep(0.01)


def conclude(seen, words):
    """The last line of every reproducer: status 0 when the kernel behaves as the page says."""
    print(("seen: " if seen else "NOT SEEN: ") + words)
    sys.stdout.flush()
    os._exit(not seen)  # Threads may hang in the kernel.
