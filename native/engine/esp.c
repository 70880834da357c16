#include "esp.h"

#include <arpa/inet.h>
#include <netinet/ip.h>
#include <string.h>

enum { NEXT_IPV4 = 4, NEXT_IPV6 = 41, NEXT_NONE = 59, AAD = 12, ECN_MASK = 3, PACKET_MAX = 65535 };

_Static_assert(sizeof(struct iphdr) == ESP_OUTER, "the outer header has no options");

static void put32(uint8_t *at, uint32_t value) {
    value = htonl(value);
    memcpy(at, &value, sizeof value);
}

static uint32_t get32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return ntohl(value);
}

/* RFC 4106 section 5: SPI and the whole 64-bit sequence number, whose high half is not on the wire. */
static void make_aad(uint8_t aad[AAD], uint32_t spi, uint64_t sequence) {
    put32(aad, spi);
    put32(aad + 4, (uint32_t)(sequence >> 32));
    put32(aad + 8, (uint32_t)sequence);
}

static void make_nonce(uint8_t nonce[AEAD_NONCE], const uint8_t salt[SA_SALT], const uint8_t iv[ESP_IV]) {
    memcpy(nonce, salt, SA_SALT);
    memcpy(nonce + SA_SALT, iv, ESP_IV);
}

static void put_outer(uint8_t *at, const struct sa *sa, size_t length, uint8_t inner_traffic_class) {
    struct iphdr outer = {
        .version = 4,
        .ihl = ESP_OUTER / 4,
        .tos = sa->copy_dscp ? inner_traffic_class : inner_traffic_class & ECN_MASK, /* RFC 6040: ECN always */
        .tot_len = htons((uint16_t)length),
        .frag_off = htons(IP_DF),
        .ttl = IPDEFTTL,
        .protocol = IPPROTO_ESP,
        .saddr = sa->source.s_addr,
        .daddr = sa->destination.s_addr,
    };
    memcpy(at, &outer, sizeof outer);
}

enum drop esp_encapsulate(struct sa *sa, struct packet *packet, const struct inner *inner) {
    size_t padding = (0 - (packet->length + ESP_TRAILER)) % ESP_ALIGN;
    size_t sealed = packet->length + padding + ESP_TRAILER;
    size_t outer_length = ESP_HEADROOM + sealed + AEAD_TAG;
    if (packet->data < packet->buffer + ESP_HEADROOM || outer_length > PACKET_MAX ||
        packet->data + sealed + AEAD_TAG > packet->buffer + packet->capacity)
        return OUT_TOO_BIG;
    if (!sa_may_carry(sa))
        return OUT_LIFETIME;
    /* The counter is also the IV: it only grows, so no nonce is used twice, and it dies rather than wrap. It is spent even
     * when sealing fails. */
    if (sa->usage.sequence == UINT64_MAX) {
        sa->usage.hard = 1;
        return OUT_SEQUENCE;
    }
    uint64_t sequence = ++sa->usage.sequence;

    uint8_t *trailer = packet->data + packet->length;
    for (size_t i = 1; i <= padding; i++)
        *trailer++ = (uint8_t)i; /* RFC 4303 section 2.4: 1, 2, 3 … */
    *trailer++ = (uint8_t)padding;
    *trailer++ = inner->family == AF_INET ? NEXT_IPV4 : NEXT_IPV6;

    uint8_t *iv = packet->data - ESP_IV, *header = iv - ESP_HEADER;
    put32(header, sa->spi);
    put32(header + 4, (uint32_t)sequence);
    put32(iv, (uint32_t)(sequence >> 32));
    put32(iv + 4, (uint32_t)sequence);

    uint8_t nonce[AEAD_NONCE], aad[AAD];
    make_nonce(nonce, sa->salt, iv);
    make_aad(aad, sa->spi, sequence);
    if (aead_seal(sa->aead, nonce, aad, sizeof aad, packet->data, packet->data, sealed, trailer) != 0)
        return OUT_CIPHER;

