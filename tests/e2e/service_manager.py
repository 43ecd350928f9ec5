# SPDX-License-Identifier: BSD-3-Clause
"""What a service manager does for its services, as sd_notify(3) and sd_listen_fds(3) describe it:
it takes their messages, keeps their descriptors, and starts them with sockets."""

import os
import re
import signal
import socket
import struct
import threading

SERVER = os.path.join(os.environ["BUILD"], "bin", "nbdkit")
PATIENCE = 60
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "FDSTORE")


class Manager:
    """A notify socket, on a path or an abstract name ("@..."), and the descriptors it keeps."""

    def __init__(self, address):
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self.messages = []  # (pid, text)
        self.kept = {}  # name -> descriptors
        self.asked = self.caught_up = 0
        self.changed = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        size = socket.CMSG_SPACE(8 * 4) + socket.CMSG_SPACE(12)
        while True:
            text, ancillary, flags, _ = self.socket.recvmsg(65536, size, socket.MSG_CMSG_CLOEXEC)
            assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC), text
            descriptors, pid = [], 0
            for _, kind, data in ancillary:
                if kind == socket.SCM_CREDENTIALS:
                    pid = struct.unpack("=iii", data)[0]
                else:
                    descriptors = list(struct.unpack(f"={len(data) // 4}i", data))
            with self.changed:
                if pid == os.getpid():
                    self.caught_up = int(text)
                    self.changed.notify_all()
                    continue
                # What is closed lets its sender go on: by then the message is there to be seen.
                self.messages.append((pid, text.decode()))
                self._take(text.decode(), descriptors)
                self.changed.notify_all()

    def _take(self, text, descriptors):
        lines = text.split("\n")
        name = next((line[7:] for line in lines if line.startswith("FDNAME=")), "stored")
        if "FDSTORE=1" in lines:
            self.kept.setdefault(name, []).extend(descriptors)
            return
        if "FDSTOREREMOVE=1" in lines:
            descriptors += self.kept.pop(name)  # one that is not there is a mistake
        for descriptor in descriptors:
            os.close(descriptor)

    def wait(self, expression, pid=None, after=0):
        """The place of the first message, at `after` or later, that has such a line."""
        pattern = re.compile(expression)

        def find():
            for place, (sender, text) in enumerate(self.messages[after:], after):
                if pid in (None, sender) and any(pattern.fullmatch(line) for line in text.split("\n")):
                    return place
            return None

        with self.changed:
            assert self.changed.wait_for(lambda: find() is not None, PATIENCE), (expression, self.messages)
            return find()

    def catch_up(self):
        """Returns when all that has been sent until now is in `messages`: datagrams keep their order."""
        with self.changed:
            self.asked += 1
            mark = self.asked
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.connect(self.socket.getsockname())
            end.send(str(mark).encode())
        with self.changed:
            assert self.changed.wait_for(lambda: self.caught_up >= mark, PATIENCE), self.messages

    def start(self, arguments, sockets=(), names=None, environment=(), program=SERVER, standard=None, kept=True):
        """A service with these sockets, and all that is kept, as descriptors 3 and on."""
        passed = [(end.fileno(), "socket") for end in sockets]
        if kept:
            with self.changed:
                passed += [(fd, name) for name, fds in self.kept.items() for fd in fds]
        variables = {key: value for key, value in os.environ.items() if key not in _VARIABLES}
        variables["NOTIFY_SOCKET"] = self.address
        if passed:
            variables["LISTEN_FDS"] = str(len(passed))
            variables["LISTEN_FDNAMES"] = ":".join(name for _, name in passed) if names is None else names
        variables.update(environment)
        return Service([program, *arguments], [fd for fd, _ in passed], variables, standard or {}, self)


class Service:
    """A process, and what it has on descriptors 3 and on."""

    def __init__(self, command, descriptors, variables, standard, manager):
        self.manager = manager
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._become(command, descriptors, variables, standard)
            finally:
                os._exit(127)
        self.end = os.pidfd_open(self.pid)
        self.returncode = None

    @staticmethod
    def _become(command, descriptors, variables, standard):
        free = max([100, *descriptors, *standard.values()]) + 1
        spare = [os.dup2(fd, free + n, False) for n, fd in enumerate(descriptors)]
        for number, fd in standard.items():
            os.dup2(fd, number)
        for number, fd in enumerate(spare, 3):
            os.dup2(fd, number)
        os.closerange(3 + len(spare), free + len(spare))
        if "LISTEN_FDS" in variables:
            variables.setdefault("LISTEN_PID", str(os.getpid()))
        if "WATCHDOG_USEC" in variables:
            variables.setdefault("WATCHDOG_PID", str(os.getpid()))
        os.closerange(free, free + len(spare))
        os.execve(command[0], command, variables)

    def send_signal(self, number):
        signal.pidfd_send_signal(self.end, number)

    def wait(self):
        """The exit status; of a signal, its negative number. The manager has then all that it said."""
        if self.returncode is None:
            timer = threading.Timer(PATIENCE, lambda: self.send_signal(signal.SIGKILL))
            timer.start()
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            timer.cancel()
            self.manager.catch_up()
        return self.returncode

    def stop(self):
        self.send_signal(signal.SIGTERM)
        return self.wait()
