# SPDX-License-Identifier: BSD-3-Clause
"""Clients that write, read and compare all the time, and want nothing else to happen."""

import selectors
import socket
import struct
import threading

PATIENCE = 60
SLOT = 24 * 1024
SLOTS = 24


def pattern(number, version):
    return struct.pack("<IQ", number, version) * (SLOT // 12)


class Bare(threading.Thread):
    """A client without a handshake: SLOTS requests under way on one socket. Each slot is written,
    read and compared in turn."""

    def __init__(self, client, base):
        super().__init__(daemon=True)
        self.client, self.base = client, base
        self.client.setblocking(False)
        self.versions = [0] * SLOTS
        self.reading = [False] * SLOTS
        self.out, self.incoming = bytearray(), bytearray()
        self.rounds = 0
        self.stopping = False
        self.failure = None
        self.moved = threading.Condition()

    def ask(self, number):
        command = 0 if self.reading[number] else 1
        if command == 1:
            self.versions[number] += 1
        offset = self.base + number * SLOT
        self.out += struct.pack(">IHHQQI", 0x25609513, 0, command, number, offset, SLOT)
        if command == 1:
            self.out += pattern(number + self.base, self.versions[number])

    def take_replies(self):
        while len(self.incoming) >= 16:
            magic, error, number = struct.unpack_from(">IIQ", self.incoming)
            assert (magic, error) == (0x67446698, 0), (hex(magic), error)
            length = 16 + (SLOT if self.reading[number] else 0)
            if len(self.incoming) < length:
                return
            if self.reading[number]:
                expected = pattern(number + self.base, self.versions[number])
                assert self.incoming[16:length] == expected, f"slot {number} has lost a write"
            del self.incoming[:length]
            self.reading[number] = not self.reading[number]
            with self.moved:
                self.rounds += 1
                self.moved.notify_all()
            self.under_way -= 1
            if not self.stopping:
                self.under_way += 1
                self.ask(number)

    def run(self):
        try:
            self.under_way = SLOTS
            for number in range(SLOTS):
                self.ask(number)
            selector = selectors.DefaultSelector()
            selector.register(self.client, selectors.EVENT_READ)
            while self.under_way:
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.out else 0)
                selector.modify(self.client, events)
                ready = selector.select(PATIENCE)
                assert ready, "the server is silent"
                if ready[0][1] & selectors.EVENT_READ:
                    part = self.client.recv(1 << 20)
                    assert part, "the server has closed the connection"
                    self.incoming += part
                    self.take_replies()
                if self.out and ready[0][1] & selectors.EVENT_WRITE:
                    # Odd lengths, so that a restart finds requests that are cut anywhere.
                    del self.out[: self.client.send(self.out[:9973])]
        except BaseException as failure:
            self.failure = failure
            raise

    def wait_for(self, rounds):
        with self.moved:
            goal = self.rounds + rounds
            assert self.moved.wait_for(lambda: self.rounds >= goal or self.failure, PATIENCE), "no progress"
        assert self.failure is None, self.failure

    def finish(self):
        self.stopping = True
        self.join(PATIENCE)
        assert not self.is_alive() and self.failure is None, self.failure


class Negotiated(Bare):
    """The same with libnbd: a handshake, structured replies and a context, one request at a time."""

    def __init__(self, handle, base):
        super().__init__(socket.socket(), base)
        self.handle = handle

    def run(self):
        try:
            while not self.stopping:
                number = self.rounds % SLOTS
                self.versions[number] += 1
                data = pattern(number + self.base, self.versions[number])
                self.handle.pwrite(data, self.base + number * SLOT)
                assert self.handle.pread(SLOT, self.base + number * SLOT) == data
                entries = []
                self.handle.block_status(SLOT, self.base + number * SLOT, lambda _, __, e, ___: entries.extend(e) or 0)
                assert entries[0] >= 1, entries
                with self.moved:
                    self.rounds += 1
                    self.moved.notify_all()
        except BaseException as failure:
            self.failure = failure
            raise

    def wait_for(self, rounds):
        super().wait_for(max(1, rounds // 20))
