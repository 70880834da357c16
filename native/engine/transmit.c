#include "transmit.h"

#include <errno.h>
#include <sys/mman.h>

/* Room for what is ready when it has to be sent (FLUSH_BYTES), for what one read of the TUN makes of 64 KiB, and for the longest
 * packet, so that a train is not cut in two. */
enum { MEMORY = 3 * NET_SLOT, CACHE_LINE = 64 };

bool transmit_init(struct transmitter *transmitter, struct side *side) {
    uint8_t *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return false;
    for (int i = 0; i < NET_BATCH; i++)
        transmitter->sendings[i].packet = &transmitter->packets[i];
    transmitter->side = side;
    transmitter->memory = memory;
    transmitter->ready = 0;
    transmitter->used = 0;
    return true;
}

void transmit_release(struct transmitter *transmitter) { munmap(transmitter->memory, MEMORY); }

static bool has_room(const struct transmitter *transmitter) {
    return transmitter->ready < NET_BATCH && transmitter->used + NET_SLOT <= MEMORY;
}

/* Seals a packet behind the others that are ready: what is used is small, so that it stays in the cache. */
static void seal(struct transmitter *transmitter, uint8_t *data, size_t length, uint64_t now) {
    struct sending *sending = &transmitter->sendings[transmitter->ready];
    struct packet *packet = sending->packet;
    *packet = (struct packet){.buffer = transmitter->memory + transmitter->used, .capacity = NET_SLOT};
    if (outbound_packet(transmitter->side, data, length, packet, &sending->outer, now) != DELIVER)
        return;
    size_t end = (size_t)(packet->data - transmitter->memory) + packet->length;
    transmitter->used = (end + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    transmitter->ready++;
}

void transmit_flush(struct transmitter *transmitter) {
    int count = transmitter->ready;
    transmitter->ready = 0;
    transmitter->used = 0;
    if (count == 0)
        return;
    transmitter->send(transmitter->context, transmitter->sendings, count);
    for (int i = 0; i < count; i++)
        if (transmitter->sendings[i].error != 0)
            side_count_drop(transmitter->side, transmitter->sendings[i].error == EMSGSIZE ? OUT_TOO_BIG : OUT_SEND);
}

bool transmit(struct transmitter *transmitter, const struct virtio_net_hdr *offload, uint8_t *data, size_t length,
              uint64_t now) {
    struct side *side = transmitter->side;
    struct train train;
    bool more = train_open(&train, offload, data, length), notable = false;
    if (!more)
        side_count_drop(side, OUT_MALFORMED);
    while (more) {
        if (!has_room(transmitter))
            transmit_flush(transmitter);
        uint8_t *packet;
        size_t size;
        gate_enter(&side->gate);
        while (has_room(transmitter) && (more = train_next(&train, &packet, &size)))
            seal(transmitter, packet, size, now);
        notable |= side_take_notable(side);
        gate_leave(&side->gate);
    }
    return notable;
}