    packet->data -= ESP_HEADROOM;
    packet->length = outer_length;
    put_outer(packet->data, sa, outer_length, inner->traffic_class);
    return DELIVER;
}

/* The outer header's length, or 0 when the packet is not whole. */
static size_t outer_header(const struct packet *packet) {
    if (packet->length < ESP_OUTER || packet->data[0] >> 4 != 4)
        return 0;
    size_t header = (size_t)(packet->data[0] & 15) * 4;
    size_t least = header + ESP_HEADER + ESP_IV + ESP_ALIGN + AEAD_TAG;
    return header >= ESP_OUTER && packet->length >= least ? header : 0;
}

enum drop esp_spi(const struct packet *packet, uint32_t *spi) {
    size_t header = outer_header(packet);
    if (header == 0)
        return IN_MALFORMED;
    *spi = get32(packet->data + header);
    return DELIVER;
}

/* Strips padding and trailer (RFC 4303 section 3.4.4.1) of `length` authenticated bytes. */
static enum drop open_trailer(const uint8_t *plain, size_t length, struct inner *inner) {
    size_t padding = plain[length - 2];
    uint8_t next_header = plain[length - 1];
    if (next_header == NEXT_NONE)
        return IN_DUMMY;
    if (next_header != NEXT_IPV4 && next_header != NEXT_IPV6)
        return IN_PROTOCOL;
    if (padding + ESP_TRAILER > length)
        return IN_MALFORMED;
    const uint8_t *pad = plain + length - ESP_TRAILER - padding;
    for (size_t i = 0; i < padding; i++)
        if (pad[i] != (uint8_t)(i + 1))
            return IN_MALFORMED;
    /* Bytes between the inner packet's end and the padding are TFC padding (section 2.7): the length is the header's. */
    if (!inner_parse(plain, length - ESP_TRAILER - padding, inner))
        return IN_MALFORMED;
    return (inner->family == AF_INET) == (next_header == NEXT_IPV4) ? DELIVER : IN_MALFORMED;
}

enum drop esp_decapsulate(struct sa *sa, struct packet *packet, struct inner *inner) {
    const struct iphdr *outer = (const struct iphdr *)packet->data;
    size_t header = outer_header(packet);
    if (header == 0)
        return IN_MALFORMED;
    if (outer->saddr != sa->source.s_addr || outer->daddr != sa->destination.s_addr)
        return IN_ADDRESS;
    uint8_t traffic_class = outer->tos;

    uint8_t *esp = packet->data + header, *iv = esp + ESP_HEADER, *sealed = iv + ESP_IV;
    size_t length = packet->length - header - ESP_HEADER - ESP_IV - AEAD_TAG;
    if (length % ESP_ALIGN != 0)
        return IN_MALFORMED;
    uint64_t sequence;
    if (!replay_infer(&sa->replay, get32(esp + 4), &sequence) || !replay_fresh(&sa->replay, sequence)) {
        sa->usage.replays++;
        return IN_REPLAY;
    }
    uint8_t nonce[AEAD_NONCE], aad[AAD];
    make_nonce(nonce, sa->salt, iv);
    make_aad(aad, sa->spi, sequence);
    if (aead_open(sa->aead, nonce, aad, sizeof aad, sealed, length, sealed + length) != 0) {
        sa->usage.integrity_failures++;
        return IN_ICV;
    }
    /* From here on the packet is the peer's. */
    replay_mark(&sa->replay, sequence);
    sa->usage.sequence = sa->replay.top;
    if (!sa_may_carry(sa))
        return IN_LIFETIME;
    enum drop verdict = open_trailer(sealed, length, inner);
    if (verdict != DELIVER)
        return verdict;
    inner_mark_congestion(sealed, inner, traffic_class);
    packet->data = sealed;
    packet->length = inner->length;
    return DELIVER;
}
