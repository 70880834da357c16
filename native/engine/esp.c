#include "esp.h"

#include "transport.h"

#include <string.h>

enum { NEXT_IPV4 = 4, NEXT_IPV6 = 41, NEXT_NONE = 59, AAD = 12, ECN_MASK = 3 };

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

enum drop esp_encapsulate(struct sa *sa, uint8_t *plain, const struct inner *inner, struct packet *wire,
                          struct outer *outer) {
    size_t padding = (0 - (inner->length + ESP_TRAILER)) % ESP_ALIGN;
    size_t length = inner->length + padding + ESP_TRAILER;
    wire->data = wire->buffer + OUTER_HEADER;
    wire->length = ESP_HEADER + ESP_IV + length + AEAD_TAG;
    if (OUTER_HEADER + wire->length > OUTER_MAX || OUTER_HEADER + wire->length > wire->capacity)
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

    uint8_t *trailer = plain + inner->length, kept[ESP_LENT];
    memcpy(kept, trailer, sizeof kept);
    for (size_t i = 0; i < padding; i++)
        trailer[i] = (uint8_t)(i + 1); /* RFC 4303 section 2.4: 1, 2, 3 … */
    trailer[padding] = (uint8_t)padding;
    trailer[padding + 1] = inner->family == AF_INET ? NEXT_IPV4 : NEXT_IPV6;

    uint8_t *iv = wire->data + ESP_HEADER, *sealed = iv + ESP_IV;
    put32(wire->data, sa->spi);
    put32(wire->data + 4, (uint32_t)sequence);
    put32(iv, (uint32_t)(sequence >> 32));
    put32(iv + 4, (uint32_t)sequence);

    uint8_t nonce[AEAD_NONCE], aad[AAD];
    make_nonce(nonce, sa->salt, iv);
    make_aad(aad, sa->spi, sequence);
    int failed = aead_seal(sa->aead, nonce, aad, sizeof aad, plain, sealed, length, sealed + length);
    memcpy(trailer, kept, sizeof kept);
    if (failed)
        return OUT_CIPHER;
    outer->source = sa->source;
    outer->destination = sa->destination;
    outer->traffic_class = sa->copy_dscp ? inner->traffic_class : inner->traffic_class & ECN_MASK; /* RFC 6040: ECN always */
    return DELIVER;
}

enum drop esp_spi(const struct packet *packet, uint32_t *spi) {
    if (packet->length < ESP_HEADER + ESP_IV + ESP_ALIGN + AEAD_TAG)
        return IN_MALFORMED;
    *spi = get32(packet->data);
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

enum drop esp_decapsulate(struct sa *sa, struct packet *packet, const struct outer *outer, struct inner *inner) {
    if (outer->source.s_addr != sa->source.s_addr || outer->destination.s_addr != sa->destination.s_addr)
        return IN_ADDRESS;
    uint8_t *esp = packet->data, *iv = esp + ESP_HEADER, *sealed = iv + ESP_IV;
    size_t length = packet->length - ESP_HEADER - ESP_IV - AEAD_TAG;
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
    inner_mark_congestion(sealed, inner, outer->traffic_class);
    packet->data = sealed;
    packet->length = inner->length;
    return DELIVER;
}
