/* accept4(2): one connection that waits, and its address as the access log has it. */
#ifndef FASTWS_ACCEPT_H
#define FASTWS_ACCEPT_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define FASTWS_PEER_BYTES 48 /* the longest IPv6 address has 45 characters */

/* Returns a non-blocking descriptor and writes the address of its client to peer; -1 with errno if there is none.
 * An IPv4 client of a socket that takes both kinds is written as an IPv4 address (RFC 4291 section 2.5.5.2). */
static inline int fastws_accept(int listener, char peer[FASTWS_PEER_BYTES]) {
    struct sockaddr_storage address;
    socklen_t size;
    int fd;
    do {
        size = sizeof(address);
        fd = accept4(listener, (struct sockaddr *)&address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (fd < 0 && (errno == ECONNABORTED || errno == EINTR)); /* those were gone before they were accepted */
    if (fd < 0) return -1;
    if (address.ss_family == AF_INET)
        inet_ntop(AF_INET, &((struct sockaddr_in *)&address)->sin_addr, peer, FASTWS_PEER_BYTES);
    else if (address.ss_family == AF_INET6) {
        const struct in6_addr *six = &((struct sockaddr_in6 *)&address)->sin6_addr;
        if (IN6_IS_ADDR_V4MAPPED(six))
            inet_ntop(AF_INET, &six->s6_addr[12], peer, FASTWS_PEER_BYTES);
        else
            inet_ntop(AF_INET6, six, peer, FASTWS_PEER_BYTES);
    } else
        memcpy(peer, "unix:", 6);
    return fd;
}

#endif
