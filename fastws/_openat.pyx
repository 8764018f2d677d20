# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Opening below a directory without following a link, by one openat2(2). Twin of ``_openat_py.py``.

The contract of both is ``backend.Opener``. A kernel older than 5.6, or a filter of system calls, may not have
openat2; then the twin's walk does it.
"""

import os
import sys

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_SET_ITEM
from libc.errno cimport EAGAIN, EINTR, ENOENT, ENOSYS, EPERM, errno
from libc.string cimport strlen
from posix.unistd cimport close

from .native.named_tuple cimport fastws_alloc_tuple
from .native.open_beneath cimport fastws_open_beneath, fastws_open_regular, fastws_read_whole
from .native.stat cimport FASTWS_CTIME_NS, FASTWS_MTIME_NS, fstat, stat_t

from . import _openat_py
from .http.messages import Identity

cdef extern from "Python.h":
    bytes PyUnicode_EncodeFSDefault(str text)

side = "compiled"
DEEPEST = sys.maxsize  # how deep does not matter to openat2


def open_beneath(int directory, str path):
    """See ``backend.Opener.open_beneath``."""
    cdef bytes name = PyUnicode_EncodeFSDefault(path) if path else b"."
    cdef const char *name_ = PyBytes_AS_STRING(name)
    cdef int fd = -1, error = EINTR
    if <Py_ssize_t>strlen(name_) != PyBytes_GET_SIZE(name):
        raise ValueError("embedded null byte")
    while fd < 0 and error == EINTR:
        with nogil:
            fd = fastws_open_beneath(directory, name_)
            error = errno
    if fd >= 0 or error == ENOENT:
        return fd
    if _is_refused(error):
        return _openat_py.open_beneath(directory, path)
    raise OSError(error, os.strerror(error), path)


def read_beneath(bytes root, bytes path, size_t most):
    """See ``backend.Opener.read_beneath``."""
    cdef const char *root_ = PyBytes_AS_STRING(root)
    cdef const char *path_ = PyBytes_AS_STRING(path)
    cdef stat_t before, after
    cdef int fd, error
    cdef bint is_whole
    cdef bytes body
    cdef char *body_
    with nogil:
        fd = fastws_open_regular(root_, path_, most, &before)
        error = errno
    if fd < 0:
        return _openat_py.read_beneath(root, path, most) if _is_refused(error) else None
    try:
        body = PyBytes_FromStringAndSize(NULL, before.st_size)
        body_ = PyBytes_AS_STRING(body)
        with nogil:
            is_whole = (
                fastws_read_whole(fd, body_, before.st_size)
                and fstat(fd, &after) == 0
                and after.st_size == before.st_size
                and FASTWS_MTIME_NS(after) == FASTWS_MTIME_NS(before)
                and FASTWS_CTIME_NS(after) == FASTWS_CTIME_NS(before)
            )
    finally:
        close(fd)
    return (body, _identity(&before)) if is_whole else None


def look(int fd):
    """See ``backend.Opener.look``."""
    cdef stat_t status
    cdef int failed
    with nogil:
        failed = fstat(fd, &status)
    if failed:
        raise OSError(errno, os.strerror(errno))
    return status.st_mode, _identity(&status)


cdef bint _is_refused(int error) noexcept:
    """Tell whether openat2 is not to be had, and the twin may do better."""
    # EPERM is what a filter may say; with EAGAIN the kernel is not sure, for something was renamed meanwhile.
    return error == ENOSYS or error == EPERM or error == EAGAIN


cdef tuple _identity(stat_t *status):
    cdef tuple identity = fastws_alloc_tuple(Identity, 5)
    _put(identity, 0, status.st_dev)
    _put(identity, 1, status.st_ino)
    _put(identity, 2, status.st_size)
    _put(identity, 3, FASTWS_MTIME_NS(status[0]))
    _put(identity, 4, FASTWS_CTIME_NS(status[0]))
    return identity


cdef int _put(tuple identity, Py_ssize_t place, object number) except -1:
    Py_INCREF(number)
    PyTuple_SET_ITEM(identity, place, number)
    return 0
