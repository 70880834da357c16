#include "tun.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>

/* A TUN device takes RWF_NOWAIT since Linux 6.4. Before, it has to be asked whether there is something. */
static atomic_bool ask_first;

static bool has_something(int fd) {
    struct pollfd asked = {.fd = fd, .events = POLLIN};
    return poll(&asked, 1, 0) != 0; /* an error is for the read to tell */
}

int tun_read(int fd, bool wait, struct virtio_net_hdr *offload, uint8_t *data, size_t capacity, size_t *length) {
    struct iovec parts[] = {{offload, sizeof *offload}, {data, capacity}};
    for (;;) {
        bool ask = !wait && atomic_load_explicit(&ask_first, memory_order_relaxed);
        if (ask && !has_something(fd))
            return 0;
        ssize_t got = preadv2(fd, parts, 2, -1, wait || ask ? 0 : RWF_NOWAIT);
        if (got >= (ssize_t)sizeof *offload) {
            *length = (size_t)got - sizeof *offload;
            return 1;
        }
        if (got >= 0)
            return -EIO;
        if (errno == EAGAIN)
            return 0;
        if (errno == EOPNOTSUPP && !wait && !ask)
            atomic_store_explicit(&ask_first, true, memory_order_relaxed);
        else if (errno != EINTR)
            return -errno;
    }
}

int tun_write(int fd, const struct iovec *parts, int count) {
    ssize_t written;
    do
        written = writev(fd, parts, count);
    while (written < 0 && errno == EINTR);
    return written < 0 ? -errno : 0;
}
