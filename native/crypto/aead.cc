#include "crypto/aead.h"

#include <cstring>

#include "error.h"

namespace rdma_migrate::crypto {
namespace {

// openssl/evp.h
constexpr int kGetTag = 0x10;  // EVP_CTRL_AEAD_GET_TAG
constexpr int kSetTag = 0x11;  // EVP_CTRL_AEAD_SET_TAG
constexpr int kAsBefore = -1;

void check(bool good) {
  if (!good) throw Error("INTERNAL", "OpenSSL failed at AES-256-GCM");
}

}  // namespace

Aead::Aead(Use use, const AeadKey& key, const AeadIv& iv)
    : library_(libcrypto()), context_(library_.cipher_context_new()), iv_(iv) {
  if (!context_) throw Error("OUT_OF_MEMORY", "no memory for a cipher");
  check(library_.cipher_init(context_.get(), library_.aes_256_gcm(), nullptr, key.view().data(), nullptr,
                             static_cast<int>(use)) == 1);
}

void Aead::begin(uint64_t sequence, std::span<const uint8_t> additional) {
  AeadIv nonce = iv_;
  for (size_t at = 0; at < sizeof sequence; ++at)
    nonce.view()[nonce.view().size() - 1 - at] ^= static_cast<uint8_t>(sequence >> (8 * at));
  check(library_.cipher_init(context_.get(), nullptr, nullptr, nullptr, nonce.view().data(), kAsBefore) == 1);
  run(additional, nullptr);
}

void Aead::run(std::span<const uint8_t> in, uint8_t* out) {
  if (in.empty()) return;
  int size = 0;
  check(library_.cipher_update(context_.get(), out, &size, in.data(), static_cast<int>(in.size())) == 1 &&
        static_cast<size_t>(size) == in.size());
}

void Aead::seal(uint64_t sequence, std::span<const uint8_t> additional, std::span<uint8_t> data,
                std::span<uint8_t, kTagSize> tag) {
  begin(sequence, additional);
  run(data, data.data());
  int size = 0;
  check(library_.cipher_final(context_.get(), tag.data(), &size) == 1 && size == 0);
  check(library_.cipher_control(context_.get(), kGetTag, kTagSize, tag.data()) == 1);
}

bool Aead::open(uint64_t sequence, std::span<const uint8_t> additional, std::span<const uint8_t> ciphertext,
                std::span<const uint8_t, kTagSize> tag, uint8_t* out) {
  begin(sequence, additional);
  run(ciphertext, out);
  check(library_.cipher_control(context_.get(), kSetTag, kTagSize, const_cast<uint8_t*>(tag.data())) == 1);
  int size = 0;
  uint8_t none[kTagSize];
  if (library_.cipher_final(context_.get(), none, &size) == 1) return true;
  if (!ciphertext.empty()) std::memset(out, 0, ciphertext.size());
  return false;
}

}  // namespace rdma_migrate::crypto
