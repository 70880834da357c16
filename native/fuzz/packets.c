/* Fuzzes everything that a packet meets, from the network and from the TUN. libFuzzer calls it:
 *   clang -g -O1 -std=c11 -D_GNU_SOURCE -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -Inative/engine \
 *       native/fuzz/packets.c native/engine/[a-z]*.c -lcrypto -pthread -o packets && ./packets native/fuzz/corpus
 * and so does driver.c where there is only gcc.
 *
 * The input's first byte says what follows, as records of two bytes of length and the data:
 *   0  outer packets from the network, as they are
 *   1  what an authentic peer may have sealed: inner packet, padding, trailer; sealed here, then opened
 *   2  offload header and packet from the TUN: sealed, and then every packet must be accepted by the other end */
#include "aead.h"
#include "engine.h"
#include "esp.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

enum { SPI = 0x01020304, INPUT_MAX = 1 << 17, OUTPUT_MAX = 1 << 22, SEALED_MAX = 65535 - OUTER_HEADER - ESP_OVERHEAD };

static struct engine *engine;
static struct aead *sealer;
static const uint8_t KEY[36] = {1, 2, 3};
static uint8_t input[INPUT_MAX], output[OUTPUT_MAX], again[OUTPUT_MAX];
static uint64_t sequence;
static struct in_addr here, there;

static void require(int holds) {
    if (!holds)
        abort();
}

static void install(int direction, uint64_t last) {
    struct sa_config config = {.spi = SPI, .reqid = 1, .source = here, .destination = there, .window = 4096,
                               .sequence = last, .key_length = sizeof KEY};
    memset(&config.limits, 0xff, sizeof config.limits);
    memcpy(config.key, KEY, sizeof KEY);
    struct sa_usage usage;
    phx_sa_remove(engine, direction, SPI, there.s_addr, &usage);
    require(phx_sa_add(engine, direction, &config) == 0);
}

static void set_up(void) {
    engine = phx_new();
    require(engine != NULL);
    here.s_addr = inet_addr("10.0.0.1");
    there.s_addr = inet_addr("10.0.0.2");
    sealer = aead_new_seal(KEY, 32);
    require(sealer != NULL);
    /* Everything is allowed, so that everything is looked at. */
    for (int direction = 0; direction < 2; direction++) {
        struct policy policies[2] = {{.family = AF_INET}, {.family = AF_INET6}};
        for (int i = 0; i < 2; i++) {
            policies[i].spi = SPI;
            policies[i].reqid = 1;
            policies[i].tunnel_source = here;
            policies[i].tunnel_destination = there;
        }
        require(phx_policies(engine, direction, policies, 2) == 0);
    }
}

static void put32be(uint8_t *at, uint32_t value) {
    value = htonl(value);
    memcpy(at, &value, sizeof value);
}

/* An authentic outer packet around `length` bytes that need not be well formed. */
static size_t seal(uint8_t *at, const uint8_t *data, size_t length) {
    size_t padded = (length + ESP_ALIGN - 1) / ESP_ALIGN * ESP_ALIGN, total = OUTER_HEADER + 16 + padded + AEAD_TAG;
    uint8_t nonce[AEAD_NONCE], aad[12];
    sequence++;
    memset(at, 0, total);
    at[0] = 0x45;
    memcpy(at + 12, &here, 4);
    memcpy(at + 16, &there, 4);
    put32be(at + 20, SPI);
    put32be(at + 24, (uint32_t)sequence);
    put32be(at + 28, (uint32_t)(sequence >> 32));
    put32be(at + 32, (uint32_t)sequence);
    memcpy(at + 36 + padded - length, data, length); /* the trailer is at the end */
    memcpy(nonce, KEY + 32, 4);
    memcpy(nonce + 4, at + 28, 8);
    put32be(aad, SPI);
    put32be(aad + 4, (uint32_t)(sequence >> 32));
    put32be(aad + 8, (uint32_t)sequence);
    require(aead_seal(sealer, nonce, aad, sizeof aad, at + 36, at + 36, padded, at + 36 + padded) == 0);
    return total;
}

/* The records in the form of phx_pass_many. */
static size_t arrange(const uint8_t *data, size_t size, int sealed) {
    size_t length = 0;
    while (size >= 2) {
        size_t record = (size_t)data[0] << 8 | data[1];
        data += 2;
        size -= 2;
        if (record > size)
            record = size;
        if (length + 4 + record + 128 > sizeof input || record > SEALED_MAX)
            break;
        uint32_t made = (uint32_t)record;
        if (sealed)
            made = (uint32_t)seal(input + length + 4, data, record);
        else
            memcpy(input + length + 4, data, record);
        memcpy(input + length, &made, sizeof made);
        length += 4 + made;
        data += record;
        size -= record;
    }
    return length;
}

static uint64_t dropped(int from, int to) {
    uint64_t counts[DROP_CAUSES], sum = 0;
    phx_drops(engine, counts);
    for (int cause = from; cause < to; cause++)
        sum += counts[cause];
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (engine == NULL)
        set_up();
    if (size == 0)
        return 0;
    install(SA_IN, sequence);
    size_t length = arrange(data + 1, size - 1, data[0] % 3 == 1);
    if (data[0] % 3 != 2) {
        phx_pass_many(engine, SA_IN, input, length, output, sizeof output);
        return 0;
    }
    install(SA_OUT, sequence);
    long wires = phx_pass_many(engine, SA_OUT, input, length, output, sizeof output);
    struct sa_usage sent, received;
    require(phx_sa_usage(engine, SA_OUT, SPI, there.s_addr, &sent) == 0);
    sequence = sent.sequence;
    if (wires < 0)
        return 0;
    uint64_t before = dropped(IN_MALFORMED, DROP_CAUSES);
    phx_pass_many(engine, SA_IN, output, (size_t)wires, again, sizeof again);
    require(phx_sa_usage(engine, SA_IN, SPI, there.s_addr, &received) == 0);
    require(dropped(IN_MALFORMED, DROP_CAUSES) == before);
    require(received.packets == sent.packets && received.bytes == sent.bytes);
    return 0;
}
