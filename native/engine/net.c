#include "net.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

int net_receive(int fd, struct packet *batch) {
    struct mmsghdr messages[NET_BATCH];
    struct iovec parts[NET_BATCH];
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < NET_BATCH; i++) {
        batch[i].data = batch[i].buffer;
        parts[i] = (struct iovec){batch[i].buffer, batch[i].capacity};
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    int count;
    do
        count = recvmmsg(fd, messages, NET_BATCH, MSG_WAITFORONE, NULL);
    while (count < 0 && errno == EINTR);
    if (count < 0)
        return -errno;
    for (int i = 0; i < count; i++)
        batch[i].length = messages[i].msg_len;
    return count;
}

void net_send(int fd, struct sending *sendings, int count) {
    struct mmsghdr messages[NET_BATCH];
    struct sockaddr_in addresses[NET_BATCH];
    struct iovec parts[NET_BATCH];
    memset(messages, 0, sizeof messages);
    memset(addresses, 0, sizeof addresses);
    for (int i = 0; i < count; i++) {
        sendings[i].error = 0;
        addresses[i].sin_family = AF_INET;
        addresses[i].sin_addr = sendings[i].destination;
        parts[i] = (struct iovec){sendings[i].packet->data, sendings[i].packet->length};
        messages[i].msg_hdr.msg_name = &addresses[i];
        messages[i].msg_hdr.msg_namelen = sizeof addresses[i];
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    for (int sent = 0; sent < count;) {
        int now = sendmmsg(fd, messages + sent, (unsigned)(count - sent), 0);
        if (now > 0)
            sent += now;
        else if (errno != EINTR)
            sendings[sent++].error = errno; /* the first of the rest is the one that was refused */
    }
}
