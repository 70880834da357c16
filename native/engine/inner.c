#include "inner.h"

#include "transport.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

/* The two ports of a charon of ours (charon.py). */
enum { IKE_PORT = 500, IKE_NAT_PORT = 501 };

enum { ECN_MASK = 3, ECN_NOT_CAPABLE = 0, ECN_CONGESTION = 3 };

bool inner_parse(const uint8_t *data, size_t available, struct inner *inner) {
    if (available < IPV4_HEADER)
        return false;
    if (data[0] >> 4 == 4) {
        size_t header = (size_t)(data[0] & 15) * 4;
        size_t total = get16(data + IPV4_LENGTH);
        if (header < IPV4_HEADER || total < header || total > available)
            return false;
        *inner = (struct inner){AF_INET, data + IPV4_ADDRESSES, data + IPV4_ADDRESSES + 4, total, data[1]};
        return true;
    }
    if (data[0] >> 4 == 6 && available >= IPV6_HEADER) {
        size_t total = IPV6_HEADER + get16(data + IPV6_LENGTH);
        if (total > available)
            return false;
        uint8_t traffic_class = (uint8_t)(data[0] << 4 | data[1] >> 4);
        *inner = (struct inner){AF_INET6, data + IPV6_ADDRESSES, data + IPV6_ADDRESSES + 16, total, traffic_class};
        return true;
    }
    return false;
}

bool inner_is_ike(const uint8_t *data, const struct inner *inner) {
    /* Daemons have no socket of IPv6. Fragments are of no use to whoever lacks the first, which has the ports. */
    if (inner->family != AF_INET || data[IPV4_PROTOCOL] != IPPROTO_UDP || (get16(data + IPV4_FRAGMENT) & 0x1fff) != 0)
        return false;
    size_t header = (size_t)(data[0] & 15) * 4;
    uint16_t port = inner->length >= header + UDP_HEADER ? get16(data + header + UDP_DESTINATION) : 0;
    return port == IKE_PORT || port == IKE_NAT_PORT;
}

void inner_mark_congestion(uint8_t *data, const struct inner *inner, uint8_t outer_traffic_class) {
    unsigned ecn = inner->traffic_class & ECN_MASK;
    if ((outer_traffic_class & ECN_MASK) != ECN_CONGESTION || ecn == ECN_NOT_CAPABLE || ecn == ECN_CONGESTION)
        return;
    if (inner->family == AF_INET6) {
        data[1] |= ECN_CONGESTION << 4;
        return;
    }
    /* RFC 1624: HC' = ~(~HC + ~m + m'), with m the 16-bit word that holds the traffic class. */
    uint32_t before = (uint32_t)get16(data);
    data[1] |= ECN_CONGESTION;
    uint32_t sum = (~(uint32_t)get16(data + IPV4_CHECKSUM) & 0xffff) + (~before & 0xffff) + (uint32_t)get16(data);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    put16(data + IPV4_CHECKSUM, (uint16_t)~sum);
}

bool prefix_matches(const uint8_t *a, const uint8_t *b, unsigned prefix) {
    unsigned bytes = prefix / 8, bits = prefix % 8;
    if (memcmp(a, b, bytes) != 0)
        return false;
    return bits == 0 || (a[bytes] ^ b[bytes]) >> (8 - bits) == 0;
}
