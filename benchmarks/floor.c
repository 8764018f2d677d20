/* The floor under every figure here: the least that a single-threaded server on epoll can do.
 *
 *     ./floor PORT BODY_BYTES [close]
 *
 * Answers every request head on 127.0.0.1:PORT with one prebuilt response, whatever was asked: no parsing,
 * no files, no log. Requests are counted by their closing empty line; as many as one recv completed are
 * answered by one gathered send. With "close" each response says Connection: close and the socket is closed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FD = 65536, EVENTS = 512, RECV_BYTES = 65536, PIECES = 64, SEPARATOR = 4 };

struct connection {
    uint64_t owed;     /* bytes still to be sent; while there are any, nothing is read */
    char tail[3];      /* end of the bytes read so far: a separator may be split over two recv */
    uint8_t tail_size;
};

static struct connection connections[MAX_FD];
static char *response;
static size_t response_bytes;
static bool closing;

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* The fields and their sizes are those of fastws's own answer. */
static void build_response(size_t body_bytes) {
    char date[64];
    char head[512];
    time_t now = time(NULL);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime(&now));
    int head_bytes = snprintf(head, sizeof head,
        "HTTP/1.1 200 OK\r\nServer: fastws\r\nDate: %s\r\nContent-Type: text/html; charset=utf-8\r\n"
        "Content-Length: %zu\r\nLast-Modified: %s\r\nETag: \"0123456789abcdef0123456789abcdef\"\r\n%s\r\n",
        date, body_bytes, date, closing ? "Connection: close\r\n" : "");
    response_bytes = (size_t)head_bytes + body_bytes;
    response = malloc(response_bytes);
    if (response == NULL) die("malloc");
    memcpy(response, head, (size_t)head_bytes);
    for (size_t i = 0; i < body_bytes; i++) response[(size_t)head_bytes + i] = (char)('a' + i % 26);
}

static int listen_on(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0) die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
    if (listen(fd, 4096) < 0) die("listen");
    return fd;
}

static void watch(int epoll, int fd, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(epoll, operation, fd, &event) < 0) die("epoll_ctl");
}

static void accept_all(int epoll, int listener) {
    int one = 1;
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        if (fd >= MAX_FD) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connections[fd] = (struct connection){0};
        watch(epoll, fd, EPOLL_CTL_ADD, EPOLLIN);
    }
}

/* One send for one response, one gathered send for several; the offset follows from what is owed. */
static ssize_t send_owed(int fd, uint64_t owed) {
    size_t offset = (size_t)((response_bytes - owed % response_bytes) % response_bytes);
    if (owed <= response_bytes) return send(fd, response + offset, (size_t)owed, MSG_NOSIGNAL);
    struct iovec pieces[PIECES];
    size_t count = 0;
    for (uint64_t left = owed; left > 0 && count < PIECES; count++) {
        pieces[count] = (struct iovec){response + offset, response_bytes - offset};
        left -= response_bytes - offset;
        offset = 0;
    }
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
    return sendmsg(fd, &message, MSG_NOSIGNAL);
}

/* False: the connection is gone. */
static bool flush(int epoll, int fd, bool was_waiting) {
    struct connection *connection = &connections[fd];
    while (connection->owed > 0) {
        ssize_t sent = send_owed(fd, connection->owed);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && errno != EAGAIN) return false;
        if (sent < 0) {
            if (!was_waiting) watch(epoll, fd, EPOLL_CTL_MOD, EPOLLOUT);
            return true;
        }
        connection->owed -= (uint64_t)sent;
    }
    if (closing) return false;
    if (was_waiting) watch(epoll, fd, EPOLL_CTL_MOD, EPOLLIN);
    return true;
}

static bool read_requests(int epoll, int fd) {
    static char buffer[RECV_BYTES + sizeof connections[0].tail];
    struct connection *connection = &connections[fd];
    size_t have = connection->tail_size;
    memcpy(buffer, connection->tail, have);
    ssize_t got = recv(fd, buffer + have, RECV_BYTES, 0);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return false;
    char *at = buffer, *end = buffer + have + got, *found;
    while ((found = memmem(at, (size_t)(end - at), "\r\n\r\n", SEPARATOR)) != NULL) {
        connection->owed += response_bytes;
        at = found + SEPARATOR;
    }
    size_t rest = (size_t)(end - at);
    connection->tail_size = (uint8_t)(rest < sizeof connection->tail ? rest : sizeof connection->tail);
    memcpy(connection->tail, end - connection->tail_size, connection->tail_size);
    return connection->owed == 0 || flush(epoll, fd, false);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s PORT BODY_BYTES [close]\n", argv[0]);
        return 2;
    }
    closing = argc > 3 && strcmp(argv[3], "close") == 0;
    build_response((size_t)strtoull(argv[2], NULL, 10));
    int listener = listen_on((uint16_t)atoi(argv[1]));
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) die("epoll_create1");
    watch(epoll, listener, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                accept_all(epoll, listener);
                continue;
            }
            bool waiting = connections[fd].owed > 0;
            bool alive = waiting ? flush(epoll, fd, true) : read_requests(epoll, fd);
            if (!alive) close(fd);
        }
    }
}
