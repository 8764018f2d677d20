/* openat2(2): open and read what lies below a directory, where no link leads.
 * The structure and the number are written here, for a C library may come without the kernel's headers (musl), or
 * with those of a kernel that did not have the call yet (before Linux 5.6). */
#ifndef FASTWS_OPEN_BENEATH_H
#define FASTWS_OPEN_BENEATH_H

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

#ifndef O_PATH
#define O_PATH O_RDONLY
#endif

#if defined(SYS_openat2)
#define FASTWS_SYS_OPENAT2 SYS_openat2
#elif defined(__linux__) && !defined(__alpha__)
#define FASTWS_SYS_OPENAT2 437 /* on every architecture but Alpha */
#endif

/* struct open_how and two of its flags, linux/openat2.h */
typedef struct {
    uint64_t flags;
    uint64_t mode;
    uint64_t resolve;
} fastws_open_how;

#define FASTWS_RESOLVE_NO_SYMLINKS 0x04
#define FASTWS_RESOLVE_BENEATH 0x08

/* Opens for reading; -1 with errno, which is ENOSYS where the system does not have the call. A FIFO does not block,
 * and a terminal does not become the controlling one. */
static inline int fastws_open_beneath(int directory, const char *path) {
#ifdef FASTWS_SYS_OPENAT2
    fastws_open_how how = {0};
    how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    how.resolve = FASTWS_RESOLVE_BENEATH | FASTWS_RESOLVE_NO_SYMLINKS;
    return (int)syscall(FASTWS_SYS_OPENAT2, directory, path, &how, sizeof(how));
#else
    (void)directory;
    (void)path;
    errno = ENOSYS;
    return -1;
#endif
}

/* Opens a regular file of at most most bytes below the directory root, and writes its status. -1 if there is none:
 * errno is that of the call that failed, 0 for a file of another kind or size. */
static inline int fastws_open_regular(const char *root, const char *path, size_t most, struct stat *status) {
    int directory = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC), fd, error;
    if (directory < 0) return -1;
    fd = fastws_open_beneath(directory, path);
    error = errno;
    close(directory);
    if (fd < 0) {
        errno = error;
    } else if (fstat(fd, status) != 0 || !S_ISREG(status->st_mode) || (size_t)status->st_size > most) {
        close(fd);
        fd = -1;
        errno = 0;
    }
    return fd;
}

/* Reads a file of size bytes, no longer and no shorter: what /proc makes up is longer than it says. */
static inline int fastws_read_whole(int fd, char *body, size_t size) {
    char beyond;
    struct iovec parts[2] = {{body, size}, {&beyond, 1}};
    return preadv(fd, parts, 2, 0) == (ssize_t)size;
}

#endif
