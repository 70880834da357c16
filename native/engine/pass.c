/* The threads' code without threads and devices, for tests and fuzzers. */
#include "engine.h"

#include "receive.h"
#include "transmit.h"

#include <stdlib.h>
#include <string.h>

enum { NOW = 1 }; /* seconds: nothing here waits */

static long pass_out(struct engine *engine, const uint8_t *input, size_t length, uint8_t *output, size_t capacity) {
    struct side *side = engine_side(engine, SA_OUT);
    /* As tight as it can be, so that a sanitizer sees every byte beyond. */
    size_t room = OUTER_HEADER + length + ESP_OVERHEAD;
    uint8_t *plain = malloc(length + ESP_LENT), *buffer = malloc(room);
    long result = -OUT_TOO_BIG;
    if (plain != NULL && buffer != NULL) {
        struct packet wire = {.buffer = buffer, .capacity = room};
        struct outer outer;
        memcpy(plain, input, length);
        gate_enter(&side->gate);
        enum drop verdict = outbound_packet(side, plain, length, &wire, &outer, NOW);
        gate_leave(&side->gate);
        result = -(long)verdict;
        if (verdict == DELIVER)
            outer_put(&wire, &outer);
        if (verdict == DELIVER && wire.length <= capacity) {
            memcpy(output, wire.data, wire.length);
            result = (long)wire.length;
        }
    }
    free(plain);
    free(buffer);
    return result;
}

static long pass_in(struct engine *engine, const uint8_t *input, size_t length, uint8_t *output, size_t capacity) {
    struct side *side = engine_side(engine, SA_IN);
    uint8_t *buffer = malloc(length + 1);
    if (buffer == NULL)
        return -IN_MALFORMED;
    struct packet packet = {buffer, length, buffer, length};
    struct outer outer;
    struct inner inner;
    memcpy(buffer, input, length);
    enum drop verdict = outer_take(&packet, &outer);
    gate_enter(&side->gate);
    if (verdict == DELIVER)
        verdict = inbound_packet(side, &packet, &outer, &inner, NOW);
    else
        side->drops[verdict]++;
    gate_leave(&side->gate);
    long result = -(long)verdict;
    if (verdict == DELIVER && packet.length <= capacity) {
        memcpy(output, packet.data, packet.length);
        result = (long)packet.length;
    }
    free(buffer);
    return result;
}

long phx_pass(struct engine *engine, int direction, const uint8_t *input, size_t length, uint8_t *output,
              size_t capacity) {
    return direction == SA_OUT ? pass_out(engine, input, length, output, capacity)
                               : pass_in(engine, input, length, output, capacity);
}

/* Packets one behind the other, each after its length. */
struct records {
    uint8_t *at, *end;
    bool overflow;
};

static void put_record(struct records *records, const struct iovec *parts, int count) {
    uint32_t length = 0;
    for (int i = 0; i < count; i++)
        length += (uint32_t)parts[i].iov_len;
    if (records->overflow || (size_t)(records->end - records->at) < sizeof length + length) {
        records->overflow = true;
        return;
    }
    memcpy(records->at, &length, sizeof length);
    records->at += sizeof length;
    for (int i = 0; i < count; i++) {
        memcpy(records->at, parts[i].iov_base, parts[i].iov_len);
        records->at += parts[i].iov_len;
    }
}

/* A copy of its own of the next record, as large as it is and `behind` bytes more; NULL at the end. */
static uint8_t *take_record(struct records *records, size_t behind, size_t *length) {
    uint32_t size;
    if ((size_t)(records->end - records->at) < sizeof size)
        return NULL;
    memcpy(&size, records->at, sizeof size);
    if (size > (size_t)(records->end - records->at) - sizeof size)
        return NULL;
    uint8_t *copy = malloc(size + behind + 1);
    if (copy == NULL)
        return NULL;
    memcpy(copy, records->at + sizeof size, size);
    records->at += sizeof size + size;
    *length = size;
    return copy;
}

static void record_wire(void *context, struct sending *sendings, int count) {
    for (int i = 0; i < count; i++) {
        struct packet *packet = sendings[i].packet;
        outer_put(packet, &sendings[i].outer);
        put_record(context, &(struct iovec){packet->data, packet->length}, 1);
        sendings[i].error = 0;
    }
}

