/* From the TUN to the network: cut, seal, send. */
#ifndef PHX_TRANSMIT_H
#define PHX_TRANSMIT_H

#include "net.h"
#include "tables.h"
#include "train.h"

struct transmitter {
    struct side *side;
    struct packet packets[NET_BATCH];
    struct sending sendings[NET_BATCH];
    int ready;
    uint8_t *memory; /* of the packets that are ready, one behind the other */
    size_t used;     /* of it */
    /* Sends `count` packets and notes errors in them. */
    void (*send)(void *context, struct sending *sendings, int count);
    void *context;
};

/* False if memory is short. */
bool transmit_init(struct transmitter *transmitter, struct side *side);
void transmit_release(struct transmitter *transmitter);

/* Takes what the TUN handed over: ESP_LENT bytes behind `data` are lent. Packets are sent when there is no room for more. True
 * if the control side has to look. */
bool transmit(struct transmitter *transmitter, const struct virtio_net_hdr *offload, uint8_t *data, size_t length,
              uint64_t now);

/* Sends what is ready. */
void transmit_flush(struct transmitter *transmitter);

#endif
