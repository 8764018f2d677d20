/* sendfile(2), in a loop: what the socket takes of a file now. transport/plain.py has it for what Python sends.
 *
 * Some file systems and sandboxes have no sendfile; there a file is read and sent from the same offset. */
#ifndef FASTWS_SENDFILE_H
#define FASTWS_SENDFILE_H

#include <errno.h>
#include <stddef.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#define FASTWS_PIECE_BYTES 32768 /* on the stack */

/* A file that is being sent: the next byte, and how many are left. */
typedef struct {
    int fd;
    off_t offset;
    size_t left;
} fastws_file;

/* Whether the error says that there is no sendfile for this file here, as plain.py has it. */
static inline int fastws_lacks_sendfile(int error) {
    return error == EINVAL || error == ENOSYS || error == EPERM || error == EOVERFLOW || error == EOPNOTSUPP;
}

/* As sendfile(2). */
static inline ssize_t fastws_read_and_send(int socket, int file, off_t *offset, size_t count) {
    char piece[FASTWS_PIECE_BYTES];
    ssize_t sent = pread(file, piece, count < sizeof(piece) ? count : sizeof(piece), *offset);
    if (sent <= 0) return sent;
    sent = send(socket, piece, (size_t)sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) *offset += sent;
    return sent;
}

/* Sends at most budget bytes, and moves the file's place by them; by sendfile if that is wanted. Returns 1 if the
 * socket may take more later, or the budget was too small; 0 if that was all, or nothing more can come of it: an
 * error, or the end of a file that has shrunk. */
static inline int fastws_send_file(int socket, fastws_file *file, size_t budget, int by_sendfile) {
    while (file->left) {
        size_t count = file->left < budget ? file->left : budget;
        ssize_t sent;
        if (!budget) return 1;
        sent = by_sendfile ? sendfile(socket, file->fd, &file->offset, count)
                           : fastws_read_and_send(socket, file->fd, &file->offset, count);
        if (sent < 0 && errno == EAGAIN) return 1;
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && by_sendfile && fastws_lacks_sendfile(errno)) {
            by_sendfile = 0;
            continue;
        }
        if (sent <= 0) return 0;
        file->left -= (size_t)sent;
        budget -= (size_t)sent;
    }
    return 0;
}

#endif
