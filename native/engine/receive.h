/* From the network to the TUN: open, put together, deliver. */
#ifndef PHX_RECEIVE_H
#define PHX_RECEIVE_H

#include "coalesce.h"
#include "packet.h"
#include "tables.h"

enum { RECEIVE_BATCH = 256 };

struct receiver {
    struct side *side;
    struct coalescer coalescer;
    /* Hands a packet of several parts to the TUN: 0, or an error. */
    int (*deliver)(void *context, const struct iovec *parts, int count);
    void *context;
};

/* A packet on its way in, and when it was let in, what is in it. */
struct arrival {
    struct packet packet;
    struct outer outer;
    struct inner inner;
};

/* Opens `count` packets, which must stay where they are until receive_flush, and keeps what may be delivered; delivers when
 * there is no room for more. True if the control side has to look. */
bool receive(struct receiver *receiver, struct arrival *arrivals, int count, uint64_t now);

/* Delivers what is kept. */
void receive_flush(struct receiver *receiver);

#endif
