/* What the data plane reads of an inner packet: addresses, length, traffic class, and whether it is IKE. Nothing else of it is
 * trusted or needed. */
#ifndef PHX_INNER_H
#define PHX_INNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inner {
    int family; /* AF_INET or AF_INET6 */
    const uint8_t *source;
    const uint8_t *destination;
    size_t length; /* as its header says; at most what was available */
    uint8_t traffic_class;
};

/* False if `available` bytes at `data` do not begin with a whole IPv4 or IPv6 packet. */
bool inner_parse(const uint8_t *data, size_t available, struct inner *inner);

/* RFC 4301 section 5.1.2.1: congestion that routers marked on the outer header is shown to an ECN-capable inner flow. */
void inner_mark_congestion(uint8_t *data, const struct inner *inner, uint8_t outer_traffic_class);

/* Whether a packet is for a peer's IKE daemon. That would answer it outside of the tunnel, with bytes that a container chose. */
bool inner_is_ike(const uint8_t *data, const struct inner *inner);

/* Whether the first `prefix` bits of two addresses agree. */
bool prefix_matches(const uint8_t *a, const uint8_t *b, unsigned prefix);

#endif
