/* ESP in tunnel mode (RFC 4303) with AES-GCM (RFC 4106) and extended sequence numbers. No tables, no sockets, no outer header. */
#ifndef PHX_ESP_H
#define PHX_ESP_H

#include "drops.h"
#include "inner.h"
#include "outer.h"
#include "packet.h"
#include "sa.h"

#include <stddef.h>
#include <stdint.h>

enum {
    ESP_HEADER = 8, /* SPI and the low half of the sequence number */
    ESP_IV = 8,
    ESP_TRAILER = 2, /* pad length and next header */
    ESP_ALIGN = 4,
    ESP_LENT = ESP_ALIGN - 1 + ESP_TRAILER,
    ESP_OVERHEAD = ESP_HEADER + ESP_IV + ESP_LENT + AEAD_TAG,
};

/* Seals the inner packet `plain` into the buffer of `wire`, behind room for an outer header, and says where it goes. Counts
 * in `sa->usage`. The ESP_LENT bytes behind the inner packet are written to and given back as they were. */
enum drop esp_encapsulate(struct sa *sa, uint8_t *plain, const struct inner *inner, struct packet *wire,
                          struct outer *outer);

/* The SPI of an ESP packet. */
enum drop esp_spi(const struct packet *packet, uint32_t *spi);

/* Turns an ESP packet, which esp_spi accepted, into its inner one, in place, and says what that is. Authenticity, freshness
 * and form are checked here; whether policy allows the inner packet is for the caller. */
enum drop esp_decapsulate(struct sa *sa, struct packet *packet, const struct outer *outer, struct inner *inner);

#endif
