"""Runs a command on a terminal of its own and types at it, as a person would.

Usage: terminal.py COMMAND...   where the command gives an interactive shell, which is told to end with 7.
"""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time

PATIENCE_S = 60


class Terminal:
    def __init__(self, command, rows, columns):
        self.keyboard, self.screen = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.screen)
        self.seen = ""
        self.child = subprocess.Popen(
            command, stdin=self.screen, stdout=self.screen, stderr=self.screen,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, rows, columns):
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.keyboard, termios.TIOCSWINSZ, size)

    def type(self, keys):
        self.seen = ""
        os.write(self.keyboard, keys.encode())

    def shows(self, text, within_s=PATIENCE_S):
        until = time.monotonic() + within_s
        while text not in self.seen:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.keyboard], [], [], left)[0]:
                return False
            self.seen += os.read(self.keyboard, 4096).decode(errors="replace")
        return True

    def must_show(self, text):
        if not self.shows(text):
            sys.exit(f"{text!r} was not shown, but {self.seen!r}")


def main():
    terminal = Terminal(sys.argv[1:], 40, 123)
    # What is typed is shown as well: the quotes tell the answer from the question.
    terminal.type("echo be''gun; /bin/busybox stty size\n")
    terminal.must_show("begun")
    terminal.must_show("40 123")

    # A new size is told to the command, in a while.
    terminal.resize(30, 100)
    until = time.monotonic() + PATIENCE_S
    while not terminal.shows("30 100", 1):
        if time.monotonic() > until:
            sys.exit(f"the new size was not told: {terminal.seen!r}")
        terminal.type("/bin/busybox stty size\n")

    # Ctrl-C is for the command, not for whoever carries it there.
    terminal.type("echo sle''eps; /bin/busybox sleep 1000\n")
    terminal.must_show("sleeps")
    time.sleep(0.5)
    terminal.type("\x03")
    terminal.type("echo al''ive\n")
    terminal.must_show("alive")

    terminal.type("exit 7\n")
    code = terminal.child.wait(PATIENCE_S)
    if code != 7:
        sys.exit(f"it ended with {code}, not 7: {terminal.seen!r}")
    if termios.tcgetattr(terminal.screen) != terminal.before:
        sys.exit("the terminal was not left as it was found")
    print("all as it should be")


main()
