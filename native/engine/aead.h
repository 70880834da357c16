/* AES-GCM with a 12-byte nonce and a 16-byte tag (NIST SP 800-38D): all the cryptography there is, behind five functions. */
#ifndef PHX_AEAD_H
#define PHX_AEAD_H

#include <stddef.h>
#include <stdint.h>

enum { AEAD_NONCE = 12, AEAD_TAG = 16 };

/* A key made ready for one direction. Not for two threads at once. */
struct aead;

/* `key_length` is 16 or 32 bytes. NULL if it is not, or if the library fails. */
struct aead *aead_new_seal(const uint8_t *key, size_t key_length);
struct aead *aead_new_open(const uint8_t *key, size_t key_length);

/* Wipes the expanded key. */
void aead_free(struct aead *aead);

/* Encrypts `data` in place and writes the tag. 0, or -1 when the library fails; then `data` must not be used. */
int aead_seal(struct aead *aead, const uint8_t nonce[AEAD_NONCE], const uint8_t *aad, size_t aad_length, uint8_t *data,
              size_t length, uint8_t tag[AEAD_TAG]);

/* Decrypts `data` in place. 0, or -1 when the tag is wrong; then `data` must not be used. */
int aead_open(struct aead *aead, const uint8_t nonce[AEAD_NONCE], const uint8_t *aad, size_t aad_length, uint8_t *data,
              size_t length, const uint8_t tag[AEAD_TAG]);

#endif
