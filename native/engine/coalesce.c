#include "coalesce.h"

#include "checksum.h"
#include "train.h"
#include "transport.h"

#include <netinet/in.h>
#include <string.h>

enum { TOTAL_MAX = 65535, LINEAR_MAX = 4096 };

/* One packet, looked at. `protocol` 0: it stands alone and nothing may overtake it. */
struct look {
    uint8_t *packet;
    size_t length, transport, header;
    uint32_t hash, sequence;
    uint8_t protocol;
    bool mergeable; /* with a neighbour, as far as its own headers go */
    bool pushed;
};

static size_t data_of(const struct look *look) { return look->length - look->header; }

static void look_at(struct look *look, uint8_t *packet, const struct inner *inner, bool udp) {
    *look = (struct look){.packet = packet, .length = inner->length};
    uint8_t protocol;
    if (inner->family == AF_INET) {
        /* Options, or a fragment; or DF is not set, so that the identification, which is not kept, has a meaning (RFC 6864). */
        if ((packet[0] & 15) * 4 != IPV4_HEADER || get16(packet + IPV4_FRAGMENT) != IPV4_DF)
            return;
        look->transport = IPV4_HEADER;
        protocol = packet[IPV4_PROTOCOL];
    } else {
        look->transport = IPV6_HEADER;
        protocol = packet[IPV6_PROTOCOL];
    }
    size_t header = transport_header(packet, look->transport, look->length, protocol);
    if (header == 0)
        return;
    const uint8_t *transport = packet + look->transport;
    look->header = look->transport + header;
    look->protocol = protocol;
    look->hash = (get32(transport) ^ get32(inner->source) * 31 ^ get32(inner->destination)) * 0x9e3779b1u;
    size_t data = data_of(look);
    if (protocol == IPPROTO_TCP) {
        look->sequence = get32(transport + TCP_SEQUENCE);
        look->pushed = transport[TCP_FLAGS] & TCP_PSH;
        look->mergeable = data > 0 && (transport[TCP_FLAGS] & ~TCP_PSH) == TCP_ACK_FLAG;
    } else {
        look->mergeable = udp && data > 0 && get16(transport + UDP_LENGTH) == UDP_HEADER + data &&
                          get16(transport + UDP_CHECKSUM) != 0;
    }
}

static bool is_verified(const uint8_t *packet, size_t length, size_t transport, uint8_t protocol) {
    if (packet[0] >> 4 == 4 && checksum_fold(checksum_add(0, packet, IPV4_HEADER)) != 0xffff)
        return false;
    uint64_t sum = transport_pseudo(packet, protocol, length - transport);
    return checksum_fold(checksum_add(sum, packet + transport, length - transport)) == 0xffff;
}

static bool same(const uint8_t *a, const uint8_t *b, size_t from, size_t to) { return memcmp(a + from, b + from, to - from) == 0; }

static bool same_flow(const struct bundle *bundle, const struct look *look) {
    const uint8_t *a = bundle->head, *b = look->packet;
    if (bundle->hash != look->hash || bundle->protocol != look->protocol || a[0] >> 4 != b[0] >> 4)
        return false;
    size_t addresses = a[0] >> 4 == 4 ? IPV4_ADDRESSES : IPV6_ADDRESSES;
    return same(a, b, addresses, bundle->transport + 4);
}

/* The headers of two packets of a flow agree in all that cutting would copy. */
static bool same_headers(const struct bundle *bundle, const struct look *look) {
    const uint8_t *a = bundle->head, *b = look->packet;
    if (bundle->header != look->header)
        return false;
    if (a[0] >> 4 == 4) { /* version, length, traffic class; DF; TTL, protocol */
        if (!same(a, b, 0, IPV4_LENGTH) || !same(a, b, IPV4_FRAGMENT, IPV4_CHECKSUM))
            return false;
    } else if (!same(a, b, 0, IPV6_LENGTH) || !same(a, b, IPV6_PROTOCOL, IPV6_ADDRESSES)) {
        return false;
    }
    if (bundle->protocol == IPPROTO_UDP)
        return true;
    const uint8_t *x = a + bundle->transport, *y = b + bundle->transport;
    return same(x, y, TCP_ACK, TCP_FLAGS) && same(x, y, TCP_FLAGS + 1, TCP_CHECKSUM) && /* ACK number; window */
           same(x, y, TCP_CHECKSUM + 2, bundle->header - bundle->transport);              /* urgent pointer, options */
}

