# SPDX-License-Identifier: BSD-3-Clause
"""What tests of the handoff protocol share: a client written from docs/handoff-protocol.md, a server
process, and the requests of the transmission phase."""

import atexit
import contextlib
import json
import os
import select
import socket
import struct
import subprocess
import time

SERVER = os.path.join(os.environ["BUILD"], "bin", "nbdkit")
HEADER = struct.Struct(">4sHHIIQ")
REQUEST, ANSWER, ERROR, EVENT = 1, 2, 3, 4
PATIENCE = 60


class Control:
    """One control socket."""

    def __init__(self, connected):
        self.socket = connected
        self.socket.settimeout(PATIENCE)
        self.sequence = 0

    @classmethod
    def connect(cls, path):
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connected.connect(path)
        return cls(connected)

    def send(self, descriptors=(), **body):
        self.sequence += 1
        text = json.dumps(body).encode()
        header = HEADER.pack(b"NBDH", 1, REQUEST, 1 if descriptors else 0, len(text), self.sequence)
        socket.send_fds(self.socket, [header + text], descriptors)

    def receive(self):
        """Kind, sequence, body and descriptor (or None) of the next message."""
        packet, descriptors, _, _ = socket.recv_fds(self.socket, 65536, 2)
        assert packet, "the server closed the control socket"
        magic, version, kind, flags, length, sequence = HEADER.unpack_from(packet)
        assert (magic, version, flags) == (b"NBDH", 1, len(descriptors)), packet
        assert length == len(packet) - HEADER.size, packet
        return kind, sequence, json.loads(packet[HEADER.size :]), (descriptors or [None])[0]

    def ask(self, descriptors=(), **body):
        """The kind and the body of the answer."""
        kind, answer, _ = self.ask_for_descriptor(descriptors, **body)
        return kind, answer

    def ask_for_descriptor(self, descriptors=(), **body):
        self.send(descriptors, **body)
        kind, sequence, answer, descriptor = self.receive()
        assert sequence == self.sequence, answer
        return kind, answer, descriptor

    def serve(self, **body):
        """A client socket whose other end has been given away, and the answer."""
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE)
        kind, answer = self.ask([theirs.fileno()], verb="serve", **body)
        theirs.close()
        return ours, kind, answer

    def close(self):
        self.socket.close()


def start_server(*arguments, pass_fds=(), **options):
    process = subprocess.Popen([SERVER, "-f", *arguments], pass_fds=pass_fds, **options)
    atexit.register(process.kill)  # A test that fails leaves none behind.
    return process


def start_ready_server(name, *arguments, **options):
    """Returns when the server is ready. Its pid file is a pipe beside `name`."""
    ready = name + ".ready"
    os.mkfifo(ready)
    pipe = os.open(ready, os.O_RDONLY | os.O_NONBLOCK)
    process = start_server("-P", ready, *arguments, **options)
    end = os.pidfd_open(process.pid)
    told, _, _ = select.select([pipe, end], [], [], PATIENCE)
    assert told == [pipe], "the server has not started"
    os.close(pipe)
    os.close(end)
    os.unlink(ready)
    return process


class Server:
    """Listens for control sockets at `path`; ready when the object is there."""

    def __init__(self, folder, name, *arguments, **options):
        self.path = os.path.join(folder, name)
        self.process = start_ready_server(self.path, "--handoff", self.path, *arguments, **options)

    def control(self):
        return Control.connect(self.path)

    def stop(self):
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0
        assert not os.path.exists(self.path), "the control socket is still there"

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory(self):
        """Bytes of its own that are in memory."""
        with open(f"/proc/{self.process.pid}/status") as status:
            line = next(line for line in status if line.startswith("RssAnon:"))
        return int(line.split()[1]) * 1024

    def threads(self):
        return len(os.listdir(f"/proc/{self.process.pid}/task"))


@contextlib.contextmanager
def acting_as(uid):
    """Whoever connects meanwhile is that user for the server. Only root can be somebody else."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def receive(client, length):
    data = b""
    while len(data) < length:
        part = client.recv(length - len(data))
        assert part, "the server closed the connection"
        data += part
    return data


def request(client, command, offset, length, payload=b""):
    """A request of the transmission phase; the error and the data of its simple reply."""
    client.sendall(struct.pack(">IHHQQI", 0x25609513, 0, command, 77, offset, length) + payload)
    magic, error, cookie = struct.unpack(">IIQ", receive(client, 16))
    assert (magic, cookie) == (0x67446698, 77)
    return error, receive(client, length) if command == 0 and error == 0 else b""
