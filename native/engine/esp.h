/* ESP in tunnel mode over IPv4 (RFC 4303) with AES-GCM (RFC 4106) and extended sequence numbers. No tables, no sockets. */
#ifndef PHX_ESP_H
#define PHX_ESP_H

#include "drops.h"
#include "inner.h"
#include "sa.h"

#include <stddef.h>
#include <stdint.h>

enum {
    ESP_OUTER = 20,  /* IPv4 without options */
    ESP_HEADER = 8,  /* SPI and the low half of the sequence number */
    ESP_IV = 8,
    ESP_TRAILER = 2, /* pad length and next header */
    ESP_ALIGN = 4,
    ESP_HEADROOM = ESP_OUTER + ESP_HEADER + ESP_IV,
    ESP_TAILROOM = ESP_ALIGN - 1 + ESP_TRAILER + AEAD_TAG,
};

/* A packet in its buffer. Encapsulation grows `data` into the room before and after it, decapsulation shrinks it. */
struct packet {
    uint8_t *buffer;
    size_t capacity;
    uint8_t *data;
    size_t length;
};

/* Turns an inner packet into a whole outer one. Counts in `sa->usage`. The header checksum is left to the kernel. */
enum drop esp_encapsulate(struct sa *sa, struct packet *packet, const struct inner *inner);

/* The SPI of an outer packet, which the raw socket delivers with its IP header. */
enum drop esp_spi(const struct packet *packet, uint32_t *spi);

/* Turns an outer packet, which esp_spi accepted, into its inner one, and says what that is. Authenticity, freshness and
 * form are checked here; whether policy allows the inner packet is for the caller. */
enum drop esp_decapsulate(struct sa *sa, struct packet *packet, struct inner *inner);

#endif