static bool may_append(struct bundle *bundle, const struct look *look) {
    size_t data = data_of(look);
    if (!bundle->is_open || !look->mergeable || data > bundle->size || bundle->length + data > TOTAL_MAX ||
        bundle->packets == BUNDLE_PACKETS || !same_headers(bundle, look))
        return false;
    if (bundle->protocol == IPPROTO_TCP && look->sequence != bundle->sequence)
        return false;
    if (!bundle->is_verified && !is_verified(bundle->head, bundle->length, bundle->transport, bundle->protocol)) {
        bundle->is_open = false;
        return false;
    }
    bundle->is_verified = true;
    return is_verified(look->packet, look->length, look->transport, look->protocol);
}

/* The newest bundle of the packet's flow, behind which the packet must stay; NULL if there is none. */
static struct bundle *newest(struct coalescer *coalescer, const struct look *look) {
    for (int i = coalescer->count - 1; i >= 0; i--) {
        struct bundle *bundle = &coalescer->bundles[i];
        if (bundle->protocol == 0)
            return NULL;
        if (same_flow(bundle, look))
            return bundle;
    }
    return NULL;
}

bool coalesce_add(struct coalescer *coalescer, uint8_t *packet, const struct inner *inner) {
    struct look look;
    look_at(&look, packet, inner, coalescer->udp);
    size_t data = look.protocol != 0 ? data_of(&look) : 0;
    struct bundle *bundle = look.mergeable ? newest(coalescer, &look) : NULL;
    if (bundle != NULL && may_append(bundle, &look)) {
        bundle->parts[1 + bundle->packets++] = (struct iovec){packet + look.header, data};
        bundle->length += data;
        bundle->sequence += (uint32_t)data;
        bundle->is_pushed = look.pushed;
        bundle->is_open = data == bundle->size && !look.pushed;
        return true;
    }
    if (coalescer->count == BUNDLE_MAX)
        return false;
    bundle = &coalescer->bundles[coalescer->count++];
    bundle->packets = 1;
    bundle->head = packet;
    bundle->length = look.length;
    bundle->transport = look.transport;
    bundle->header = look.header;
    bundle->size = data;
    bundle->hash = look.hash;
    bundle->sequence = look.sequence + (uint32_t)data;
    bundle->protocol = look.protocol;
    bundle->is_open = look.mergeable && !look.pushed;
    bundle->is_verified = false;
    bundle->is_pushed = look.pushed;
    bundle->parts[1] = (struct iovec){packet, look.length};
    return true;
}

bool coalesce_expects(const struct coalescer *coalescer) {
    const struct bundle *last = coalescer->count > 0 ? &coalescer->bundles[coalescer->count - 1] : NULL;
    return last != NULL && last->is_open && last->protocol == IPPROTO_TCP && last->length + last->size <= TOTAL_MAX;
}

static void finish(struct bundle *bundle) {
    struct virtio_net_hdr *offload = &bundle->offload;
    bundle->parts[0] = (struct iovec){offload, sizeof *offload};
    memset(offload, 0, sizeof *offload);
    /* How much of it the kernel should have in one piece; the rest may lie in pages, which are cheaper to get. */
    if (bundle->length > LINEAR_MAX)
        offload->hdr_len = (uint16_t)bundle->header;
    if (bundle->packets == 1)
        return;
    uint8_t *ip = bundle->head, *transport = ip + bundle->transport;
    bool ipv4 = ip[0] >> 4 == 4, tcp = bundle->protocol == IPPROTO_TCP;
    if (ipv4) {
        put16(ip + IPV4_LENGTH, (uint16_t)bundle->length);
        ipv4_checksum(ip);
    } else {
        put16(ip + IPV6_LENGTH, (uint16_t)(bundle->length - IPV6_HEADER));
    }
    size_t segment = bundle->length - bundle->transport;
    if (!tcp)
        put16(transport + UDP_LENGTH, (uint16_t)segment);
    else if (bundle->is_pushed)
        transport[TCP_FLAGS] |= TCP_PSH;
    uint16_t sum = checksum_fold(transport_pseudo(ip, bundle->protocol, segment));
    memcpy(transport + (tcp ? TCP_CHECKSUM : UDP_CHECKSUM), &sum, sizeof sum);
    offload->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    offload->gso_type = !tcp ? OFFLOAD_UDP_L4 : ipv4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
    offload->gso_size = (uint16_t)bundle->size;
    offload->hdr_len = (uint16_t)bundle->header;
    offload->csum_start = (uint16_t)bundle->transport;
    offload->csum_offset = tcp ? TCP_CHECKSUM : UDP_CHECKSUM;
}

void coalesce_finish(struct coalescer *coalescer) {
    for (int i = 0; i < coalescer->count; i++)
        finish(&coalescer->bundles[i]);
}
