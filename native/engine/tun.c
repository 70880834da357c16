#include "tun.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

int tun_read(int fd, struct packet *batch, int max) {
    int count = 0;
    while (count < max) {
        struct packet *packet = &batch[count];
        packet->data = packet->buffer + ESP_HEADROOM;
        ssize_t got = read(fd, packet->data, packet->capacity - ESP_HEADROOM - ESP_TAILROOM);
        if (got >= 0) {
            packet->length = (size_t)got;
            count++;
        } else if (errno == EAGAIN && count > 0) {
            break;
        } else if (errno == EAGAIN) {
            struct pollfd wait = {.fd = fd, .events = POLLIN};
            if (poll(&wait, 1, -1) < 0 && errno != EINTR)
                return -errno;
        } else if (errno != EINTR) {
            return count > 0 ? count : -errno; /* it will say so again */
        }
    }
    return count;
}

int tun_write(int fd, const struct packet *packet) {
    ssize_t written;
    do
        written = write(fd, packet->data, packet->length);
    while (written < 0 && errno == EINTR);
    return written < 0 ? -errno : 0;
}
