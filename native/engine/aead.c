/* The libcrypto implementation of aead.h. The key is expanded once; per packet only the nonce is set. */
#include "aead.h"

#include <limits.h>
#include <openssl/evp.h>
#include <stdlib.h>

struct aead {
    EVP_CIPHER_CTX *context;
};

static struct aead *aead_new(const uint8_t *key, size_t key_length, int encrypt) {
    const EVP_CIPHER *cipher = key_length == 32 ? EVP_aes_256_gcm() : key_length == 16 ? EVP_aes_128_gcm() : NULL;
    struct aead *aead = cipher != NULL ? malloc(sizeof *aead) : NULL;
    if (aead == NULL)
        return NULL;
    aead->context = EVP_CIPHER_CTX_new();
    if (aead->context == NULL || EVP_CipherInit_ex(aead->context, cipher, NULL, key, NULL, encrypt) != 1) {
        aead_free(aead);
        return NULL;
    }
    return aead;
}

struct aead *aead_new_seal(const uint8_t *key, size_t key_length) { return aead_new(key, key_length, 1); }

struct aead *aead_new_open(const uint8_t *key, size_t key_length) { return aead_new(key, key_length, 0); }

void aead_free(struct aead *aead) {
    if (aead == NULL)
        return;
    EVP_CIPHER_CTX_free(aead->context); /* cleanses the key schedule */
    free(aead);
}

int aead_seal(struct aead *aead, const uint8_t nonce[AEAD_NONCE], const uint8_t *aad, size_t aad_length, uint8_t *data,
              size_t length, uint8_t tag[AEAD_TAG]) {
    EVP_CIPHER_CTX *context = aead->context;
    int written;
    if (length > INT_MAX || aad_length > INT_MAX)
        return -1;
    if (EVP_EncryptInit_ex(context, NULL, NULL, NULL, nonce) != 1 ||
        EVP_EncryptUpdate(context, NULL, &written, aad, (int)aad_length) != 1 ||
        EVP_EncryptUpdate(context, data, &written, data, (int)length) != 1 ||
        EVP_EncryptFinal_ex(context, data + written, &written) != 1 ||
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG, tag) != 1)
        return -1;
    return 0;
}

int aead_open(struct aead *aead, const uint8_t nonce[AEAD_NONCE], const uint8_t *aad, size_t aad_length, uint8_t *data,
              size_t length, const uint8_t tag[AEAD_TAG]) {
    EVP_CIPHER_CTX *context = aead->context;
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
