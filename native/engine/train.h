/* What the TUN hands over is a packet, or up to 64 KiB of a stream under one header (TSO, USO), perhaps without checksum. A
 * train cuts it into packets as they go on the wire, as a network card would. */
#ifndef PHX_TRAIN_H
#define PHX_TRAIN_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TRAIN_HEADERS = 256, OFFLOAD_UDP_L4 = 5 /* VIRTIO_NET_HDR_GSO_UDP_L4, which older headers do not have */ };

struct train {
    uint8_t *data;
    size_t length;
    size_t transport, header; /* where TCP or UDP, and where its data begins */
    size_t size;              /* data bytes per packet; 0: one packet, as it is */
    size_t at;                /* where the next packet's data begins; beyond `length` when there is none */
    uint32_t number;
    uint8_t protocol;
    uint8_t headers[TRAIN_HEADERS]; /* as they were: the place before a packet's data is overwritten */
};

/* False if offload and packet do not fit each other. `offload->hdr_len` is not looked at: it is a guess of the sender's. */
bool train_open(struct train *train, const struct virtio_net_hdr *offload, uint8_t *data, size_t length);

/* The next packet, whole and with its checksums, which lies in the train's own memory until the next call; the bytes behind
 * it belong to packets that are still to come. False when there is no more. */
bool train_next(struct train *train, uint8_t **packet, size_t *length);

#endif
