"""A stand-in for a service manager: it keeps the sockets that a service gives it, and starts that anew with them.

Usage: manager.py COMMAND...

It is told by lines: `restart` (as asked to end), `crash` (killed), `kept`, `stop`. After each, and at first, it says one
line: `ready STATUS`, `kept NAMES` or `stopped CODE`. Its service ends with it.
"""

import array
import ctypes
import os
import select
import signal
import socket
import sys

PATIENCE_S = 60
FIRST = 3
HIGH = 500
PR_SET_PDEATHSIG = 1


class Manager:
    def __init__(self, command):
        self.command = command
        self.kept = []
        self.child = None
        self.ended = None
        name = f"muster-test-manager-{os.getpid()}"
        self.told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.told.bind("\0" + name)
        self.address = "@" + name

    def start(self):
        """Starts the service with what is kept, and waits until it says that it is ready."""
        copies = [os.dup(fd) for _, fd in self.kept]
        self.child = os.fork()
        if self.child == 0:
            self.become([name for name, _ in self.kept], copies)
        for copy in copies:
            os.close(copy)
        self.ended = os.pidfd_open(self.child)
        self.until(lambda tags: "READY=1" in tags)

    def become(self, names, copies):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        environment = {**os.environ, "NOTIFY_SOCKET": self.address}
        high = []
        for i, fd in enumerate(copies):
            os.dup2(fd, HIGH + i, inheritable=False)
            high.append(HIGH + i)
        for i, fd in enumerate(high):
            os.dup2(fd, FIRST + i, inheritable=True)
        if names:
            environment["LISTEN_PID"] = str(os.getpid())
            environment["LISTEN_FDS"] = str(len(names))
            environment["LISTEN_FDNAMES"] = ":".join(names)
        os.execvpe(self.command[0], self.command, environment)

    def until(self, so):
        """Listens until this is so of a word, or, where `so` is none, until the service has ended."""
        while True:
            found = select.select([self.told, self.ended], [], [], PATIENCE_S)[0]
            if not found:
                sys.exit("the service takes too long")
            # What it said last counts, also if it has ended by now.
            if self.told in found:
                tags = self.hear()
                if so is not None and so(tags):
                    status = [tag for tag in tags if tag.startswith("STATUS=")]
                    print("ready", *(text.partition("=")[2] for text in status), flush=True)
                    return None
            elif so is None:
                os.close(self.ended)
                return os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])
            else:
                sys.exit("the service ended before it was ready")

    def hear(self):
        text, control, _, _ = self.told.recvmsg(1 << 16, socket.CMSG_SPACE(4 * 253))
        fds = array.array("i")
        for level, kind, content in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(content)
        tags = text.decode().splitlines()
        name = next((tag.partition("=")[2] for tag in tags if tag.startswith("FDNAME=")), "stored")
        if "FDSTOREREMOVE=1" in tags:
            for _, fd in filter(lambda one: one[0] == name, self.kept):
                os.close(fd)
            self.kept = [one for one in self.kept if one[0] != name]
        elif "FDSTORE=1" in tags:
            # The same one is kept once, by its first name.
            known = {os.fstat(fd).st_ino for _, fd in self.kept}
            for fd in fds:
                if os.fstat(fd).st_ino in known:
                    os.close(fd)
                else:
                    os.set_inheritable(fd, False)
                    self.kept.append((name, fd))
        return tags

    def end(self, how):
        os.kill(self.child, how)
        return self.until(None)


def main():
    manager = Manager(sys.argv[1:])
    manager.start()
    try:
        for word in map(str.strip, sys.stdin):
            if word == "kept":
                while select.select([manager.told], [], [], 0.2)[0]:
                    manager.hear()
                print("kept", *sorted(name for name, _ in manager.kept), flush=True)
            elif word in ("restart", "crash"):
                code = manager.end(signal.SIGTERM if word == "restart" else signal.SIGKILL)
                if word == "restart" and code != 0:
                    sys.exit(f"the service ended with {code}")
                manager.start()
            elif word == "stop":
                print("stopped", manager.end(signal.SIGTERM), flush=True)
                return
    finally:
        # Also when whoever told us what to do is gone.
        try:
            os.kill(manager.child, signal.SIGKILL)
        except ProcessLookupError:
            pass


main()
