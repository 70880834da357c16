/* Puts packets of a stream together again before they go to the TUN, so that the kernel handles up to 64 KiB at once: the
 * rules of the kernel's own GRO. Only what cutting the result again would give back is merged: neighbours in sequence that
 * differ in nothing but sequence number, length, PSH and the identification that DF makes void, with right checksums. Packets are referred to, not copied. */
#ifndef PHX_COALESCE_H
#define PHX_COALESCE_H

#include "inner.h"

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { BUNDLE_MAX = 64, BUNDLE_PACKETS = 64 };

/* Packets that became one; the first part is the offload header. */
struct bundle {
    struct virtio_net_hdr offload;
    struct iovec parts[1 + BUNDLE_PACKETS];
    int packets;
    uint8_t *head; /* the first packet */
    size_t length; /* of the packet that this makes */
    size_t transport, header;
    size_t size;       /* data bytes of the first packet */
    uint32_t hash;     /* of the flow */
    uint32_t sequence; /* TCP: what must come next */
    uint8_t protocol;  /* 0: neither TCP nor UDP that could be merged or passed */
    bool is_open, is_verified, is_pushed;
};

struct coalescer {
    struct bundle bundles[BUNDLE_MAX];
    int count;
    bool udp; /* the TUN takes UDP bundles */
};

/* Takes one packet, which must stay where it is until the coalescer is emptied. False if there is no room: empty it first. */
bool coalesce_add(struct coalescer *coalescer, uint8_t *packet, const struct inner *inner);

/* Whether the newest bundle may still grow: more of its stream is on the way. */
bool coalesce_expects(const struct coalescer *coalescer);

/* Makes the headers of all bundles. They are in the order of their first packets; set `count` to 0 when they are written. */
void coalesce_finish(struct coalescer *coalescer);

#endif
