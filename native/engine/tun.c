#include "tun.h"

#include <errno.h>

int tun_read(int fd, bool wait, struct virtio_net_hdr *offload, uint8_t *data, size_t capacity, size_t *length) {
    struct iovec parts[] = {{offload, sizeof *offload}, {data, capacity}};
    for (;;) {
        ssize_t got = preadv2(fd, parts, 2, -1, wait ? 0 : RWF_NOWAIT);
        if (got >= (ssize_t)sizeof *offload) {
            *length = (size_t)got - sizeof *offload;
            return 1;
        }
        if (got >= 0)
            return -EIO;
        if (errno == EAGAIN)
            return 0;
        if (errno != EINTR)
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
