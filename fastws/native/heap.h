/* mallopt(3). */
#ifndef FASTWS_HEAP_H
#define FASTWS_HEAP_H

#include <stdlib.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

/* Have threads that start from now on share the first heap; other libraries than glibc have one anyway. */
static inline void fastws_share_one_heap(void) {
#ifdef __GLIBC__
    mallopt(M_ARENA_MAX, 1);
#endif
}

#endif
