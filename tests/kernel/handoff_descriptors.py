#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The checks of handoff_descriptors_test, one for each run."""

import contextlib
import ctypes
import os
import socket
import stat
import struct
import sys
import tempfile
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "e2e"))
from handoff_client import ANSWER, ERROR, PATIENCE, Control, Server, request, start_server
from handoff_client import wait_until

LOCAL = 1  # VMADDR_CID_LOCAL


@contextlib.contextmanager
def server():
    with tempfile.TemporaryDirectory(prefix="nbdkit-kernel-") as folder:
        running = Server(folder, "control", "memory", "1M")
        yield running
        running.stop()


def vsock_pair():
    listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    listener.bind((LOCAL, socket.VMADDR_PORT_ANY))
    listener.listen()
    ours = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    ours.settimeout(PATIENCE)
    ours.connect((LOCAL, listener.getsockname()[1]))
    return ours, listener.accept()[0]


def exchange(client):
    assert request(client, 1, 0, 100000, b"v" * 100000) == (0, b"")
    assert request(client, 0, 0, 100000) == (0, b"v" * 100000)


def give(control, descriptor, mode="transmission"):
    return control.ask([descriptor], verb="serve", mode=mode)


def check_served():
    with server() as running:
        control = running.control()
        ours, theirs = vsock_pair()
        kind, answer = give(control, theirs.fileno())
        assert kind == ANSWER, answer
        theirs.close()
        exchange(ours)
        ours.close()


def check_handshake():
    import nbd

    with server() as running:
        control = running.control()
        ours, theirs = vsock_pair()
        kind, answer = give(control, theirs.fileno(), mode="handshake")
        assert kind == ANSWER, answer
        theirs.close()
        handle = nbd.NBD()
        ours.setblocking(True)
        handle.connect_socket(ours.detach())
        handle.pwrite(b"v" * 4096, 0)
        assert handle.pread(4096, 0) == b"v" * 4096
        handle.shutdown()


def check_inherited():
    ours, theirs = vsock_pair()
    number = theirs.fileno()
    process = start_server(f"--fd={number},mode=transmission", "memory", "1M", pass_fds=[number])
    theirs.close()
    exchange(ours)
    ours.close()
    assert process.wait(PATIENCE) == 0


def check_refused():
    with server() as running:
        control = running.control()
        listening = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        listening.bind((LOCAL, socket.VMADDR_PORT_ANY))
        listening.listen()
        alone = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        for one, words in ((listening, "a listening socket (vsock)"),
                           (alone, "an unconnected socket (vsock)")):
            kind, answer = give(control, one.fileno())
            assert (kind, answer["code"]) == (ERROR, "bad-descriptor"), answer
            assert words in answer["message"], answer
        ours, theirs = vsock_pair()
        assert give(control, theirs.fileno())[0] == ANSWER
        exchange(ours)


class HangingFiles:
    """A FUSE file system of one file. What another process closes is not answered until release()."""

    LOOKUP, GETATTR, OPEN, RELEASE, FLUSH, INIT = 1, 3, 14, 18, 25, 26

    def __init__(self, folder):
        self.folder = folder
        self.device = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self.device},rootmode=40000,user_id=0,group_id=0".encode()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"hanging", folder.encode(), b"fuse", 0, options) != 0:
            raise OSError(ctypes.get_errno(), "mount")
        self.hanging = threading.Event()
        self.holds = True
        self.held = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                packet = os.read(self.device, 1 << 17)
            except OSError:
                return
            _, code, unique, node, _, _, pid, _ = struct.unpack_from("<IIQQIIII", packet)
            foreign = not os.path.exists(f"/proc/self/task/{pid}")
            if code == self.FLUSH and foreign and self.holds:
                self.held.append(unique)
                self.hanging.set()
            elif code != 2:  # FORGET has no answer.
                self.answer(unique, *self.body_of(code, node))

    def answer(self, unique, error, body=b""):
        os.write(self.device, struct.pack("<IiQ", 16 + len(body), error, unique) + body)

    def body_of(self, code, node):
        if code == self.INIT:
            return 0, struct.pack("<IIIIHHIIHH32x", 7, 31, 1 << 16, 0, 8, 8, 1 << 16, 1, 0, 0)
        if code == self.LOOKUP:
            return 0, struct.pack("<QQQQII", 2, 0, 60, 60, 0, 0) + self.attributes(2)
        if code == self.GETATTR:
            return 0, struct.pack("<QII", 60, 0, 0) + self.attributes(node)
        if code == self.OPEN:
            return 0, struct.pack("<QII", 1, 0, 0)
        if code in (self.RELEASE, self.FLUSH):
            return 0, b""
        return -38, b""  # ENOSYS

    @staticmethod
    def attributes(node):
        mode = stat.S_IFDIR | 0o755 if node == 1 else stat.S_IFREG | 0o644
        return struct.pack("<6Q10I", node, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def release(self):
        self.holds = False
        while self.held:
            self.answer(self.held.pop(), 0)

    def unmount(self):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.umount2(self.folder.encode(), 2) != 0:  # MNT_DETACH
            raise OSError(ctypes.get_errno(), "umount2")
        os.close(self.device)


def files_of(pid, folder):
    """The process's descriptors of files in this folder."""
    found = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{pid}/fd/{number}"))
    return [name for name in found if name.startswith(folder)]


def check_fuse():
    with tempfile.TemporaryDirectory(prefix="nbdkit-kernel-") as folder, server() as running:
        files = HangingFiles(folder)
        control = running.control()
        file = os.open(os.path.join(folder, "file"), os.O_RDWR)
        kind, answer = give(control, file)
        assert (kind, answer["code"]) == (ERROR, "bad-descriptor"), answer
        assert "the descriptor is not a socket" in answer["message"], answer
        assert files.hanging.wait(PATIENCE), "the server has not begun to close it"

        # While that hangs in the kernel: all else goes on, and what is refused is closed.
        assert control.ask(verb="query")[0] == ANSWER
        clients = []
        for _ in range(40):
            client, kind, answer = control.serve(mode="transmission")
            assert kind == ANSWER, answer
            clients.append(client)
        for client in clients:
            assert request(client, 0, 0, 512) == (0, bytes(512))
        refused, kind, answer = control.serve(mode="transmission", size=1)
        assert (kind, answer["code"]) == (ERROR, "mismatch"), answer
        assert refused.recv(1) == b""
        kind, answer = give(control, file)
        assert (kind, answer["code"]) == (ERROR, "bad-descriptor"), answer
        assert control.ask(verb="query")[0] == ANSWER
        for client in clients:
            client.close()
        files.release()
        wait_until(lambda: not files_of(running.process.pid, folder))
        os.close(file)
        files.unmount()


def main():
    globals()["check_" + sys.argv[1]]()


if __name__ == "__main__":
    main()
