/* tls_proxy client LISTEN-PORT ADDRESS PORT: plain TCP in, TLS 1.3 out.
 * tls_proxy server LISTEN-PORT ADDRESS PORT CERTIFICATE KEY: TLS 1.3 in, plain TCP out.
 * What a TLS stream between two hosts can reach with OpenSSL: large reads, whole records, one thread per connection. The
 * client does not ask who the server is: this measures speed. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER = 256 * 1024 };

static SSL_CTX *context;
static struct sockaddr_in target;
static int is_server;

static void die(const char *what) {
    perror(what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static int write_all(int fd, const char *data, ssize_t length) {
    while (length > 0) {
        ssize_t written = write(fd, data, (size_t)length);
        if (written <= 0)
            return -1;
        data += written;
        length -= written;
    }
    return 0;
}

/* Sends all of it through a socket that does not block. */
static int seal_all(SSL *tls, const char *data, int length) {
    struct pollfd end = {.fd = SSL_get_fd(tls), .events = POLLOUT};
    for (;;) {
        int sent = SSL_write(tls, data, length);
        if (sent > 0)
            return 0;
        if (SSL_get_error(tls, sent) != SSL_ERROR_WANT_WRITE || poll(&end, 1, -1) < 0)
            return -1;
    }
}

/* Fills the buffer with what is there. Its length; -1 at the end of the stream. */
static int open_some(SSL *tls, char *buffer, int *more) {
    int filled = 0;
    while (filled < BUFFER) {
        int got = SSL_read(tls, buffer + filled, BUFFER - filled);
        if (got > 0) {
            filled += got;
            continue;
        }
        *more = 0;
        if (SSL_get_error(tls, got) == SSL_ERROR_WANT_READ || filled > 0)
            return filled;
        return -1;
    }
    *more = 1; /* records that were read ahead do not wake poll */
    return filled;
}

/* Both directions of a connection, until either end closes. */
static void shovel(int plain, SSL *tls, char *buffer) {
    struct pollfd ends[2] = {{.fd = plain, .events = POLLIN}, {.fd = SSL_get_fd(tls), .events = POLLIN}};
    int more = 1; /* the handshake may have read ahead, too */
    fcntl(SSL_get_fd(tls), F_SETFL, O_NONBLOCK);
    for (;;) {
        if (poll(ends, 2, more ? 0 : -1) < 0)
            return;
        if (ends[0].revents) {
            ssize_t got = read(plain, buffer, BUFFER);
            if (got <= 0 || seal_all(tls, buffer, (int)got) != 0)
                return;
        }
        if (ends[1].revents || more) {
            int got = open_some(tls, buffer, &more);
            if (got < 0 || write_all(plain, buffer, got) != 0)
                return;
        }
    }
}

static void *serve(void *argument) {
    int accepted = (int)(intptr_t)argument, other = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (other < 0 || connect(other, (struct sockaddr *)&target, sizeof target) != 0) {
        close(accepted);
        close(other);
        return NULL;
    }
    setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(other, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    SSL *tls = SSL_new(context);
    char *buffer = malloc(BUFFER);
    SSL_set_fd(tls, is_server ? accepted : other);
    if ((is_server ? SSL_accept(tls) : SSL_connect(tls)) == 1)
        shovel(is_server ? other : accepted, tls, buffer);
    SSL_shutdown(tls);
    SSL_free(tls);
    free(buffer);
    close(accepted);
    close(other);
    return NULL;
}

int main(int count, char **words) {
    is_server = count == 7 && strcmp(words[1], "server") == 0;
    if (count != 5 && !is_server)
        return 2;
    signal(SIGPIPE, SIG_IGN);
    context = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, 128 * 1024);
    SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384");
    if (is_server && (SSL_CTX_use_certificate_file(context, words[5], SSL_FILETYPE_PEM) != 1 ||
                      SSL_CTX_use_PrivateKey_file(context, words[6], SSL_FILETYPE_PEM) != 1))
        die("certificate");
    target = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[4]))};
    if (inet_pton(AF_INET, words[3], &target.sin_addr) != 1)
        die("address");
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[2]))};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&own, sizeof own) != 0 || listen(listener, 16) != 0)
        die("listen");
    for (;;) {
        int accepted = accept(listener, NULL, NULL);
        pthread_t thread;
        if (accepted >= 0 && pthread_create(&thread, NULL, serve, (void *)(intptr_t)accepted) == 0)
            pthread_detach(thread);
    }
}
