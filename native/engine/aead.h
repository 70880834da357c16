/* AES-GCM with a 12-byte nonce and a 16-byte tag (NIST SP 800-38D): all the cryptography there is, behind these functions. */
#ifndef PHX_AEAD_H
#define PHX_AEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { AEAD_NONCE = 12, AEAD_TAG = 16 };

/* Chooses who computes from now on: the library of that name ("ipsec-mb" or "libcrypto"), or with NULL the fastest that is
 * installed and passes its self-test, which compares it with published vectors and with libcrypto. Before there is a key.
 * The name of the chosen one, or NULL (and no change) if the one asked for is not there or fails. */
const char *aead_choose(const char *name);
bool aead_is_chosen(void);

/* A key made ready for one direction. Not for two threads at once. */
struct aead;

/* `key_length` is 16 or 32 bytes. NULL if it is not, or if the library fails. */
struct aead *aead_new_seal(const uint8_t *key, size_t key_length);
struct aead *aead_new_open(const uint8_t *key, size_t key_length);

/* Wipes the expanded key. */
void aead_free(struct aead *aead);

/* Encrypts `length` bytes from `plain` to `sealed` and writes the tag. The two are the same or do not overlap. 0, or -1 when
 * the library fails; then what was written must not be used. */
int aead_seal(struct aead *aead, const uint8_t nonce[AEAD_NONCE], const uint8_t *aad, size_t aad_length,
              const uint8_t *plain, uint8_t *sealed, size_t length, uint8_t tag[AEAD_TAG]);

/* Decrypts `data` in place. 0, or -1 when the tag is wrong; then `data` must not be used. */
int aead_open(struct aead *aead, const uint8_t nonce[AEAD_NONCE], const uint8_t *aad, size_t aad_length, uint8_t *data,
              size_t length, const uint8_t tag[AEAD_TAG]);

#endif
