#include "outer.h"

#include <arpa/inet.h>
#include <netinet/ip.h>
#include <string.h>

_Static_assert(sizeof(struct iphdr) == OUTER_HEADER, "the outer header has no options");

void outer_put(struct packet *packet, const struct outer *outer) {
    packet->data -= OUTER_HEADER;
    packet->length += OUTER_HEADER;
    struct iphdr header = {
        .version = 4,
        .ihl = OUTER_HEADER / 4,
        .tos = outer->traffic_class,
        .tot_len = htons((uint16_t)packet->length),
        .frag_off = htons(IP_DF),
        .ttl = IPDEFTTL,
        .protocol = IPPROTO_ESP,
        .saddr = outer->source.s_addr,
        .daddr = outer->destination.s_addr,
    };
    memcpy(packet->data, &header, sizeof header);
}

enum drop outer_take(struct packet *packet, struct outer *outer) {
    if (packet->length < OUTER_HEADER || packet->data[0] >> 4 != 4)
        return IN_MALFORMED;
    size_t length = (size_t)(packet->data[0] & 15) * 4;
    if (length < OUTER_HEADER || packet->length < length)
        return IN_MALFORMED;
    struct iphdr header;
    memcpy(&header, packet->data, sizeof header);
    *outer = (struct outer){{header.saddr}, {header.daddr}, header.tos};
    packet->data += length;
    packet->length -= length;
    return DELIVER;
}
