/* The TUN device's side: inner packets with their offload headers (IFF_VNET_HDR), up to 64 KiB of a stream at once. */
#ifndef PHX_TUN_H
#define PHX_TUN_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* Takes one packet of at most `capacity` bytes; waits for it if `wait`. 1 or 0 (there is none), or a negative errno when the
 * device is gone. */
int tun_read(int fd, bool wait, struct virtio_net_hdr *offload, uint8_t *data, size_t capacity, size_t *length);

/* Writes one packet in parts, the offload header first. 0, or a negative errno. */
int tun_write(int fd, const struct iovec *parts, int count);

#endif
