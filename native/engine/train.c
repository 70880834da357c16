#include "train.h"

#include "checksum.h"
#include "transport.h"

#include <netinet/in.h>
#include <string.h>

/* Finishes a checksum whose field holds the sum of the pseudo header (virtio 1.2, section 5.1.6.2). */
static bool finish_checksum(const struct virtio_net_hdr *offload, uint8_t *data, size_t length) {
    size_t start = offload->csum_start, field = start + offload->csum_offset;
    if (start < IPV4_HEADER || field + 2 > length)
        return false;
    uint16_t sum = (uint16_t)~checksum_fold(checksum_add(0, data + start, length - start));
    if (sum == 0 && offload->csum_offset == UDP_CHECKSUM)
        sum = 0xffff; /* 0 says that there is none */
    memcpy(data + field, &sum, sizeof sum);
    return true;
}

/* Where the transport header of what is to be cut lies; 0 if it cannot be. */
static size_t find_transport(const struct virtio_net_hdr *offload, const uint8_t *data, size_t length, uint8_t protocol) {
    if (length >= IPV4_HEADER && data[0] >> 4 == 4) {
        size_t header = (size_t)(data[0] & 15) * 4;
        bool whole = (get16(data + IPV4_FRAGMENT) & 0x3fff) == 0;
        return header >= IPV4_HEADER && whole && data[IPV4_PROTOCOL] == protocol && header <= length ? header : 0;
    }
    if (length < IPV6_HEADER || data[0] >> 4 != 6)
        return 0;
    /* There may be extension headers between, and the kernel knows where they end. */
    size_t start = offload->csum_start;
    return start > IPV6_HEADER || (start == IPV6_HEADER && data[IPV6_PROTOCOL] == protocol) ? start : 0;
}

bool train_open(struct train *train, const struct virtio_net_hdr *offload, uint8_t *data, size_t length) {
    train->data = data;
    train->length = length;
    train->size = 0;
    train->at = 0;
    train->number = 0;
    bool unfinished = offload->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;
    uint8_t protocol;
    switch (offload->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
    case VIRTIO_NET_HDR_GSO_NONE:
        return !unfinished || finish_checksum(offload, data, length);
    case VIRTIO_NET_HDR_GSO_TCPV4:
    case VIRTIO_NET_HDR_GSO_TCPV6:
        protocol = IPPROTO_TCP;
        break;
    case OFFLOAD_UDP_L4:
        protocol = IPPROTO_UDP;
        break;
    default:
        return false;
    }
    size_t transport = find_transport(offload, data, length, protocol);
    size_t header = transport != 0 ? transport_header(data, transport, length, protocol) : 0;
    if (header == 0 || offload->gso_size == 0 || transport + header > TRAIN_HEADERS)
        return false;
    train->transport = transport;
    train->header = transport + header;
    train->size = offload->gso_size;
    train->at = train->header;
    train->protocol = protocol;
    memcpy(train->headers, data, train->header);
    return true;
}

static void put_headers(const struct train *train, uint8_t *packet, size_t length, bool last) {
    size_t segment = length - train->transport;
    uint8_t *transport = packet + train->transport;
    memcpy(packet, train->headers, train->header);
    if (packet[0] >> 4 == 4) {
        put16(packet + IPV4_LENGTH, (uint16_t)length);
        put16(packet + IPV4_ID, (uint16_t)(get16(packet + IPV4_ID) + train->number));
        ipv4_checksum(packet);
    } else {
        put16(packet + IPV6_LENGTH, (uint16_t)(length - IPV6_HEADER));
    }
    size_t field = UDP_CHECKSUM;
    if (train->protocol == IPPROTO_TCP) {
        field = TCP_CHECKSUM;
        put32(transport + TCP_SEQUENCE, get32(transport + TCP_SEQUENCE) + (uint32_t)(train->at - train->header));
        if (!last)
            transport[TCP_FLAGS] &= (uint8_t)~(TCP_FIN | TCP_PSH);
        if (train->number != 0)
            transport[TCP_FLAGS] &= (uint8_t)~TCP_CWR;
    } else {
        put16(transport + UDP_LENGTH, (uint16_t)segment);
    }
    memset(transport + field, 0, 2);
    uint64_t sum = transport_pseudo(packet, train->protocol, segment);
    uint16_t folded = (uint16_t)~checksum_fold(checksum_add(sum, transport, segment));
    if (folded == 0 && train->protocol == IPPROTO_UDP)
        folded = 0xffff;
    memcpy(transport + field, &folded, sizeof folded);
}

bool train_next(struct train *train, uint8_t **packet, size_t *length) {
    if (train->size == 0) {
        *packet = train->data;
        *length = train->length;
        return train->at++ == 0;
    }
    if (train->at > train->length || (train->at == train->length && train->number != 0))
        return false;
    size_t rest = train->length - train->at, size = rest < train->size ? rest : train->size;
    *packet = train->data + train->at - train->header;
    *length = train->header + size;
    put_headers(train, *packet, *length, size == rest);
    train->at += size;
    train->number++;
    return true;
}
