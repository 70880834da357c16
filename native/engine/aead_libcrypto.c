/* OpenSSL's libcrypto. The key is expanded once; per packet only the nonce is set. */
#include "aead_library.h"

#include <limits.h>
#include <openssl/evp.h>
#include <stdlib.h>

struct evp {
    struct aead aead;
    EVP_CIPHER_CTX *context;
};

static bool load(void) { return true; /* linked */ }

static void destroy(struct aead *aead) {
    EVP_CIPHER_CTX_free(((struct evp *)aead)->context); /* cleanses the key schedule */
    free(aead);
}

static struct aead *create(const uint8_t *key, size_t key_length, bool seal) {
    const EVP_CIPHER *cipher = key_length == 32 ? EVP_aes_256_gcm() : EVP_aes_128_gcm();
    struct evp *evp = malloc(sizeof *evp);
    if (evp == NULL)
        return NULL;
    evp->context = EVP_CIPHER_CTX_new();
    if (evp->context == NULL || EVP_CipherInit_ex(evp->context, cipher, NULL, key, NULL, seal) != 1) {
        destroy(&evp->aead);
        return NULL;
    }
    return &evp->aead;
}

static int seal(struct aead *aead, const uint8_t nonce[AEAD_NONCE], const uint8_t *aad, size_t aad_length,
                const uint8_t *plain, uint8_t *sealed, size_t length, uint8_t tag[AEAD_TAG]) {
    EVP_CIPHER_CTX *context = ((struct evp *)aead)->context;
    int written;
    if (length > INT_MAX || aad_length > INT_MAX)
        return -1;
    if (EVP_EncryptInit_ex(context, NULL, NULL, NULL, nonce) != 1 ||
        EVP_EncryptUpdate(context, NULL, &written, aad, (int)aad_length) != 1 ||
        EVP_EncryptUpdate(context, sealed, &written, plain, (int)length) != 1 ||
        EVP_EncryptFinal_ex(context, sealed + written, &written) != 1 ||
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG, tag) != 1)
        return -1;
    return 0;
}

static int open(struct aead *aead, const uint8_t nonce[AEAD_NONCE], const uint8_t *aad, size_t aad_length, uint8_t *data,
                size_t length, const uint8_t tag[AEAD_TAG]) {
    EVP_CIPHER_CTX *context = ((struct evp *)aead)->context;
    int written;
    if (length > INT_MAX || aad_length > INT_MAX)
        return -1;
    if (EVP_DecryptInit_ex(context, NULL, NULL, NULL, nonce) != 1 ||
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, AEAD_TAG, (void *)tag) != 1 ||
        EVP_DecryptUpdate(context, NULL, &written, aad, (int)aad_length) != 1 ||
        EVP_DecryptUpdate(context, data, &written, data, (int)length) != 1 ||
        EVP_DecryptFinal_ex(context, data + written, &written) != 1)
        return -1;
    return 0;
}

const struct aead_library aead_libcrypto = {"libcrypto", load, create, destroy, seal, open};
