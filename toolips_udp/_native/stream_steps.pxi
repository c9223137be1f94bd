"""Steps of a handler that waits for its client, without its task in between.

A task that is woken goes through its own machinery and through every coroutine
between it and the handler. A handler that reads a line, answers and reads the
next one does not need them: when bytes come, its own coroutine is resumed, as
the task, and the task goes on believing that it waits. For everything else - the
handler awaits something else, returns, raises, is cancelled - the task is woken and
finds here what the handler said.
"""


cdef enum:
    YIELDED = 1
    RETURNED = 2
    RAISED = 3


cdef class Steps:
    """`await Steps(coro)` is `await coro`."""

    cdef object _coro, _task, _loop, _said
    cdef int _how  # what `_said` is, 0: nothing is left to say

    def __init__(self, coro):
        self._coro = coro

    def __await__(self):
        self._task = current_task()
        self._loop = self._task.get_loop()
        return self

    def __iter__(self):
        return self

    cdef int resume(self) except -1:
        """One step of the handler; what it said is in `_said`."""
        cdef PyObject *said = NULL
        cdef int how
        try:
            how = PyIter_Send(self._coro, None, &said)
        except BaseException as error:
            self._how, self._said = RAISED, error
            return 0
        self._said = <object>said
        Py_DECREF(self._said)
        self._how = YIELDED if how == 1 else RETURNED
        return 0

    cdef bint again(self, Wake wake) except -1:
        """Resume the handler in place. True when it waits for its client again."""
        _enter_task(self._loop, self._task)
        try:
            self.resume()
        finally:
            _leave_task(self._loop, self._task)
        if self._how == YIELDED and self._said is wake:
            wake._steps = self
            if not wake._turned:
                wake._asyncio_future_blocking = False
                self._said = None
                self._how = 0
            return True
        return False

    cdef object take(self):
        said = self._said
        self._said = None
        self._how = 0
        if type(said) is Wake:
            (<Wake>said)._steps = self
        return said

    def __next__(self):
        """For tracers and debuggers, which do not use `am_send`."""
        if not self._how:
            self.resume()
        how = self._how
        said = self.take()
        if how == YIELDED:
            return said
        if how == RAISED:
            raise said
        raise StopIteration(said)

    def send(self, value):
        return self.__next__()

    def throw(self, *error):
        """Into the handler. What it waits for outside its task's knowledge is cancelled as the task would."""
        if self._how == RETURNED or self._how == RAISED:
            return self.__next__()  # it has ended: too late
        if self._how == YIELDED:
            said = self.take()
            if said is not None and said.cancel():
                return said
        said = self._coro.throw(*error)
        if type(said) is Wake:
            (<Wake>said)._steps = self
        return said

    def close(self):
        self._coro.close()


cdef int send_steps(Steps self, object value, PyObject **result) noexcept:
    """`am_send`, as for `Messages`."""
    cdef int how
    try:
        if not self._how:
            self.resume()
        how = self._how
        said = self.take()
        if how == RAISED:
            raise said
    except BaseException as error:
        PyErr_SetObject(type(error), error)
        return -1
    Py_INCREF(said)
    result[0] = <PyObject *>said
    return 1 if how == YIELDED else 0
