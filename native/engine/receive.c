#include "receive.h"

void receive_flush(struct receiver *receiver) {
    struct coalescer *coalescer = &receiver->coalescer;
    coalesce_finish(coalescer);
    for (int i = 0; i < coalescer->count; i++) {
        struct bundle *bundle = &coalescer->bundles[i];
        if (receiver->deliver(receiver->context, bundle->parts, 1 + bundle->packets) != 0)
            for (int k = 0; k < bundle->packets; k++)
                side_count_drop(receiver->side, IN_TUN);
    }
    coalescer->count = 0;
}

bool receive(struct receiver *receiver, struct arrival *arrivals, int count, uint64_t now) {
    struct side *side = receiver->side;
    int kept = 0;
    gate_enter(&side->gate);
    for (int i = 0; i < count; i++)
        if (inbound_packet(side, &arrivals[i].packet, &arrivals[i].outer, &arrivals[i].inner, now) == DELIVER)
            arrivals[kept++] = arrivals[i];
    bool notable = side_take_notable(side);
    gate_leave(&side->gate);
    for (int i = 0; i < kept; i++) {
        if (coalesce_add(&receiver->coalescer, arrivals[i].packet.data, &arrivals[i].inner))
            continue;
        receive_flush(receiver);
        coalesce_add(&receiver->coalescer, arrivals[i].packet.data, &arrivals[i].inner);
    }
    return notable;
}
