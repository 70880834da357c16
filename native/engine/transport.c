#include "transport.h"

#include "checksum.h"

#include <netinet/in.h>
#include <string.h>

uint64_t transport_pseudo(const uint8_t *ip, uint8_t protocol, size_t length) {
    uint64_t sum = ip[0] >> 4 == 4 ? checksum_add(0, ip + IPV4_ADDRESSES, 8) : checksum_add(0, ip + IPV6_ADDRESSES, 32);
    return checksum_add16(checksum_add16(sum, protocol), (uint16_t)length);
}

void ipv4_checksum(uint8_t *ip) {
    memset(ip + IPV4_CHECKSUM, 0, 2);
    uint16_t sum = (uint16_t)~checksum_fold(checksum_add(0, ip, (size_t)(ip[0] & 15) * 4));
    memcpy(ip + IPV4_CHECKSUM, &sum, sizeof sum);
}

size_t transport_header(const uint8_t *packet, size_t transport, size_t length, uint8_t protocol) {
    if (protocol == IPPROTO_UDP)
        return length >= transport + UDP_HEADER ? UDP_HEADER : 0;
    if (protocol != IPPROTO_TCP || length < transport + TCP_HEADER)
        return 0;
    size_t header = (size_t)(packet[transport + TCP_OFFSET] >> 4) * 4;
    return header >= TCP_HEADER && length >= transport + header ? header : 0;
}
