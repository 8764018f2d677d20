/* sendfile(2), in a loop: what the socket takes of a file now. transport/plain.py has it for what Python sends. */
#ifndef FASTWS_SENDFILE_H
#define FASTWS_SENDFILE_H

#include <errno.h>
#include <stddef.h>
#include <sys/sendfile.h>
#include <sys/types.h>

/* A file that is being sent: the next byte, and how many are left. */
typedef struct {
    int fd;
    off_t offset;
    size_t left;
} fastws_file;

/* Sends at most budget bytes, and moves the file's place by them. Returns 1 if the socket may take more later,
 * or the budget was too small; 0 if that was all, or nothing more can come of it: an error, or the end of a
 * file that has shrunk. */
static inline int fastws_send_file(int socket, fastws_file *file, size_t budget) {
    while (file->left) {
        ssize_t sent;
        if (!budget) return 1;
        sent = sendfile(socket, file->fd, &file->offset, file->left < budget ? file->left : budget);
        if (sent < 0 && errno == EAGAIN) return 1;
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return 0;
        file->left -= (size_t)sent;
        budget -= (size_t)sent;
    }
    return 0;
}

#endif
