#include "transmit.h"

#include <errno.h>
#include <sys/mman.h>

bool transmit_init(struct transmitter *transmitter, struct side *side) {
    uint8_t *memory =
        mmap(NULL, (size_t)NET_BATCH * NET_SLOT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return false;
    for (int i = 0; i < NET_BATCH; i++) {
        transmitter->slots[i] = (struct packet){.buffer = memory + (size_t)i * NET_SLOT, .capacity = NET_SLOT};
        transmitter->sendings[i].packet = &transmitter->slots[i];
    }
    transmitter->side = side;
    transmitter->ready = 0;
    transmitter->bytes = 0;
    return true;
}

void transmit_release(struct transmitter *transmitter) {
    munmap(transmitter->slots[0].buffer, (size_t)NET_BATCH * NET_SLOT);
}

void transmit_flush(struct transmitter *transmitter) {
    int count = transmitter->ready;
    transmitter->ready = 0;
    transmitter->bytes = 0;
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
        if (transmitter->ready == NET_BATCH)
            transmit_flush(transmitter);
        uint8_t *packet;
        size_t size;
        gate_enter(&side->gate);
        while (transmitter->ready < NET_BATCH && (more = train_next(&train, &packet, &size))) {
            struct sending *sending = &transmitter->sendings[transmitter->ready];
            if (outbound_packet(side, packet, size, sending->packet, &sending->outer, now) == DELIVER) {
                transmitter->ready++;
                transmitter->bytes += sending->packet->length;
            }
        }
        notable |= side_take_notable(side);
        gate_leave(&side->gate);
    }
    return notable;
}
