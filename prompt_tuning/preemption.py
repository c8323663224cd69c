"""Whether this job was told to stop, and how it says that it did.

A scheduler that wants the machine sends SIGTERM and, half a minute later, SIGKILL. In
between there is time to finish a step, save, and leave with a status that means "the same
command continues".
"""

import contextlib
import math
import os
import signal
import socket
import threading
import time

import jax
from jax.experimental import multihost_utils

EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: try again
_ECHO = 1.0  # seconds in which a launcher and a process group may pass on the same signal


class Preempted(Exception):
  """The job was told to stop, and did so once its state was on disk.

  Attributes:
    step: Of that state.
  """

  def __init__(self, step: int):
    super().__init__(f"told to stop: saved at step {step}; the same command continues")
    self.step = step


class Preemption:
  """Listens for SIGTERM while it is entered.

  One process: the first SIGTERM is remembered, another a second later ends it at once.

  Several (`jax.distributed.initialize` comes first): JAX listens, and agrees on a step at
  which all stop, though only one was told. All must ask at every step.

  Outside the main thread no signal can be taken over: SIGTERM does what it did before.
  """

  def __init__(self) -> None:
    self._told = threading.Event()
    self._listening = False
    self._undo = contextlib.ExitStack()

  def reached(self, step: int) -> bool:
    """Whether to save the state after `step` updates, and stop."""
    if jax.distributed.is_initialized():
      return multihost_utils.reached_preemption_sync_point(step)
    return self._told.is_set()

  def __enter__(self) -> "Preemption":
    main = threading.current_thread() is threading.main_thread()
    if main and not jax.distributed.is_initialized():
      with contextlib.ExitStack() as undo:
        self._listen(undo)
        self._undo = undo.pop_all()
    return self

  def __exit__(self, *_: object) -> None:
    self._listening = False
    self._undo.close()

  def _listen(self, undo: contextlib.ExitStack) -> None:
    # Python calls its handlers between two operations. A step that hangs in the device
    # never ends, so a thread counts the signals, which it has from the wakeup descriptor.
    inside, outside = socket.socketpair()
    inside.setblocking(False)
    thread = threading.Thread(target=self._count, args=(outside,), daemon=True)
    thread.start()
    undo.callback(outside.close)
    undo.callback(thread.join)
    undo.callback(inside.close)  # which ends the thread
    undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(inside.fileno()))
    previous = signal.signal(signal.SIGTERM, lambda *_: self._told.set())
    undo.callback(signal.signal, signal.SIGTERM, previous or signal.SIG_DFL)
    os.register_at_fork(after_in_child=self._leave_child)
    self._listening = True

  def _count(self, source: socket.socket) -> None:
    first = math.inf
    while number := source.recv(1):
      if number[0] == signal.SIGTERM:
        first = min(first, time.monotonic())
        if time.monotonic() - first > _ECHO:
          os._exit(128 + signal.SIGTERM)

  def _leave_child(self) -> None:
    """In a worker that was forked: SIGTERM is for it alone."""
    if self._listening:
      signal.set_wakeup_fd(-1)
      signal.signal(signal.SIGTERM, signal.SIG_DFL)