static int record_bundle(void *context, const struct iovec *parts, int count) {
    put_record(context, parts, count);
    return 0;
}

static bool many_out(struct engine *engine, struct records *input, struct records *output) {
    struct transmitter *transmitter = malloc(sizeof *transmitter);
    if (transmitter == NULL || !transmit_init(transmitter, engine_side(engine, SA_OUT))) {
        free(transmitter);
        return false;
    }
    transmitter->send = record_wire;
    transmitter->context = output;
    uint8_t *record;
    size_t length;
    while ((record = take_record(input, ESP_LENT, &length)) != NULL) {
        struct virtio_net_hdr offload;
        bool whole = length >= sizeof offload;
        if (whole) {
            memcpy(&offload, record, sizeof offload);
            transmit(transmitter, &offload, record + sizeof offload, length - sizeof offload, NOW);
        }
        free(record);
        if (!whole)
            break;
    }
    transmit_flush(transmitter);
    transmit_release(transmitter);
    free(transmitter);
    return true;
}

static bool many_in(struct engine *engine, struct records *input, struct records *output) {
    struct receiver *receiver = calloc(1, sizeof *receiver);
    struct arrival *arrivals = calloc(RECEIVE_BATCH, sizeof *arrivals);
    uint8_t *memory[RECEIVE_BATCH];
    if (receiver != NULL && arrivals != NULL) {
        *receiver = (struct receiver){.side = engine_side(engine, SA_IN), .deliver = record_bundle, .context = output};
        receiver->coalescer.udp = true;
        int taken, count;
        do {
            size_t length;
            for (taken = 0, count = 0; taken < RECEIVE_BATCH; taken++) {
                if ((memory[taken] = take_record(input, 0, &length)) == NULL)
                    break;
                arrivals[count].packet = (struct packet){memory[taken], length, memory[taken], length};
                enum drop verdict = outer_take(&arrivals[count].packet, &arrivals[count].outer);
                if (verdict == DELIVER)
                    count++;
                else
                    side_count_drop(engine_side(engine, SA_IN), verdict);
            }
            receive(receiver, arrivals, count, NOW);
            receive_flush(receiver);
            for (int i = 0; i < taken; i++)
                free(memory[i]);
        } while (taken == RECEIVE_BATCH);
    }
    bool done = receiver != NULL && arrivals != NULL;
    free(receiver);
    free(arrivals);
    return done;
}

long phx_pass_many(struct engine *engine, int direction, const uint8_t *input, size_t length, uint8_t *output,
                   size_t capacity) {
    struct records in = {(uint8_t *)(uintptr_t)input, (uint8_t *)(uintptr_t)input + length, false};
    struct records out = {output, output + capacity, false};
    bool done = direction == SA_OUT ? many_out(engine, &in, &out) : many_in(engine, &in, &out);
    return done && !out.overflow && in.at == in.end ? out.at - output : -1;
}

int phx_gcm(int seal, const uint8_t *key, size_t key_length, const uint8_t nonce[12], const uint8_t *aad,
            size_t aad_length, uint8_t *data, size_t length, uint8_t tag[16]) {
    struct aead *aead = seal ? aead_new_seal(key, key_length) : aead_new_open(key, key_length);
    if (aead == NULL)
        return -1;
    int result = seal ? aead_seal(aead, nonce, aad, aad_length, data, data, length, tag)
                      : aead_open(aead, nonce, aad, aad_length, data, length, tag);
    aead_free(aead);
    return result;
}

struct replay *phx_replay_new(uint32_t window, uint64_t top) {
    struct replay *replay = window > 0 && window <= REPLAY_WINDOW_MAX ? malloc(sizeof *replay) : NULL;
    if (replay != NULL)
        replay_init(replay, window, top);
    return replay;
}

void phx_replay_free(struct replay *replay) { free(replay); }

int phx_replay_accept(struct replay *replay, uint64_t sequence) {
    uint64_t inferred;
    if (!replay_infer(replay, (uint32_t)sequence, &inferred) || inferred != sequence || !replay_fresh(replay, inferred))
        return 0;
    replay_mark(replay, inferred);
    return 1;
}
