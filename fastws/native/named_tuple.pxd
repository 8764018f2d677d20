# Named tuples made from C.

cdef extern from *:
    """
    static PyObject *fastws_alloc_tuple(PyObject *type, Py_ssize_t size) {
        return ((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, size);
    }
    """
    # A tuple subclass's instance with empty items, without the cost of calling the class.
    tuple fastws_alloc_tuple(object cls, Py_ssize_t size)
